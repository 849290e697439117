"""What a directory holds, for the messages that say what was found instead of what was expected."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable

_SHOWN = 20


def names_in(directory: pathlib.Path) -> list[str] | None:
    """Gives the names in a directory, or None where they cannot be listed.

    Args:
        directory: The directory.

    Returns:
        The names, sorted.

    Example:

    >>> print(names_in(pathlib.Path("no/such/directory")))
    None
    """
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return None


def list_names(names: Iterable[str] | None) -> str:
    """Lists names in a message.

    Args:
        names: The names, or None where they are not known.

    Returns:
        The first of them, joined, or what to say where there is none.

    Example:

    >>> list_names(["config.json", "vocab.txt"]), list_names([])
    ('config.json, vocab.txt', 'no files')
    """
    if names is None:
        return "none of them"
    names = list(names)
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "no files") + rest


def way_out(names: Iterable[str] | None, otherwise: str) -> str:
    """Says what to do with a directory that holds something else than a checkpoint in Hugging Face's format.

    Args:
        names: The names in the directory, or None where they are not known.
        otherwise: What to say of files that are not known here.

    Returns:
        A sentence or two for the end of a message.

    Example:

    >>> way_out(["notes.txt"], "Check the path.")
    'Check the path.'
    """
    names = list(names or ())
    if "saved_model.pb" in names:
        return (
            "It is a SavedModel. Wrap a text encoder of TensorFlow Hub in TFHubEncoder, its preprocessing model in "
            "TFHubPreprocessor."
        )
    return otherwise
