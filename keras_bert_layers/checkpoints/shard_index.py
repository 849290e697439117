"""The index that lists the parts of a sharded checkpoint."""

from __future__ import annotations

import os
import pathlib
import reprlib

from keras_bert_layers.checkpoints.directory_names import list_names
from keras_bert_layers.checkpoints.json_file import read_json_object

# What file systems allow for one name.
_MAX_NAME_LENGTH = 255


def read_shard_names(index_file: str | os.PathLike[str]) -> list[str]:
    """Reads which files a sharded checkpoint consists of.

    Args:
        index_file: The path of `model.safetensors.index.json`.

    Returns:
        The files' names, relative to the index's directory, each once and in alphabetical order.

    Raises:
        ValueError: If the file is no such index, or names a file outside its directory.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     index = pathlib.Path(directory, "model.safetensors.index.json")
    ...     _ = index.write_text('{"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors"}}')
    ...     read_shard_names(index)
    ['model-1.safetensors', 'model-2.safetensors']
    """
    index_file = pathlib.Path(index_file)
    weight_map = read_json_object(index_file).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(
            f"{index_file} is expected to be the index of a sharded checkpoint, with the file of each weight under "
            f"'weight_map'. Received: weight_map={reprlib.repr(weight_map)}. Copy or download it again."
        )
    for name in weight_map.values():
        # The index is foreign data. Resolving the path would not do here: in the download cache each file is a link
        # to another directory.
        parts = pathlib.PurePosixPath(str(name).replace("\\", "/"))
        if (
            not isinstance(name, str)
            or parts.is_absolute()
            or ".." in parts.parts
            or ":" in name
            or len(name) > _MAX_NAME_LENGTH
        ):
            raise ValueError(
                f"{index_file} is expected to name files in its own directory. Received: {reprlib.repr(name)}. "
                "Do not use this checkpoint unless you know where it comes from."
            )
    return sorted(set(weight_map.values()))


def find_shards(directory: pathlib.Path, weights_file: str, index_file: str) -> list[pathlib.Path]:
    """Finds the files of a checkpoint that is stored in one file or in several.

    Args:
        directory: The directory of the checkpoint.
        weights_file: The name of the one file, which comes first.
        index_file: The name of the index that lists several.

    Returns:
        The paths of the files.

    Raises:
        FileNotFoundError: If the directory lacks a file that the index names.
        ValueError: As `read_shard_names`.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     pathlib.Path(directory, "model.bin").touch()
    ...     [path.name for path in find_shards(pathlib.Path(directory), "model.bin", "model.bin.index.json")]
    ['model.bin']
    """
    if os.path.lexists(directory / weights_file):
        return [directory / weights_file]
    names = read_shard_names(directory / index_file)
    missing = [name for name in names if not os.path.lexists(directory / name)]
    if missing:
        raise FileNotFoundError(
            f"The directory {directory} is expected to hold every file that {index_file} names. "
            f"Received: a directory without {list_names(missing)}. Copy or download these too."
        )
    return [directory / name for name in names]
