"""Reads what the files of a module say, and refuses what would be left out without a word."""

import os
import pathlib
from collections.abc import Collection
from typing import Any

from keras_bert_layers.checkpoints.json_file import read_json_object

_EMPTY: tuple[Any, ...] = (None, False, "", [], {})


def read_settings(file: pathlib.Path, known: Collection[str], default: dict[str, Any] | None = None) -> dict[str, Any]:
    """Reads a JSON object whose keys are all known.

    Args:
        file: the file.
        known: the keys that may have a value. Others may be there if they are empty, null or false.
        default: what is returned where there is no such file; None is an error then.

    Returns:
        The object.

    Raises:
        FileNotFoundError, PermissionError: if there is no such file, or this account may not read it.
        ValueError: if it is damaged, or says something under another key.
    """
    if default is not None and not os.path.lexists(file):
        return default
    settings = read_json_object(file)
    for key, value in settings.items():
        if key not in known and value not in _EMPTY:
            raise unsupported(file, key, value, f"no keys but {', '.join(sorted(known))}")
    return settings


def unsupported(file: pathlib.Path, key: str, value: Any, expected: str) -> ValueError:
    """Makes the error for a value that this package does not compute.

    Args:
        file: the file.
        key: the key.
        value: its value.
        expected: what is supported, as "true or false".
    """
    return ValueError(
        f"Expected {file} to have {expected}, which is what is supported here. Received: {key}={value!r}. "
        "Run this model with sentence-transformers itself, or take another model."
    )
