"""Tells a file of a checkpoint from what may stand in its place."""

from __future__ import annotations

import os
import pathlib

_GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec"


def check_file(path: str | os.PathLike[str]) -> None:
    """Refuses a file that cannot be read, without waiting for one that never ends.

    Args:
        path: The file, or a link to it.

    Raises:
        FileNotFoundError: If there is no such file.
        PermissionError: If this account may not read it.
        OSError: If it cannot be read for another reason, such as a loop of links.
        ValueError: If it is a directory, a pipe or a device, empty, or Git LFS's note of where the real file is.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     check_file(directory)
    Traceback (most recent call last):
    ValueError: ... is expected to be a file. Received: a directory. ...
    """
    path = pathlib.Path(path)
    try:
        # Opening a pipe would wait for somebody who writes to it.
        if path.exists() and not path.is_file():
            kind = "a directory" if path.is_dir() else "a pipe, a socket or a device"
            raise ValueError(f"{path} is expected to be a file. Received: {kind}. Copy or download the file again.")
        with path.open("rb") as file:
            start = file.read(len(_GIT_LFS_POINTER))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is expected to be a file. Received: no such file. Check the path, or copy the file there."
        ) from error
    except PermissionError as error:
        raise PermissionError(
            f"{path} is expected to be a file that this account may read. Received: {error.strerror}. "
            "Allow it, with `chmod u+r` on the file and `chmod u+rx` on its directories, or copy the file."
        ) from error
    except OSError as error:
        raise OSError(
            f"{path} is expected to be a file that can be read. Received: {error.strerror}. Copy or download it again."
        ) from error
    if not start:
        raise ValueError(f"{path} is expected to have content. Received: an empty file. Copy or download it again.")
    if start == _GIT_LFS_POINTER:
        raise ValueError(
            f"{path} is expected to be the file itself. Received: a Git LFS pointer, because the repository was cloned "
            f"without its large files. Run `git lfs install` and `git lfs pull` in {path.parent}."
        )
