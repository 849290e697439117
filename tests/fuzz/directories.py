"""A folder of files that is damaged, looked at and restored for each case."""

import os
import pathlib
import shutil

# What `os.stat` says of a file that nobody may change.
Listing = dict[str, tuple[int, bool]]


class Directory:
    """A folder that is the same before each case.

    Args:
        path: where; it is made.
        files: name -> content.
    """

    def __init__(self, path: pathlib.Path, files: dict[str, bytes]):
        self.path, self.files = path, files
        self._dirty = set(files)
        path.mkdir()

    def restore(self) -> None:
        """Writes what the last case changed, and removes what it added."""
        for entry in list(os.scandir(self.path)):
            if entry.name not in {name.split("/")[0] for name in self.files}:
                _remove(pathlib.Path(entry.path))
        for name in self._dirty:
            file = self.path / name
            if file.is_symlink() or not file.is_file():
                _remove(file)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.files[name])
        self._dirty = set()

    def dirty(self, name: str) -> pathlib.Path:
        """The path of a file that this case is about to change."""
        self._dirty.add(name)
        return self.path / name

    def listing(self) -> Listing:
        """All that is in it, with sizes, to see that nothing was written."""
        found = {}
        for folder, _, files in os.walk(self.path):
            for file in files:
                path = pathlib.Path(folder) / file
                found[str(path.relative_to(self.path))] = (path.lstat().st_size, path.is_symlink())
        return found


def _remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
