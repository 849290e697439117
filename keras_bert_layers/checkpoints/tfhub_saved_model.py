"""TensorFlow Hub's SavedModels: finding and loading one, and carrying its graph inside a Keras configuration."""

import base64
import io
import json
import math
import os
import pathlib
import re
import reprlib
import tempfile
import warnings
import zipfile
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from keras_bert_layers.checkpoints.checkpoint_file import check_file
from keras_bert_layers.checkpoints.directory_names import list_names
from keras_bert_layers.local_path import local_path

# What tensorflow_hub downloads: pages of TF Hub, and archives in a bucket.
_HANDLE = re.compile(r"https?://.*|gs://.*\.(?:tar|tar\.gz|tgz)")
# Larger tensors are weights, which a Keras file keeps by itself: of those only shape and type are packed.
_PACKED_BYTES = 4096
# Graphs shrink to a tenth or a twentieth, and a zip bomb to a thousandth.
_LARGEST_RATIO, _ALWAYS_UNPACKED = 100, 64 * 2**20
_MOST_FILES = 1000
# 4 x 10^9 float32 numbers, over ten times BERT-large.
_LARGEST_WEIGHTS = 16 * 2**30
_SHOWN_ERROR = 500


def find_saved_model(source: str | os.PathLike[str]) -> pathlib.Path:
    """Finds the directory of a SavedModel.

    Args:
        source: a directory, or a URL handle such as `"https://tfhub.dev/..."`, which tensorflow_hub downloads or finds
            in its cache.

    Returns:
        The directory that holds `saved_model.pb`.

    Raises:
        FileNotFoundError: if the directory or its `saved_model.pb` does not exist.
        ImportError: for a URL handle without tensorflow_hub.
        OSError: for a URL handle that cannot be downloaded and is not in the cache.
        ValueError: for a URL of another kind, or if its files are no files, or claim more than they hold.

    Example:

    >>> find_saved_model("no/such/directory")
    Traceback (most recent call last):
    FileNotFoundError: Expected the directory of a SavedModel or a URL handle of TensorFlow Hub. ...
    """
    name = source
    if isinstance(source, str) and _HANDLE.fullmatch(source):
        name = _resolve(source)
    directory = local_path(name, "source", "A model of TensorFlow Hub is given by its URL, which begins with https://.")
    if not os.path.lexists(directory / "saved_model.pb"):
        raise FileNotFoundError(
            "Expected the directory of a SavedModel or a URL handle of TensorFlow Hub. "
            f"Received: {os.fspath(source)!r}, in which there is no saved_model.pb. Check the path."
        )
    _check_files(directory)
    return directory


def _resolve(handle: str) -> str:
    """Finds the directory of a handle in tensorflow_hub's cache, or downloads it there."""
    way_out = (
        f"Where there is a connection, tensorflow_hub.resolve({handle!r}) downloads the model and gives its directory: "
        "copy that to here and give its path, or copy the whole cache and set TFHUB_CACHE_DIR to it."
    )
    try:
        import tensorflow_hub
    except ImportError as error:
        raise ImportError(
            f"tensorflow_hub is needed to download a URL handle, and it does not import here ({error}). "
            f"Received: {handle!r}. Install it with: pip install 'keras-bert-layers[tfhub]'. "
            f"A local directory needs no tensorflow_hub. {way_out}"
        ) from error
    try:
        return tensorflow_hub.resolve(handle)
    # Its resolvers raise errors of urllib, http, tarfile and TensorFlow.
    except Exception as error:
        raise OSError(
            f"Expected a URL handle of TensorFlow Hub that can be downloaded or is in its cache. Received: {handle!r}, "
            f"which is not to be had ({error}). {way_out}"
        ) from error


def _check_files(directory: pathlib.Path) -> None:
    """Refuses what TensorFlow would wait for, or make room for, before it finds it wrong."""
    check_file(directory / "saved_model.pb")
    for name in ("fingerprint.pb", "variables", "assets", "debug"):
        for path in [directory / name, *sorted((directory / name).rglob("*"))]:
            # An asset may be empty.
            is_empty = path.is_file() and path.stat().st_size == 0
            if os.path.lexists(path) and not path.is_dir() and not is_empty:
                check_file(path)
    prefix = directory / "variables" / "variables"
    if not prefix.with_suffix(".index").exists():
        return
    try:
        reader = tf.train.load_checkpoint(os.fspath(prefix))
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    # TensorFlow raises errors of several classes at an index that is none.
    except Exception as error:
        raise _damaged(directory, error) from error
    claimed = sum(math.prod(shape) * _bytes_per_element(dtypes[key]) for key, shape in shapes.items())
    stored = sum(path.stat().st_size for path in prefix.parent.glob("variables.data-*"))
    if claimed > stored:
        raise ValueError(
            f"{prefix}.index is expected to list the variables that are in the files beside it. Received: variables of "
            f"{claimed:,} bytes, and files of {stored:,}. Copy or download the SavedModel again."
        )


def _bytes_per_element(dtype: tf.DType) -> int:
    # A string is stored with its length, which takes one byte or more.
    return 1 if dtype == tf.string else dtype.size


def _damaged(directory: pathlib.Path, error: Exception) -> ValueError:
    return ValueError(
        f"{directory} is expected to hold a SavedModel that TensorFlow can load. "
        f"Received: one at which it fails ({type(error).__name__}: {str(error)[:_SHOWN_ERROR]}). "
        "Copy or download it again."
    )


def load_saved_model(directory: str | os.PathLike[str]) -> Any:
    """Loads a SavedModel that may hold tf.text's operations.

    Weights that are not finite are warned of, not refused as in a checkpoint: what a variable of a finished graph is
    for cannot be known, and an infinite one may be a mask.

    Args:
        directory: the directory that holds `saved_model.pb`.

    Returns:
        What `tf.saved_model.load` returns.

    Raises:
        ValueError: if TensorFlow cannot load it.
    """
    # TensorFlow knows the operations of TF Hub's preprocessing models only after this import.
    import tensorflow_text  # noqa: F401

    try:
        loaded = tf.saved_model.load(os.fspath(directory))
    # Foreign data: TensorFlow's loader raises whatever its parts raise.
    except Exception as error:
        raise _damaged(pathlib.Path(directory), error) from error
    variables = getattr(loaded, "variables", None)
    variables = variables if isinstance(variables, (list, tuple)) else ()
    strange = [variable.name for variable in variables if not _is_finite(variable)]
    if strange:
        warnings.warn(
            f"Weights that are finite numbers are expected. Received: NaN or infinite numbers in {list_names(strange)} "
            f"of the SavedModel {os.fspath(directory)}. If they are weights its outputs are NaN: take another version.",
            stacklevel=2,
        )
    return loaded


def _is_finite(variable: Any) -> bool:
    if not isinstance(variable, tf.Variable) or variable.dtype not in (tf.float32, tf.float16, tf.bfloat16, tf.float64):
        return True
    # Quicker than to look at each number, which is done only where the sum is not finite.
    return bool(tf.math.is_finite(tf.reduce_sum(variable))) or bool(tf.reduce_all(tf.math.is_finite(variable)))


def pack_saved_model(directory: pathlib.Path) -> str:
    """Packs a SavedModel's graph, assets and small variables into text, for a Keras configuration.

    Args:
        directory: the directory that holds `saved_model.pb`.

    Returns:
        A zip file in base64. The weights are not in it, only their names, shapes and types.
    """
    reader = tf.train.load_checkpoint(os.fspath(directory / "variables" / "variables"))
    dtypes = reader.get_variable_to_dtype_map()
    tensors = []
    for key, shape in sorted(reader.get_variable_to_shape_map().items()):
        value = None
        if dtypes[key] == tf.string or math.prod(shape) * dtypes[key].size <= _PACKED_BYTES:
            value = tf.io.serialize_tensor(tf.constant(reader.get_tensor(key), dtypes[key])).numpy()
            value = base64.b64encode(value).decode("ascii")
        tensors.append({"key": key, "dtype": dtypes[key].name, "shape": shape, "value": value})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(directory / "saved_model.pb", "saved_model.pb")
        for path in sorted((directory / "assets").rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(directory).as_posix())
        archive.writestr("tensors.json", json.dumps(tensors))
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def load_packed_saved_model(packed: Any, directory: str) -> Any:
    """Loads the SavedModel that `pack_saved_model` packed, with random numbers for its weights.

    Args:
        packed: what `pack_saved_model` returned.
        directory: an empty directory to write it to.

    Returns:
        As `load_saved_model`.

    Raises:
        ValueError: if it is something else, or would become much larger than it is.
    """
    try:
        content = base64.b64decode(packed, validate=True)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            tensors = _unpack_files(archive, len(content), pathlib.Path(directory))
        _write_variables(tensors, pathlib.Path(directory))
        return load_saved_model(directory)
    # Foreign data, read by half a dozen modules, each with errors of its own.
    except Exception as error:
        raise ValueError(
            "Expected a saved TF Hub layer to carry its SavedModel as a zip file in base64, with saved_model.pb, "
            f"assets and tensors.json. Received: saved_model={reprlib.repr(packed)}, which is none or is damaged "
            f"({type(error).__name__}: {str(error)[:_SHOWN_ERROR]}). Save the model again where its SavedModel is."
        ) from error


def _unpack_files(archive: zipfile.ZipFile, packed_bytes: int, directory: pathlib.Path) -> list[dict[str, Any]]:
    entries = archive.infolist()
    unpacked_bytes = sum(entry.file_size for entry in entries)
    largest = max(_LARGEST_RATIO * packed_bytes, _ALWAYS_UNPACKED)
    # zipfile reads no more of an entry than its directory says.
    if unpacked_bytes > largest or len(entries) > _MOST_FILES:
        raise ValueError(
            f"at most {_MOST_FILES} files of {largest:,} bytes are expected in {packed_bytes:,} packed bytes, not "
            f"{len(entries)} of {unpacked_bytes:,}"
        )
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{entry.filename[:100]!r} is packed in another way than pack_saved_model's")
        if entry.filename == "saved_model.pb" or entry.filename.startswith("assets/"):
            # `extract` keeps every name below the directory.
            archive.extract(entry, directory)
    return json.loads(archive.read("tensors.json"))


def _write_variables(tensors: list[dict[str, Any]], directory: pathlib.Path) -> None:
    claimed = sum(abs(math.prod(tensor["shape"])) * tf.as_dtype(tensor["dtype"]).size for tensor in tensors)
    if claimed > _LARGEST_WEIGHTS:
        raise ValueError(f"weights of at most {_LARGEST_WEIGHTS:,} bytes are expected, not of {claimed:,}")
    values = []
    for number, tensor in enumerate(tensors):
        if tensor["value"] is not None:
            values.append(_parse_tensor(base64.b64decode(tensor["value"]), tf.as_dtype(tensor["dtype"])))
        elif tf.as_dtype(tensor["dtype"]).is_floating:
            # Not zeros, with which every gradient is zero, and nobody could tell which weights an output uses.
            values.append(tf.random.stateless_normal(tensor["shape"], (0, number), dtype=tensor["dtype"]))
        else:
            values.append(tf.zeros(tensor["shape"], tensor["dtype"]))
    (directory / "variables").mkdir()
    tf.raw_ops.SaveV2(
        prefix=os.fspath(directory / "variables" / "variables"),
        tensor_names=[tensor["key"] for tensor in tensors],
        shape_and_slices=[""] * len(tensors),
        tensors=values,
    )


def _parse_tensor(serialized: bytes, dtype: tf.DType) -> tf.Tensor:
    shape = [dimension.size for dimension in tensor_pb2.TensorProto.FromString(serialized).tensor_shape.dim]
    # Three bytes can say "a zero, 10^10 times".
    if abs(math.prod(shape)) * _bytes_per_element(dtype) > len(serialized):
        raise ValueError(f"a tensor of shape {shape} is not in {len(serialized)} bytes")
    return tf.io.parse_tensor(serialized, dtype)


class TFHubSavedModel:
    """A loaded SavedModel of TensorFlow Hub that knows how to travel inside a Keras configuration.

    Args:
        source: a directory, a URL handle, a loaded object, or the dict that `get_config` returned.

    Attributes:
        loaded: what `tf.saved_model.load` returned.
    """

    def __init__(self, source: Any):
        self._packed: str | None = None
        # Kept while the object lives: an export copies the assets from where they were loaded.
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(source, dict):
            self._packed = source.get("saved_model")
            self._directory = tempfile.TemporaryDirectory()
            self.loaded = load_packed_saved_model(self._packed, self._directory.name)
        elif isinstance(source, (str, os.PathLike)):
            directory = find_saved_model(source)
            self.loaded = load_saved_model(directory)
            self._packed = pack_saved_model(directory)
        else:
            self.loaded = source

    def get_config(self) -> dict[str, str]:
        """Returns `{"saved_model": ...}`, the packed SavedModel."""
        if self._packed is None:
            with tempfile.TemporaryDirectory() as directory:
                tf.saved_model.save(self.loaded, directory)
                self._packed = pack_saved_model(pathlib.Path(directory))
        return {"saved_model": self._packed}


def check_saved_source(layer_name: str, source: Any) -> None:
    """Refuses to load a graph from a Keras file in safe mode, for a TensorFlow graph can read and write files.

    Args:
        layer_name: the class of the layer that holds the graph.
        source: what the layer's configuration has for its graph.

    Raises:
        ValueError: while Keras loads a file in safe mode; or if the configuration names a place to load from instead of
            carrying the graph.
    """
    from keras.src.saving import serialization_lib

    if serialization_lib.in_safe_mode():
        raise ValueError(
            f"{layer_name} holds the TensorFlow graph of a SavedModel, which is executable, and Keras loads it only "
            "where that is allowed. Received: safe_mode=True. If you trust the file: "
            "keras.saving.load_model(path, safe_mode=False)."
        )
    if not isinstance(source, dict):
        raise ValueError(
            f"Expected the configuration of a {layer_name} to carry its SavedModel, as `get_config` packs it. "
            f"Received: source={reprlib.repr(source)}. A directory or a URL is for the constructor: "
            f"{layer_name}(source)."
        )
