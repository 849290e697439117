import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.encoders.encoder_contract import EncoderContract
from keras_bert_layers.encoders.huggingface_encoder import HuggingFaceEncoder
from keras_bert_layers.encoders.tfhub_encoder import TFHubEncoder
from keras_bert_layers.keras_compatibility import is_autocast, layers_inside
from keras_bert_layers.serving.export_options import ExportOptions

# Smaller tensors are not worth a scale: they stay float32.
SMALLEST_QUANTIZED = 1024
_STORED_TYPES = {dtype.as_datatype_enum for dtype in (tf.int8, tf.bfloat16, tf.float16)}


class StoredWeights:
    r"""The weights of a model as an export stores them: as they are, in 16 bits, or in int8.

    With `dtype` the encoder computes in it too, and the other layers in float32 from weights stored in it. (But with
    float16 on CPU, where TensorFlow has no fast float16, all compute in float32.) With
    `quantize="int8"` each matrix \(W\) is stored as \(Q = \mathrm{round}(W / s)\) with one scale
    \(s_j = \max_i |W_{ij}| / 127\) for each column, and is \(Q s\) again before it is used; of an embedding only the
    rows that are looked up. Vectors stay float32. Activations are not quantised.

    `PrunedFunction` has a signature compute with them in two steps. In the context `substituted` the function is traced
    with each weight as stored and cast to what it is. Of an embedding that would turn the whole table into floats to
    look up a few rows: `gather_before_cast` changes the traced operations such that rows are looked up first.

    Args:
        models: the models whose weights they are, which are left as they are.
        options: `dtype`, `quantize` and `target` of the export.

    Raises:
        ValueError: for wrapped encoders, and models that are quantised already, unless the weights stay as they are.
    """

    def __init__(self, models: Sequence[keras.Model], options: ExportOptions):
        self.dtype, self.quantize = options.dtype, options.quantize
        self._half_layers: list[keras.layers.Layer] = []
        # `id` of a Keras variable -> what is stored: one variable, or rounded numbers and their scale.
        self._stored: dict[int, tuple[tf.Variable, ...]] = {}
        self._weights: list[Any] = []
        if options.is_exact:
            return
        layers = list({id(layer): layer for model in models for layer in layers_inside(model)}.values())
        received = f"dtype={options.dtype!r}, quantize={options.quantize!r}"
        wrapped = [layer for layer in layers if isinstance(layer, (HuggingFaceEncoder, TFHubEncoder))]
        if wrapped:
            raise ValueError(
                "A wrapped encoder computes with the variables of the object that it wraps, in their dtype. "
                f"Received: {received} with a {type(wrapped[0]).__name__}. Load the same checkpoint with "
                "BertEncoder.from_pretrained(...)."
            )
        if any(getattr(layer.dtype_policy, "quantization_mode", None) for layer in layers):
            raise ValueError(
                f"Expected a model that is not quantised yet. Received: {received} with a model after "
                "model.quantize(...). Export it without them, or export the model as it was before."
            )
        in_half = self.dtype == "bfloat16" or (self.dtype == "float16" and options.target == "gpu")
        encoders = [layer for layer in layers if isinstance(layer, EncoderContract)]
        inner = {id(layer): layer for encoder in encoders for layer in (encoder, *layers_inside(encoder))}
        self._half_layers = list(inner.values()) if in_half else []
        pretrained = [weight for encoder in encoders for part in encoder.pretrained_layers for weight in part.weights]
        # Without autocast a layer computes in the dtype that its weight declares.
        self._computed_in_half = {id(weight) for weight in pretrained if in_half and is_autocast(weight)}
        weights = {id(weight): weight for model in models for weight in model.weights}
        self._weights = [weight for weight in weights.values() if "float" in weight.dtype]
        for weight in self._weights:
            self._stored[id(weight)] = self._store(weight)

    def _store(self, weight: Any) -> tuple[tf.Variable, ...]:
        value, name = tf.convert_to_tensor(weight.value), weight.path
        if self.dtype:
            return (tf.Variable(tf.cast(value, self.dtype), trainable=False, name=name),)
        if value.shape.rank < 2 or value.shape.num_elements() < SMALLEST_QUANTIZED:
            return ()
        value = tf.cast(value, "float32")
        scale = tf.reduce_max(tf.abs(value), axis=list(range(value.shape.rank - 1)), keepdims=True) / 127.0
        scale = tf.where(scale > 0, scale, 1.0)
        rounded = tf.cast(tf.round(value / scale), "int8")
        return (
            tf.Variable(rounded, trainable=False, name=name),
            tf.Variable(scale, trainable=False, name=f"{name}_scale"),
        )

    @contextlib.contextmanager
    def substituted(self) -> Iterator[None]:
        """A context for tracing, in which the model computes with what is stored."""
        if not self._stored:
            yield
            return
        policies = [layer.dtype_policy for layer in self._half_layers]
        try:
            for layer in self._half_layers:
                layer.dtype_policy = f"mixed_{self.dtype}"
            with keras.StatelessScope() as scope:
                for weight in self._weights:
                    value = self._value(weight)
                    if value is not None:
                        scope.add_update((weight, value))
                yield
        finally:
            for layer, policy in zip(self._half_layers, policies, strict=True):
                layer.dtype_policy = policy

    def _value(self, weight: Any) -> Any:
        stored = self._stored[id(weight)]
        if not stored:
            return None
        if self.dtype:
            value = stored[0].read_value()
            return value if id(weight) in self._computed_in_half else tf.cast(value, weight.dtype)
        rounded, scale = stored
        return tf.cast(tf.cast(rounded, "float32") * scale, weight.dtype)

    def gather_before_cast(self, graph_def: Any) -> None:
        """Has a graph look rows up before they become float32, where it was traced the other way round."""
        if not self._stored:
            return
        nodes = {node.name: node for node in graph_def.node}

        def producer(name: str) -> Any:
            node = nodes[name.split(":")[0]]
            return producer(node.input[0]) if node.op == "Identity" else node

        for lookup in [node for node in graph_def.node if node.op == "GatherV2"]:
            table = producer(lookup.input[0])
            scale = table.input[1] if table.op == "Mul" else None
            cast = producer(table.input[0]) if scale else table
            if cast.op != "Cast" or cast.attr["SrcT"].type not in _STORED_TYPES:
                continue
            name = lookup.name
            rows = graph_def.node.add()
            rows.CopyFrom(lookup)
            rows.name = f"{name}/stored"
            rows.input[0] = cast.input[0]
            rows.attr["Tparams"].CopyFrom(cast.attr["SrcT"])
            floats = graph_def.node.add() if scale else lookup
            floats.CopyFrom(cast)
            floats.name = f"{name}/float32" if scale else name
            floats.input[:] = [rows.name]
            if scale:
                lookup.CopyFrom(table)
                lookup.name = name
                lookup.input[:] = [floats.name, scale]
