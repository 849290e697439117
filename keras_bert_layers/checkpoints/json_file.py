"""Reads the small text files of a checkpoint, which are foreign data."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from keras_bert_layers.checkpoints.checkpoint_file import check_file

# The largest `tokenizer.json` of a model in use, with 262,000 tokens, has 33 MB.
_MAX_BYTES = 64 * 2**20


def read_text(path: str | os.PathLike[str]) -> str:
    """Reads a text file of a checkpoint.

    Args:
        path: The file.

    Returns:
        Its content, with the ends of lines as they stand.

    Raises:
        FileNotFoundError, PermissionError: If there is no such file, or this account may not read it.
        ValueError: If it is no regular file, empty, a Git LFS pointer, too large, or not UTF-8.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = pathlib.Path(directory, "vocab.txt").write_text("[PAD]\\n[UNK]\\n")
    ...     read_text(f"{directory}/vocab.txt")
    '[PAD]\\n[UNK]\\n'
    """
    path = pathlib.Path(path)
    check_file(path)
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(
            f"{path} is expected to be a text file of at most {_MAX_BYTES:,} bytes. Received: {path.stat().st_size:,} "
            "bytes. Take the file from the checkpoint that you mean."
        )
    if content.startswith(b"\xef\xbb\xbf"):
        raise ValueError(
            f"{path} is expected to be UTF-8 without a byte order mark, as other readers of checkpoints need it. "
            "Received: a byte order mark at its beginning. Save it without one: "
            "path.write_text(path.read_text('utf-8-sig'), 'utf-8')."
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is expected to be a text file in UTF-8. Received: bytes that are not ({error}). "
            "Copy or download it again."
        ) from error


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a JSON file of a checkpoint that holds an object.

    Args:
        path: The file.

    Returns:
        The object. What its values are is for the caller to check.

    Raises:
        FileNotFoundError, PermissionError: If there is no such file, or this account may not read it.
        ValueError: If `read_text` refuses it, it is not JSON, too deep, or holds something else than an object.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = pathlib.Path(directory, "config.json").write_text('{"hidden_size": 8}')
    ...     read_json_object(f"{directory}/config.json")
    {'hidden_size': 8}
    """
    return _read_json(path, dict, "object")


def read_json_list(path: str | os.PathLike[str]) -> list[Any]:
    """Reads a JSON file of a checkpoint that holds a list.

    Args:
        path: The file.

    Returns:
        The list. What its values are is for the caller to check.

    Raises:
        FileNotFoundError, PermissionError: If there is no such file, or this account may not read it.
        ValueError: If `read_text` refuses it, it is not JSON, too deep, or holds something else than a list.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     _ = pathlib.Path(directory, "modules.json").write_text('[{"path": ""}]')
    ...     read_json_list(f"{directory}/modules.json")
    [{'path': ''}]
    """
    return _read_json(path, list, "list")


def _read_json(path: str | os.PathLike[str], kind: type, name: str) -> Any:
    text = read_text(path)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{os.fspath(path)} is expected to be a JSON file, and it could not be read as one ({error}). "
            "Copy or download it again."
        ) from error
    if not isinstance(values, kind):
        raise ValueError(
            f"{os.fspath(path)} is expected to hold a JSON {name}. Received: a {type(values).__name__}. "
            "Copy or download it again."
        )
    return values
