"""Weights in the checkpoints of TensorFlow 1 that Google released."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from keras_bert_layers.checkpoints.checkpoint_file import check_file
from keras_bert_layers.checkpoints.formats.checkpoint_format import CheckpointFormat
from keras_bert_layers.checkpoints.naming_scheme import GOOGLE
from keras_bert_layers.checkpoints.stored_weight import StoredWeight

_INDEX_ENDING = ".ckpt.index"


class GoogleFormat(CheckpointFormat):
    """`bert_model.ckpt.index` and its data, beside `bert_config.json` and `vocab.txt`; or those of a model trained on.

    What an optimiser keeps for each weight is left out.

    Example:

    >>> GoogleFormat().parts(pathlib.Path("bert_model.ckpt.index"))
    ['bert_model.ckpt.data-00000-of-00001']
    """

    files = ("bert_model.ckpt.index",)
    schemes = (GOOGLE,)

    def accepts(self, source: Any) -> bool:
        return isinstance(source, pathlib.Path) and bool(_indices(source))

    def parts(self, file: pathlib.Path) -> list[str]:
        return [f"{file.name.removesuffix('.index')}.data-00000-of-00001"]

    def weights(self, source: pathlib.Path) -> Mapping[str, StoredWeight]:
        indices = _indices(source)
        if len(indices) > 1:
            raise ValueError(
                f"Expected one checkpoint in {source}. Received: {', '.join(path.name for path in indices[:10])}. "
                "Put the one that you mean into a directory of its own, with bert_config.json and vocab.txt."
            )
        (index,) = indices
        check_file(index)
        prefix = os.fspath(index).removesuffix(".index")
        reader = _open(index, prefix)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        return {
            name: StoredWeight(tuple(shape), functools.partial(_read, reader, name, index), f"{name!r} in {prefix}")
            for name, shape in shapes.items()
            # The slots of optimisers stand below their weight: `kernel/adam_m`.
            if dtypes[name].is_floating and name.rpartition("/")[0] not in shapes
        }


def _indices(directory: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in directory.glob("*.ckpt*.index"))


def _open(index: pathlib.Path, prefix: str) -> Any:
    import tensorflow as tf

    try:
        return tf.train.load_checkpoint(prefix)
    except (tf.errors.OpError, ValueError) as error:
        raise _damaged(index, error) from error


def _read(reader: Any, name: str, index: pathlib.Path) -> Any:
    import tensorflow as tf

    try:
        return reader.get_tensor(name)
    except (tf.errors.OpError, ValueError, RuntimeError, LookupError) as error:
        raise _damaged(index, error) from error


def _damaged(index: pathlib.Path, error: Exception) -> ValueError:
    return ValueError(
        f"Expected {index} and the files of data beside it to be a whole checkpoint of TensorFlow. "
        f"Received: {str(error)[:500]}. Copy or download them again."
    )
