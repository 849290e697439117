"""Tells a file from the Git LFS pointer that may stand in its place."""

from __future__ import annotations

import os
import pathlib

_POINTER_START = b"version https://git-lfs.github.com/spec"


def refuse_git_lfs_pointer(path: str | os.PathLike[str]) -> None:
    """Refuses a file that is only Git LFS's note of where the real one is.

    Args:
        path: The file.

    Raises:
        ValueError: If the file is a Git LFS pointer.

    Example:

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     refuse_git_lfs_pointer(file.name)  # an empty file is no pointer
    """
    path = pathlib.Path(path)
    with path.open("rb") as file:
        start = file.read(len(_POINTER_START))
    if start == _POINTER_START:
        raise ValueError(
            f"{path} is expected to be the file itself. Received: a Git LFS pointer, because the repository was cloned "
            f"without its large files. Run `git lfs install` and `git lfs pull` in {path.parent}."
        )
