"""TensorFlow Hub's SavedModels: finding and loading one, and carrying its graph inside a Keras configuration."""

import base64
import io
import json
import os
import pathlib
import tempfile
import zipfile
from typing import Any

import tensorflow as tf

# Larger tensors are weights, which a Keras file keeps by itself: of those only shape and type are packed.
_PACKED_BYTES = 4096


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

    Example:

    >>> find_saved_model("no/such/directory")
    Traceback (most recent call last):
    FileNotFoundError: Expected the directory of a SavedModel or a URL handle of TensorFlow Hub. ...
    """
    name = os.fspath(source)
    if "://" in name:
        try:
            import tensorflow_hub
        except ImportError as error:
            raise ImportError(
                f"tensorflow_hub is needed to download a URL handle, and it does not import here ({error}). "
                f"Received: {name!r}. Install it with: pip install 'keras-bert-layers[tfhub]'. "
                "A local directory needs no tensorflow_hub."
            ) from error
        name = tensorflow_hub.resolve(name)
    directory = pathlib.Path(name)
    if not (directory / "saved_model.pb").is_file():
        raise FileNotFoundError(
            "Expected the directory of a SavedModel or a URL handle of TensorFlow Hub. "
            f"Received: {os.fspath(source)!r}, in which there is no saved_model.pb. Check the path."
        )
    return directory


def load_saved_model(directory: str | os.PathLike[str]) -> Any:
    """Loads a SavedModel that may hold tf.text's operations.

    Args:
        directory: the directory that holds `saved_model.pb`.

    Returns:
        What `tf.saved_model.load` returns.
    """
    # TensorFlow knows the operations of TF Hub's preprocessing models only after this import.
    import tensorflow_text  # noqa: F401

    return tf.saved_model.load(os.fspath(directory))


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
        if dtypes[key] == tf.string or tf.TensorShape(shape).num_elements() * dtypes[key].size <= _PACKED_BYTES:
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


def unpack_saved_model(packed: str, directory: pathlib.Path) -> None:
    """Writes the SavedModel that `pack_saved_model` packed, with random numbers for its weights.

    Args:
        packed: what `pack_saved_model` returned.
        directory: an empty directory to write to.
    """
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(packed))) as archive:
        tensors = json.loads(archive.read("tensors.json"))
        # `extract` keeps every name below the directory.
        for name in archive.namelist():
            if name != "tensors.json":
                archive.extract(name, directory)
    values = []
    for number, tensor in enumerate(tensors):
        if tensor["value"] is not None:
            values.append(tf.io.parse_tensor(base64.b64decode(tensor["value"]), tensor["dtype"]))
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
            self._packed = source["saved_model"]
            self._directory = tempfile.TemporaryDirectory()
            unpack_saved_model(source["saved_model"], pathlib.Path(self._directory.name))
            self.loaded = load_saved_model(self._directory.name)
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

    @classmethod
    def from_config(cls, config: Any) -> "TFHubSavedModel":
        """Unpacks what `get_config` returned, and nothing else: a file must not say what is read or downloaded.

        Args:
            config: the dict that `get_config` returned.

        Returns:
            The `TFHubSavedModel`.

        Raises:
            ValueError: for a path, a URL handle or anything else.
        """
        packed = config.get("saved_model") if isinstance(config, dict) else None
        if not isinstance(packed, str):
            raise ValueError(
                "A saved configuration is expected to hold the SavedModel itself, packed as text. "
                f"Received: source of type {type(config).__name__}, and nothing was read. This package did not write "
                "this configuration; make a new layer from a SavedModel that you trust."
            )
        return cls({"saved_model": packed})


def refuse_in_safe_mode(layer_name: str) -> None:
    """Refuses to load a graph from a Keras file in safe mode, for a TensorFlow graph can read and write files.

    Args:
        layer_name: the class of the layer that holds the graph.

    Raises:
        ValueError: while Keras loads a file in safe mode.
    """
    from keras.src.saving import serialization_lib

    if serialization_lib.in_safe_mode():
        raise ValueError(
            f"{layer_name} holds the TensorFlow graph of a SavedModel, which is executable, and Keras loads it only "
            "where that is allowed. Received: safe_mode=True. If you trust the file: "
            "keras.saving.load_model(path, safe_mode=False)."
        )
