import os
from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.atomic_directory import atomic_directory
from keras_bert_layers.encoders.layerwise_encoder import HUGGINGFACE_NAMES, TFHUB_NAMES, LayerwiseEncoder
from keras_bert_layers.text.text_layer import TextLayer


def export_saved_model(
    model: keras.Model,
    directory: str | os.PathLike[str],
    preprocessor: TextLayer | keras.Model | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a model as one SavedModel for TensorFlow Serving: text -> the model's outputs.

    The signature `serving_default` has the input `text`, or `text_a` and `text_b` in the order of the model's inputs
    for pairs, whatever the model calls them; other inputs keep their names. An output is named after its key where the
    model's outputs, or those of the encoder that it comes from, are a dict, else after its layer. The K tensors of a
    list are numbered, as `encoder_outputs_0` to `encoder_outputs_K-1`. Half precision leaves as float32.

    The vocabulary is inside the graph and each weight is stored once. (Keras's own `model.export` gives the same
    numbers and stores each weight twice: keras issue 23553.) The SavedModel is written beside `directory` and moved
    into place: a server that watches the place sees all of it or nothing.

    Args:
        model: a functional model on texts or on ids.
        directory: where to write. For TensorFlow Serving its last part is the version, as in `"serving/sentiment/1"`.
        preprocessor: for a model on ids that is to take texts: the preprocessor that made the ids, as it was called
            (on texts or on pairs), or a functional model of it. Either family of key names will do.
        overwrite: whether to replace `directory` where it exists.

    Raises:
        FileExistsError: if `directory` exists and `overwrite` is false.
        ValueError: if the model is not functional, or the preprocessor does not make what it takes.

    Example:

    ```python
    export_saved_model(model, "serving/sentiment/1")
    ```
    """
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ValueError(
            "export_saved_model expects a functional model, keras.Model(inputs, outputs). "
            f"Received: model of class {type(model).__name__}, without inputs and outputs of its own. "
            "Call it on keras.Input(...) tensors and make a functional model of the result."
        )
    output_names = _output_names(model)
    if preprocessor is not None:
        model = _join(preprocessor, model)
    with atomic_directory(directory, overwrite) as work:
        module = _servable(model, output_names)
        tf.saved_model.save(module, os.fspath(work), signatures={"serving_default": module.serve})


def _join(preprocessor: TextLayer | keras.Model, model: keras.Model) -> keras.Model:
    """Puts a preprocessor before a model on ids; inputs of the model that it does not make stay inputs."""
    texts: Any
    if isinstance(preprocessor, keras.Model):
        texts, made = preprocessor.inputs, preprocessor.output
    else:
        count = preprocessor.number_of_texts()
        names = ["text"] if count == 1 else ["text_a", "text_b"]
        texts = [keras.Input(shape=(), dtype="string", name=name) for name in names]
        made = preprocessor(texts[0] if count == 1 else tuple(texts))
    others, values = [], []
    for tensor in model.inputs:
        name = tensor.name
        key = TFHUB_NAMES[HUGGINGFACE_NAMES.index(name)] if name in HUGGINGFACE_NAMES else name
        if key in made:
            value = made[key]
            if None not in (value.shape[1], tensor.shape[1]) and value.shape[1] != tensor.shape[1]:
                raise ValueError(
                    f"The model expects {name!r} of {tensor.shape[1]} tokens, and the preprocessor makes "
                    f"{value.shape[1]}. Received: sequence_length={value.shape[1]}. "
                    f"Give a preprocessor with sequence_length={tensor.shape[1]}, or make the model on "
                    "keras.Input((None,), dtype='int32')."
                )
            values.append(value if value.dtype == tensor.dtype else keras.ops.cast(value, tensor.dtype))
        else:
            others.append(keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name))
            values.append(others[-1])
    if len(others) == len(values):
        raise ValueError(
            f"With `preprocessor`, export_saved_model expects a model on ids whose inputs are named {TFHUB_NAMES} or "
            f"{HUGGINGFACE_NAMES}. Received: a model with the inputs {[tensor.name for tensor in model.inputs]}. "
            "Name the keras.Input tensors so; a model that takes texts needs no `preprocessor`."
        )
    outputs = model(keras.tree.pack_sequence_as(model.input, values))
    return keras.Model([*texts, *others], outputs)


def _servable(model: keras.Model, output_names: list[str]) -> tf.Module:
    """The model as a module of plain TensorFlow that tracks each weight once."""
    outer_names = [tensor.name for tensor in model.inputs]
    texts = [number for number, tensor in enumerate(model.inputs) if tensor.dtype == "string"]
    for letter, number in zip("abcdefghijklmnopqrstuvwxyz", texts, strict=False):
        outer_names[number] = "text" if len(texts) == 1 else f"text_{letter}"

    def serve(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        values = keras.tree.pack_sequence_as(model.input, [inputs[name] for name in outer_names])
        outputs = keras.tree.flatten(model(values, training=False))
        return {
            # REST knows no half precision.
            name: tf.cast(output, "float32") if output.dtype in (tf.float16, tf.bfloat16) else output
            for name, output in zip(output_names, outputs, strict=True)
        }

    specs = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype, name)
        for name, tensor in zip(outer_names, model.inputs, strict=True)
    }
    module = tf.Module()
    module.serve = tf.function(serve, autograph=False).get_concrete_function(**specs)
    # Not the model itself: Keras and TensorFlow would each store its weights.
    module.weights = list(module.serve.variables)
    # A layer without weights may hold tables and vocabulary files.
    module.resources = [layer for layer in model._flatten_layers(include_self=False) if not layer.variables]
    return module


def _output_names(model: keras.Model) -> list[str]:
    """One name for each of the model's outputs, in their flat order."""
    names = []
    for path, tensor in keras.tree.flatten_with_path(model.output):
        operation = tensor._keras_history.operation
        if path and isinstance(path[0], str):
            names.append("_".join(map(str, path)))
        elif isinstance(operation, LayerwiseEncoder):
            # An encoder names its tensors by their keys.
            names.append(tensor.name)
        else:
            names.append(operation.name)
    return [f"{name}_{names[:i].count(name)}" if names.count(name) > 1 else name for i, name in enumerate(names)]
