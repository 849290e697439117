"""What depends on versions and settings of Keras and TensorFlow, and on names of theirs that are not public."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


def check_keras() -> None:
    """Checks that `import keras` is Keras 3 on TensorFlow, before anything else is imported.

    Raises:
        ImportError: if `TF_USE_LEGACY_KERAS` is set or Keras runs on another backend than TensorFlow.
    """
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "").lower()
    # transformers sets the variable when its TensorFlow classes are imported. The user did not choose it then, and
    # `refuse_legacy_tensors` checks each call instead.
    if legacy in ("1", "true") and "transformers" not in sys.modules:
        raise ImportError(
            "keras_bert_layers expects Keras 3, and TF_USE_LEGACY_KERAS turns `tf.keras` into the legacy tf_keras, in "
            "whose models a Keras 3 layer has no weights and never trains. "
            f"Received: TF_USE_LEGACY_KERAS={os.environ['TF_USE_LEGACY_KERAS']}. "
            "Unset the variable (transformers finds tf_keras without it) and build models with `import keras`."
        )
    # Read before importing keras, which fails with another message where the backend is not installed.
    backend = os.environ.get("KERAS_BACKEND")
    if not backend or "keras" in sys.modules:
        import keras

        backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ImportError(
            "keras_bert_layers expects Keras to run on TensorFlow: its tokenizer, its encoders and its exports are "
            f"TensorFlow graphs. Received: KERAS_BACKEND={backend}. "
            "Set the environment variable KERAS_BACKEND=tensorflow (or `backend` in ~/.keras/keras.json) before "
            "keras is imported."
        )


def refuse_legacy_tensors(layer: Any, inputs: Any) -> None:
    """Checks that no input of a layer is a symbolic tensor of the legacy tf_keras.

    Args:
        layer: the layer that is called; its class and name appear in the message.
        inputs: what the layer was called on: a tensor, or lists, tuples and dicts of them.

    Raises:
        TypeError: if `inputs` holds a tf_keras tensor.
    """
    if isinstance(inputs, dict):
        inputs = list(inputs.values())
    if isinstance(inputs, (list, tuple)):
        for value in inputs:
            refuse_legacy_tensors(layer, value)
    elif type(inputs).__module__.split(".")[0] == "tf_keras":
        raise TypeError(
            f"{type(layer).__name__} is a Keras 3 layer and expects Keras 3 inputs: in a model of the legacy tf_keras "
            "it would have no weights and never train. "
            f"Received: inputs={inputs!r} (of type {type(inputs).__module__}.{type(inputs).__name__}). "
            "Build the model with `import keras` (keras.Input, keras.Model)."
        )


def implicit_mask(tensor: Any) -> Any:
    """Returns the mask that Keras attached to a tensor for the layers that come after; None where there is none."""
    return getattr(tensor, "_keras_mask", None)


def set_implicit_mask(tensor: Any, mask: Any) -> None:
    """Attaches a mask to a tensor, as Keras does with what a layer's `compute_mask` returns."""
    tensor._keras_mask = mask


def is_alias(variable: Any, tf_variable: Any) -> bool:
    """Whether a Keras variable that was made from a `tf.Variable` is that variable, and not a copy."""
    return variable._value is tf_variable


def onednn_is_on() -> bool:
    """Whether TensorFlow's graph optimiser fuses operations with oneDNN in this process.

    The default is on for processors with instructions for neural networks (VNNI, bfloat16, AMX). The environment
    variable `TF_ENABLE_ONEDNN_OPTS`, read when TensorFlow is imported, turns it on or off on every x86 processor.
    """
    # TensorFlow has no public way to ask.
    from tensorflow.python.util import _pywrap_util_port

    return bool(_pywrap_util_port.IsMklEnabled())


def functional_model(operation: Any) -> Any:
    """The functional model that an operation is, of a Sequential the one inside.

    Returns:
        None for any other layer, and for a subclass with a `call` of its own, which may do more.
    """
    import keras
    from keras.src.models.functional import Functional

    if isinstance(operation, keras.Sequential) and type(operation).call is keras.Sequential.call:
        # None until it is built.
        return operation._functional
    return operation if isinstance(operation, Functional) and type(operation).call is Functional.call else None


def functional_nodes(model: Any) -> list[Any]:
    """The calls that a functional model is made of, in an order in which they can run.

    Returns:
        Keras's nodes. Each has the `operation` that is called, `input_tensors` and `outputs`, and `arguments`, whose
        `fill_in(values)` gives positional and keyword arguments; `values` maps the `id` of a KerasTensor to its value.
    """
    nodes = (functional_model(model) or model)._nodes_by_depth
    return [node for depth in sorted(nodes, reverse=True) for node in nodes[depth] if not node.is_input]


def operation_of(tensor: Any) -> Any:
    """The layer or operation that a KerasTensor comes from."""
    return tensor._keras_history.operation


def layers_inside(model: Any) -> list[Any]:
    """The layers of a model or layer, and those inside of them."""
    return list(model._flatten_layers(include_self=False))


def is_autocast(weight: Any) -> bool:
    """Whether a layer sees a Keras variable in its compute dtype and not in the variable's own."""
    return weight._autocast


def is_stateful(operation: str) -> bool | None:
    """Whether an operation of TensorFlow's depends on, or changes, more than its inputs and outputs.

    Args:
        operation: its name.

    Returns:
        None for an operation that this TensorFlow does not have, and so cannot run.

    Example:

    >>> is_stateful("MatMul"), is_stateful("WriteFile"), is_stateful("NoSuchOperation")
    (False, True, None)
    """
    # No public function tells it without a node in a graph.
    from tensorflow.python.framework import op_def_registry

    definition = op_def_registry.get(operation)
    return None if definition is None else definition.is_stateful


def split_at_spaces(text: Any) -> tuple[Any, Any, Any]:
    """Splits texts at spaces alone, and at no other white space.

    Args:
        text: strings `[batch]`.

    Returns:
        The words, ragged `[batch, (words)]`, and the start and the end of each in its text, in bytes, int64
        `[all words]`.
    """
    import tensorflow as tf

    # `tf_text.WhitespaceTokenizer` puts a dozen assertions around this op, which take longer than the op.
    from tensorflow_text.python.ops.whitespace_tokenizer import gen_whitespace_tokenizer_v2

    # The bitmap of what splits: bit 32, the space.
    words, row_splits, starts, ends = gen_whitespace_tokenizer_v2.tf_text_whitespace_tokenize_with_offsets_v2(
        input_values=text, input_config=b"\0\0\0\0\1"
    )
    words = tf.RaggedTensor.from_row_splits(words, row_splits, validate=False)
    return words, tf.cast(starts, tf.int64), tf.cast(ends, tf.int64)


def compiled_by_xla() -> bool:
    """Whether the graph under construction is one that XLA compiles."""
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    if tf.executing_eagerly():
        return False
    # TensorFlow has no public way to ask.
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def sublayers(layer: Any) -> list[Any]:
    """The layers directly inside a layer; models alone have a public `layers`."""
    return list(layer._layers)


def seed_generators(layer: Any) -> list[Any]:
    """The seed generators of a layer and of all layers inside; Keras shows the states alone, among `variables`."""
    inside = (generator for sublayer in sublayers(layer) for generator in seed_generators(sublayer))
    return [*layer._seed_generators, *inside]


def called_on_placeholders() -> bool:
    """Whether it is Keras that calls a layer, on placeholders that are float32 whatever the data are.

    Keras does so to rebuild a subclassed model that it loads. It ignores errors that a layer raises then, and leaves
    the weights of that layer and of all after it random.
    """
    # Keras has no public way to ask.
    from keras.src.backend.common.symbolic_scope import in_symbolic_scope

    return in_symbolic_scope()


def check_saved_dtype(layer_name: str, config: Any) -> None:
    """Checks that the dtype policy in a saved configuration is one, since Keras's own error would not say so.

    Args:
        layer_name: the class of the layer that was saved.
        config: its configuration.

    Raises:
        ValueError: if it is something else.
    """
    import keras

    saved = config.get("dtype") if isinstance(config, dict) else None
    if not isinstance(saved, dict):
        return
    try:
        policy = keras.dtype_policies.deserialize(saved)
    except Exception as error:
        policy = error
    if not isinstance(policy, (keras.dtype_policies.DTypePolicy, keras.dtype_policies.DTypePolicyMap)):
        raise ValueError(
            f"Expected the saved configuration of a {layer_name} to hold a dtype policy. "
            f"Received: dtype={str(saved)[:200]}. The file is damaged or of another version."
        )


@contextlib.contextmanager
def variables_without_values() -> Iterator[None]:
    """Variables made inside have a name and a shape, and take no memory until the block ends without an error."""
    # Keras has no public way to drop the variables that wait for their values.
    import keras
    from keras.src.backend.common import global_state

    waiting = list(global_state.get_global_attribute("uninitialized_variables", []))
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    except BaseException:
        global_state.set_global_attribute("uninitialized_variables", waiting)
        raise
    made = global_state.get_global_attribute("uninitialized_variables", [])
    made = [variable for variable in made if keras.backend.is_float_dtype(variable.dtype)]
    trainable = [variable.trainable for variable in made]
    # TensorFlow's tapes never watch a variable that was made frozen, also when its layer is thawed.
    for variable in made:
        variable.trainable = True
    # The end of any such block gives all of them their values.
    with keras.StatelessScope():
        pass
    for variable, value in zip(made, trainable, strict=True):
        variable.trainable = value
