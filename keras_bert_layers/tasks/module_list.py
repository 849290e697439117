"""Which modules a sentence model is made of, as `modules.json` lists them."""

import pathlib
from typing import Any, NamedTuple

from keras_bert_layers.checkpoints.json_file import read_json_list

_PACKAGE = "sentence_transformers"


class ModuleEntry(NamedTuple):
    """One module: the name of its class in sentence-transformers, and its folder."""

    kind: str
    path: str


def read_module_list(file: pathlib.Path) -> list[ModuleEntry]:
    """Reads `modules.json`.

    Args:
        file: the file.

    Returns:
        The modules in the order in which they run.

    Raises:
        FileNotFoundError, PermissionError: if there is no such file, or this account may not read it.
        ValueError: if it is damaged, or names a class that is not one of sentence-transformers' own.
    """
    return [_entry(file, value) for value in read_json_list(file)]


def _entry(file: pathlib.Path, value: Any) -> ModuleEntry:
    kind, path = (value.get("type"), value.get("path")) if isinstance(value, dict) else (None, None)
    if not isinstance(kind, str) or not isinstance(path, str):
        raise ValueError(
            f"Expected {file} to list modules, each with a `type` and a `path`. Received: {str(value)[:200]}. "
            "Copy or download the file again."
        )
    if kind.split(".")[0] != _PACKAGE or value.get("kwargs"):
        raise ValueError(
            f"Expected {file} to name modules of sentence-transformers' own, without arguments for each call. "
            f"Received: type={kind!r}, kwargs={value.get('kwargs')!r}, which is code of this model alone. Take a model "
            "without code of its own."
        )
    folder = pathlib.PurePosixPath(path)
    if folder.is_absolute() or ".." in folder.parts or "\\" in path or ":" in path:
        raise ValueError(
            f"Expected the modules in {file} to lie in folders of the model. Received: path={path!r}. The file is "
            "damaged, or made to harm: copy or download it again from where you trust."
        )
    return ModuleEntry(kind.rpartition(".")[2], "" if path == "." else path)
