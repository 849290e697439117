"""A directory that is written beside its place and moved there when it is complete."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def atomic_directory(directory: str | os.PathLike[str], overwrite: bool = False) -> Iterator[pathlib.Path]:
    """Gives a place to write to, and moves it to `directory` when the block ends without an error.

    Args:
        directory: where the result is to stand. Its parents are made.
        overwrite: whether to replace `directory` where it exists.

    Yields:
        The path of a directory that does not exist yet, beside `directory`. It is hidden and not a number, so that no
        server takes it for a version.

    Raises:
        FileExistsError: if `directory` exists and `overwrite` is false.

    Example:

    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with atomic_directory(f"{parent}/result") as work:
    ...         work.mkdir()
    ...     os.listdir(parent)
    ['result']
    """
    directory = pathlib.Path(directory)
    if directory.exists() and not overwrite:
        raise FileExistsError(
            f"Expected a directory that does not exist yet. Received: directory={os.fspath(directory)!r}, which does. "
            "Write the next version beside it, or replace it with overwrite=True."
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    workplace = pathlib.Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    try:
        yield workplace / "new"
        if directory.exists():
            os.rename(directory, workplace / "old")
        os.rename(workplace / "new", directory)
    finally:
        shutil.rmtree(workplace)
