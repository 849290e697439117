"""A directory that is written beside its place and moved there when it is complete."""

import contextlib
import errno
import fnmatch
import os
import pathlib
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence

from keras_bert_layers.local_path import local_path

# How often another process may come first.
_ATTEMPTS = 10


@contextlib.contextmanager
def atomic_directory(
    directory: str | os.PathLike[str], overwrite: bool, files: Sequence[str]
) -> Iterator[pathlib.Path]:
    """Gives a place to write to, and moves it to `directory` when the block ends without an error.

    Nothing is deleted before its successor stands in its place, and nothing is replaced that the caller does not write:
    an older directory holds the first of `files`, and no file that is not among them. Of several processes that write
    the same directory each leaves a whole one. An empty directory is filled. Where `directory` is a link, the directory
    that it points to is written and the link stays.

    Args:
        directory: where the result is to stand. Its parents are made.
        overwrite: whether to replace an older one.
        files: patterns of the files that the block writes, relative to the directory; `*` stands for slashes too.

    Yields:
        The path of a directory that does not exist yet. It has the name of `directory` and lies in a hidden one beside
        it, where no server takes it for a version.

    Raises:
        TypeError: if `overwrite` is neither True nor False.
        FileExistsError: if `directory` is not empty, and `overwrite` is false or the caller did not write it.
        OSError: of the class that fits, where nothing can be written.

    Example:

    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with atomic_directory(f"{parent}/result", overwrite=False, files=["*.txt"]) as work:
    ...         work.mkdir()
    ...     os.listdir(parent)
    ['result']
    """
    if not isinstance(overwrite, bool):
        raise TypeError(f"Expected `overwrite` to be True or False. Received: overwrite={overwrite!r}.")
    place = pathlib.Path(os.path.abspath(local_path(directory, "directory")))
    received = f"Received: directory={os.fspath(directory)!r}"
    try:
        if place.is_symlink():
            if not place.exists():
                raise FileNotFoundError(
                    f"Expected a directory, or a link to one. {received}, a link to {os.readlink(place)!r}, which does "
                    "not exist. Remove the link, or give the directory itself."
                )
            place = place.resolve()
        _check_replaceable(place, received, overwrite, files)
        place.parent.mkdir(parents=True, exist_ok=True)
        workplace = pathlib.Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    except OSError as error:
        if error.errno is None:
            # One of ours, which says it all.
            raise
        # Of a parent that is a file it says that it exists.
        kind = NotADirectoryError if isinstance(error, FileExistsError) else type(error)
        raise kind(
            f"Expected a directory that can be written. {received}, for which the system says: {error.strerror} "
            f"({error.filename}). Give another directory, or change who may write there."
        ) from error
    try:
        new = workplace / "new" / place.name
        new.parent.mkdir()
        yield new
        for attempt in range(_ATTEMPTS):
            if overwrite and place.exists():
                older = workplace / f"older-{attempt}"
                with contextlib.suppress(FileNotFoundError):
                    os.rename(place, older)
                    # Once more, for it may have come meanwhile; and here, where no other process changes it.
                    _check_replaceable(older, received, overwrite, files)
            try:
                os.rename(new, place)
                break
            except OSError as error:
                # Another process was faster, or nothing more can be done.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == _ATTEMPTS - 1:
                    raise
                if not overwrite:
                    _check_replaceable(place, received, overwrite, files)
    finally:
        olders = sorted(workplace.glob("older-*"))
        if olders and not place.exists():
            os.rename(olders[-1], place)
        shutil.rmtree(workplace)


def _check_replaceable(place: pathlib.Path, received: str, overwrite: bool, files: Sequence[str]) -> None:
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        raise FileExistsError(
            f"Expected a directory. {received}, which is a file, and is kept. Give another name, or remove the file."
        )
    held = _files_in(place)
    if not held:
        return
    if not overwrite:
        raise FileExistsError(
            f"Expected a directory that does not exist yet. {received}, which does. Write the next version beside it, "
            "or replace it with overwrite=True."
        )
    names = sorted(path.relative_to(place).as_posix() for path in held)
    strange = [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in files)]
    if strange or not any(fnmatch.fnmatch(name, files[0]) for name in names):
        what = f"holds {strange[0]!r}, which is not written here" if strange else f"has no {files[0]}"
        raise FileExistsError(
            f"Expected a directory that was written by the same function, to be replaced. {received}, overwrite=True; "
            f"it {what}, and is kept. Give another directory, or remove this one yourself."
        )


def _files_in(directory: pathlib.Path) -> list[pathlib.Path]:
    """All files and links; looked up again where another process replaces the directory meanwhile."""
    while directory.exists():
        with contextlib.suppress(FileNotFoundError):
            before = directory.stat()
            found = []
            # Which passes over what is gone when it comes there.
            for folder, folders, names in os.walk(directory):
                links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
                found += [pathlib.Path(folder, name) for name in [*names, *links]]
            after = directory.stat()
            if (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns):
                return found
    return []
