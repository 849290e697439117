"""The index that lists the parts of a sharded checkpoint."""

from __future__ import annotations

import json
import os
import pathlib

from keras_bert_layers.checkpoints.git_lfs import refuse_git_lfs_pointer


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
    refuse_git_lfs_pointer(index_file)
    try:
        names = sorted(set(json.loads(index_file.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{index_file} is expected to be the JSON index of a sharded checkpoint, with the file of each weight "
            f"under 'weight_map', and it could not be read as one ({error!r}). Copy or download it again."
        ) from error
    for name in names:
        # The index is foreign data. Resolving the path would not do here: in the download cache each file is a link
        # to another directory.
        parts = pathlib.PurePosixPath(str(name).replace("\\", "/"))
        if not isinstance(name, str) or parts.is_absolute() or ".." in parts.parts or ":" in name:
            raise ValueError(
                f"{index_file} is expected to name files in its own directory. Received: {name!r}. "
                "Do not use this checkpoint unless you know where it comes from."
            )
    return names
