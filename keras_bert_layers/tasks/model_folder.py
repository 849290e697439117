import functools
import os
import pathlib
from collections.abc import Callable
from typing import Any

from keras_bert_layers.checkpoints.bert_config import CONFIG_FILES
from keras_bert_layers.checkpoints.source import WantedFiles, find_checkpoint

MODULES_FILE, SETTINGS_FILE = "modules.json", "config_sentence_transformers.json"
# A whole model has one of them.
_ROOT_FILES = (MODULES_FILE, *CONFIG_FILES)


class ModelFolder:
    """The files of a whole model: a directory, or what is downloaded as it is asked for, all from one commit.

    Args:
        source: a directory, or the id of a Hugging Face repository.
        **download: `revision`, `cache_dir`, `token`, `local_files_only`, for `find_checkpoint`.

    Attributes:
        root: the directory, or the one that was downloaded.
    """

    def __init__(self, source: str | os.PathLike[str], **download: Any):
        self.root = find_checkpoint(
            source, WantedFiles(required=(_ROOT_FILES,), optional=(MODULES_FILE, SETTINGS_FILE)), **download
        )
        self._find: Callable[[WantedFiles], pathlib.Path] | None = None
        if not os.path.isdir(source):
            # A download's directory is named after its commit.
            self._find = functools.partial(find_checkpoint, source, **{**download, "revision": self.root.name})

    def folder(self, path: str, *wanted: WantedFiles) -> pathlib.Path:
        """Returns a folder inside, with these files in it where the model is one that is downloaded.

        Args:
            path: the folder; "" is the root.
            *wanted: names relative to it.
        """
        if self._find is not None:
            for files in wanted:
                self._find(_inside(files, path))
        return self.root / path


def _inside(wanted: WantedFiles, path: str) -> WantedFiles:
    """The same files in a folder."""
    prefix = f"{path}/" if path else ""

    def of_folder(names: Any) -> tuple[str, ...]:
        return tuple(f"{prefix}{name}" for name in names)

    parts = {name: lambda file, read=read: list(of_folder(read(file))) for name, read in wanted.parts.items()}
    return WantedFiles((_ROOT_FILES, *map(of_folder, wanted.required)), of_folder(wanted.optional), parts)
