"""Weights in Hugging Face's safetensors files."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_bert_layers.checkpoints.checkpoint_file import check_file
from keras_bert_layers.checkpoints.formats.checkpoint_format import CheckpointFormat
from keras_bert_layers.checkpoints.naming_scheme import PYTORCH, TENSORFLOW
from keras_bert_layers.checkpoints.shard_index import find_shards, read_shard_names
from keras_bert_layers.checkpoints.stored_weight import StoredWeight

_WEIGHTS_FILE = "model.safetensors"
_INDEX_FILE = "model.safetensors.index.json"
_FLOAT_TYPES = ("F64", "F32", "F16", "BF16")
# Names, types and shapes of some 100,000 tensors.
_MAX_HEADER_BYTES = 16 * 2**20


class SafetensorsFormat(CheckpointFormat):
    """`model.safetensors`, or the files that `model.safetensors.index.json` names.

    Example:

    >>> import tempfile
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save_file({"bert.pooler.dense.weight": np.ones((2, 3))}, f"{directory}/model.safetensors")
    ...     SafetensorsFormat().weights(pathlib.Path(directory))["bert.pooler.dense.weight"].shape
    (2, 3)
    """

    files = (_WEIGHTS_FILE, _INDEX_FILE)
    # TensorFlow's classes of transformers write it too.
    schemes = (PYTORCH, TENSORFLOW)

    def parts(self, file: pathlib.Path) -> list[str]:
        return read_shard_names(file) if file.name == _INDEX_FILE else []

    def weights(self, source: pathlib.Path) -> Mapping[str, StoredWeight]:
        found: dict[str, tuple[pathlib.Path, Any]] = {}
        for path in find_shards(source, _WEIGHTS_FILE, _INDEX_FILE):
            handle = _open(path)
            for name in handle.keys():  # noqa: SIM118, a safe_open handle is no mapping
                if name in found:
                    raise ValueError(
                        f"Each weight is expected in one file. Received: {name!r} twice in {source}, the second time "
                        f"in {path.name}. Copy or download the checkpoint again."
                    )
                found[name] = path, handle
        return _StoredWeights(found)


class _StoredWeights(Mapping[str, StoredWeight]):
    def __init__(self, files: dict[str, tuple[pathlib.Path, Any]]) -> None:
        self._files = files

    def __getitem__(self, name: str) -> StoredWeight:
        path, handle = self._files[name]
        entry = handle.get_slice(name)
        dtype, shape = entry.get_dtype(), tuple(entry.get_shape())
        if dtype not in _FLOAT_TYPES:
            raise ValueError(
                f"Weights stored as floating-point numbers are expected ({', '.join(_FLOAT_TYPES)}). "
                f"Received: {name!r} as {dtype} in {path}. Quantised checkpoints are not supported: take the original."
            )
        return StoredWeight(shape, functools.partial(_read, handle, name, dtype), f"{name!r} in {path}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _open(path: pathlib.Path) -> Any:
    import safetensors

    check_file(path)
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    # A longer one than the file is safetensors' own business.
    if _MAX_HEADER_BYTES < header_bytes < path.stat().st_size:
        raise ValueError(
            f"{path} is expected to be a safetensors file with a header of at most {_MAX_HEADER_BYTES:,} bytes. "
            f"Received: a header of {header_bytes:,} bytes. Save BERT's weights into a file of their own."
        )
    try:
        return safetensors.safe_open(path, framework="np")
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is expected to be a complete safetensors file. Received: a file of {path.stat().st_size:,} bytes "
            f"that is truncated or corrupt ({error}). Copy or download it again."
        ) from error


def _read(handle: Any, name: str, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        # NumPy knows no bfloat16 before this import.
        import ml_dtypes  # noqa: F401
    return handle.get_tensor(name)
