"""Takes a path that a user gave, and refuses what only looks like one."""

import os
import pathlib
import re
from typing import Any

# `pathlib` makes one slash of two. A single letter is a drive of Windows.
_REMOTE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")


def local_path(path: Any, argument: str, instead: str = "") -> pathlib.Path:
    """Gives the path on this machine that a user means.

    A URL such as `gs://bucket/model` is refused: read as a path it is the relative directory `gs:/bucket/model`.

    Args:
        path: a str or a path object.
        argument: the name of the user's argument, for messages.
        instead: a sentence on what else the argument may be, for the message that refuses a URL.

    Returns:
        The path, not made absolute. Whether it exists is not asked.

    Raises:
        TypeError: if it is no str and no path object, or one of bytes.
        ValueError: if it is a URL or empty, or no file system can hold it.

    Example:

    >>> local_path("models/1", "directory").parts
    ('models', '1')
    >>> local_path("gs://bucket/1", "directory")
    Traceback (most recent call last):
    ValueError: Expected `directory` to be a path on this machine. Received: directory='gs://bucket/1', ...
    """
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise TypeError(
            f"Expected `{argument}` to be a path, as a str or a path object. Received: {argument}={path!r} of type "
            f"{type(path).__name__}. Bytes become a path with os.fsdecode(...)."
        )
    if not name:
        raise ValueError(
            f"Expected `{argument}` to be a path. Received: {argument}='', which is empty. The current directory is "
            "'.'."
        )
    if _REMOTE.match(name):
        raise ValueError(
            f"Expected `{argument}` to be a path on this machine. Received: {argument}={name!r}, which is a URL. "
            "Give a local directory and copy it from or to that place with the tool of its file system, or mount the "
            f"file system and give the path there. {instead}".rstrip()
        )
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise ValueError(
            f"Expected `{argument}` to be a path that a file system can hold. Received: {argument}={name!r}. "
            "Take NUL characters and halves of surrogate pairs out of it."
        )
    return pathlib.Path(name)
