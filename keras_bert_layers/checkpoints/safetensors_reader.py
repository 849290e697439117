"""Reads BERT's weights from a directory in Hugging Face's format."""

from __future__ import annotations

import functools
import logging
import pathlib
from typing import Any

import numpy as np

from keras_bert_layers.checkpoints.checkpoint_file import check_file
from keras_bert_layers.checkpoints.name_tables import sort_names
from keras_bert_layers.checkpoints.safetensors_index import read_shard_names
from keras_bert_layers.checkpoints.source import INDEX_FILE, WEIGHTS_FILE, missing_files_error
from keras_bert_layers.checkpoints.stored_weight import StoredWeight

logger = logging.getLogger(__name__)

_FLOAT_TYPES = ("F64", "F32", "F16", "BF16")


def read_safetensors(directory: pathlib.Path) -> dict[str, StoredWeight]:
    """Finds BERT's weights in `model.safetensors`, or in the files that `model.safetensors.index.json` names.

    Args:
        directory: The directory.

    Returns:
        The weights by our names. What lies inside the encoder and is no weight of BERT keeps its own name.

    Raises:
        FileNotFoundError: If there is no weights file, or one that the index names is missing.
        ValueError: If a file is a Git LFS pointer, truncated or corrupt, or a weight is stored twice or not as floats.

    Example:

    >>> import tempfile
    >>> from safetensors.numpy import save_file
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     save_file({"bert.pooler.dense.weight": np.ones((2, 3))}, f"{directory}/model.safetensors")
    ...     weights = read_safetensors(pathlib.Path(directory))
    ...     weights["pooler/kernel"].read().shape
    (3, 2)
    """
    files: dict[str, Any] = {}
    for path in _weight_files(directory):
        handle = _open(path)
        for name in handle.keys():  # noqa: SIM118, a safe_open handle is no mapping
            if name in files:
                raise ValueError(
                    f"Each weight is expected in one file. Received: {name!r} twice in {directory}, the second time in "
                    f"{path.name}. Copy or download the checkpoint again."
                )
            files[name] = handle

    names = sort_names(files, str(directory))
    if names.others:
        logger.debug("Not part of BERT's encoder and not read from %s: %s", directory, ", ".join(sorted(names.others)))
    stored = {
        our_name: _stored_weight(files[name], name, our_name, directory) for our_name, name in names.weights.items()
    }
    for name in names.unexpected:
        stored[name] = StoredWeight(
            tuple(files[name].get_slice(name).get_shape()), functools.partial(_read, files[name], name)
        )
    return stored


def _weight_files(directory: pathlib.Path) -> list[pathlib.Path]:
    if (directory / WEIGHTS_FILE).is_file():
        return [directory / WEIGHTS_FILE]
    index_file = directory / INDEX_FILE
    if not index_file.is_file():
        raise missing_files_error(
            f"The directory {directory}", (WEIGHTS_FILE, INDEX_FILE), [entry.name for entry in directory.iterdir()]
        )
    paths = [directory / name for name in read_shard_names(index_file)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"The directory {directory} is expected to hold every file that {INDEX_FILE} names. "
            f"Received: a directory without {', '.join(missing)}. Copy or download these too."
        )
    return paths


def _open(path: pathlib.Path) -> Any:
    import safetensors

    check_file(path)
    try:
        return safetensors.safe_open(path, framework="np")
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is expected to be a complete safetensors file. Received: a file of {path.stat().st_size:,} bytes "
            f"that is truncated or corrupt ({error}). Copy or download it again."
        ) from error


def _stored_weight(handle: Any, name: str, our_name: str, directory: pathlib.Path) -> StoredWeight:
    entry = handle.get_slice(name)
    dtype, shape = entry.get_dtype(), tuple(entry.get_shape())
    if dtype not in _FLOAT_TYPES:
        raise ValueError(
            f"Weights stored as floating-point numbers are expected ({', '.join(_FLOAT_TYPES)}). "
            f"Received: {name!r} as {dtype} in {directory}. Quantised checkpoints are not supported: take the original."
        )
    # PyTorch keeps a kernel as [outputs, inputs]; TensorFlow's names are the ones with slashes.
    transposed = our_name.endswith("/kernel") and "/" not in name
    return StoredWeight(
        shape[::-1] if transposed else shape, functools.partial(_read, handle, name, dtype=dtype, transposed=transposed)
    )


def _read(handle: Any, name: str, dtype: str = "F32", transposed: bool = False) -> np.ndarray:
    if dtype == "BF16":
        # NumPy knows no bfloat16 before this import.
        import ml_dtypes  # noqa: F401
    array = handle.get_tensor(name)
    return np.ascontiguousarray(array.T if transposed else array, dtype=np.float32)
