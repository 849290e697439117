"""Weights in files of PyTorch."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator, Mapping

from keras_bert_layers.checkpoints.formats.checkpoint_format import CheckpointFormat
from keras_bert_layers.checkpoints.naming_scheme import PYTORCH
from keras_bert_layers.checkpoints.shard_index import find_shards, read_shard_names
from keras_bert_layers.checkpoints.stored_weight import StoredWeight
from keras_bert_layers.checkpoints.torch_file import TorchFile

_WEIGHTS_FILE = "pytorch_model.bin"
_INDEX_FILE = "pytorch_model.bin.index.json"


class PyTorchFormat(CheckpointFormat):
    """`pytorch_model.bin`, or the files that `pytorch_model.bin.index.json` names, read without PyTorch.

    Example:

    >>> PyTorchFormat().files
    ('pytorch_model.bin', 'pytorch_model.bin.index.json')
    """

    files = (_WEIGHTS_FILE, _INDEX_FILE)
    schemes = (PYTORCH,)

    def parts(self, file: pathlib.Path) -> list[str]:
        return read_shard_names(file) if file.name == _INDEX_FILE else []

    def weights(self, source: pathlib.Path) -> Mapping[str, StoredWeight]:
        found: dict[str, TorchFile] = {}
        for path in find_shards(source, _WEIGHTS_FILE, _INDEX_FILE):
            file = TorchFile(path)
            for name in file.tensors:
                if name in found:
                    raise ValueError(
                        f"Expected each weight in one file. Received: {name!r} twice in {source}, the second time in "
                        f"{path.name}. Copy or download the checkpoint again."
                    )
                found[name] = file
        return _StoredWeights(found)


class _StoredWeights(Mapping[str, StoredWeight]):
    def __init__(self, files: dict[str, TorchFile]) -> None:
        self._files = files

    def __getitem__(self, name: str) -> StoredWeight:
        file = self._files[name]
        dtype = file.tensors[name].dtype
        if "float" not in dtype:
            raise ValueError(
                f"Expected weights stored as floating-point numbers. Received: {name!r} as {dtype} in {file.path}. "
                "Quantised checkpoints are not supported: take the original."
            )
        return StoredWeight(file.shape_of(name), functools.partial(file.read, name), f"{name!r} in {file.path}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
