"""How a signature's two halves become one function for a server, on CPU or on GPU."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_bert_layers.encoders.execution import graph_for
from keras_bert_layers.serving.pruned_function import PrunedFunction
from keras_bert_layers.serving.signatures import Signature, Tensors
from keras_bert_layers.token_inputs import MASK_NAMES, PADDING

# Of all positions; each rounded up to a multiple of 8.
BUCKET_PARTS = (8, 4, 2, 1)


class ServableSignature:
    """A signature as a server runs it.

    Target "cpu" is one graph, where the encoder removes padding by itself. For target "gpu" strings stay on the host,
    ids are padded or cut to the next of `length_buckets` and the batch to the next of `batch_sizes`, and what is done
    with them is one function for XLA, compiled for each pair of the two when it first comes.

    Args:
        signature: what to serve.
        target: `"cpu"` or `"gpu"`.
        length_buckets: ascending, for `"gpu"`.
        batch_sizes: ascending, for `"gpu"`.
        substituted: a context in which the weights have the values that are stored, of `StoredWeights`.
        gather_before_cast: changes the traced operations in place, of `StoredWeights`.

    Attributes:
        function: the `tf.ConcreteFunction`.
        variables: the variables that it reads.
        resources: the handles of tables and the like that it reads.
    """

    def __init__(
        self,
        signature: Signature,
        target: str,
        length_buckets: Sequence[int] | None,
        batch_sizes: Sequence[int],
        substituted: Callable[[], Any],
        gather_before_cast: Callable[[Any], None],
    ):
        self.signature = signature
        self._tokenize = (
            None if signature.tokenize is None else PrunedFunction(signature.tokenize, _texts(signature.inputs))
        )
        self.variables: list[tf.Variable] = []
        self.resources: list[tf.Tensor] = []
        self._encode: Callable[..., Tensors] | None = None
        self._make_strings: PrunedFunction | None = None

        def scoped(compute: Callable[..., Tensors]) -> Callable[..., Tensors]:
            def run(**inputs: tf.Tensor) -> Tensors:
                with substituted(), graph_for(target):
                    # JSON has no 16-bit floats.
                    return {name: _readable(output) for name, output in compute(**inputs).items()}

            return run

        made: dict[str, tf.TensorSpec] = {}
        if signature.encode is not None:
            compute = scoped(signature.encode)
            specs = {name: spec for name, spec in signature.inputs.items() if spec.dtype != tf.string}
            specs |= {} if self._tokenize is None else self._tokenize.outputs
            pruned = PrunedFunction(compute, specs, rewrite=gather_before_cast)
            made = pruned.outputs
            if target == "gpu":
                assert length_buckets is not None
                self._encode = _bucketed(compute, specs, pruned, gather_before_cast, length_buckets, batch_sizes)
            else:
                self._encode = lambda **inputs: pruned(**{name: inputs[name] for name in pruned.inputs})
            needed_inputs = {name: spec for name, spec in signature.inputs.items() if name in pruned.inputs}
            if self._tokenize is None:
                # A client need not send what changes nothing.
                signature.inputs = needed_inputs
            self._take(pruned)
        if signature.make_strings is not None:
            specs = _texts(signature.inputs) | {name: made[name] for name in signature.for_strings}
            self._make_strings = PrunedFunction(scoped(signature.make_strings), specs, rewrite=gather_before_cast)
            self._take(self._make_strings)
        if self._tokenize is not None:
            self._take(self._tokenize)
        self.function = tf.function(self._serve, autograph=False).get_concrete_function(**signature.inputs)

    def _serve(self, **inputs: tf.Tensor) -> Tensors:
        values = dict(inputs)
        if self._tokenize is not None:
            # Strings have no place on a GPU, nor has anything that is done with them.
            with tf.device("CPU:0"):
                values |= self._tokenize(**{name: inputs[name] for name in self._tokenize.inputs})
        outputs = {name: values[name] for name in self.signature.returned_as_is}
        if self._encode is not None:
            outputs |= self._encode(**values)
        if self._make_strings is not None:
            with tf.device("CPU:0"):
                outputs |= self._make_strings(**{name: (outputs | values)[name] for name in self._make_strings.inputs})
            outputs = {name: output for name, output in outputs.items() if name not in self.signature.for_strings}
        return {name: tf.identity(_readable(output), _operation_name(name)) for name, output in outputs.items()}

    def _take(self, function: PrunedFunction) -> None:
        self.variables += function.variables
        self.resources += function.resources


def default_length_buckets(sequence_length: int) -> list[int]:
    """An eighth, a quarter, a half and the whole of a sequence, each rounded up to a multiple of 8."""
    return sorted({min(sequence_length, -(-sequence_length // part // 8) * 8) for part in BUCKET_PARTS})


def _operation_name(name: str) -> str | None:
    """The name of an output for its operation, where TensorFlow takes it for one."""
    return name if re.fullmatch(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", name) else None


def _texts(inputs: Mapping[str, tf.TensorSpec]) -> dict[str, tf.TensorSpec]:
    return {name: spec for name, spec in inputs.items() if spec.dtype == tf.string}


def _readable(tensor: tf.Tensor) -> tf.Tensor:
    return tf.cast(tensor, "float32") if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def _by_token(name: str) -> bool:
    return _padding_name(name) is not None


def _padding_name(name: str) -> str | None:
    """The name that `PADDING` knows; with several preprocessors a name ends in a number."""
    return next((known for known in PADDING if name == known or name.startswith(f"{known}_")), None)


def _bucketed(
    compute: Callable[..., Tensors],
    specs: Mapping[str, tf.TensorSpec],
    unbucketed: PrunedFunction,
    gather_before_cast: Callable[[Any], None],
    length_buckets: Sequence[int],
    batch_sizes: Sequence[int],
) -> Callable[..., Tensors]:
    """Computes on ids that have the length of a bucket and the rows of an allowed batch, and cuts the result back."""
    lengths, rows = tf.constant(length_buckets), tf.constant(batch_sizes)
    static_length = length_buckets[0] if len(length_buckets) == 1 else None

    def bucket_spec(name: str, spec: tf.TensorSpec) -> tf.TensorSpec:
        if _by_token(name):
            return tf.TensorSpec([None, static_length, *spec.shape[2:]], spec.dtype, name)
        return spec

    pruned = PrunedFunction(
        compute,
        {name: bucket_spec(name, spec) for name, spec in specs.items()},
        jit_compile=True,
        rewrite=gather_before_cast,
    )
    compiled = tf.function(pruned, jit_compile=True, autograph=False)

    def serve(**inputs: tf.Tensor) -> Tensors:
        needed = {name: inputs[name] for name in pruned.inputs}
        tokens = [value for name, value in needed.items() if _by_token(name)]
        with tf.device("CPU:0"):
            batch = tf.shape(next(iter(needed.values())))[0]
            longest, sequence = _longest(needed, tokens), tf.shape(tokens[0])[1]
            checks = [
                tf.debugging.assert_less_equal(
                    batch, batch_sizes[-1], f"Expected a batch of at most {batch_sizes[-1]} rows."
                ),
                tf.debugging.assert_less_equal(
                    longest, length_buckets[-1], f"Expected rows of at most {length_buckets[-1]} tokens."
                ),
            ]
            with tf.control_dependencies([check for check in checks if check is not None]):
                length = tf.gather(lengths, tf.searchsorted(lengths, longest[None])[0])
                size = tf.gather(rows, tf.searchsorted(rows, batch[None])[0])
            fitted = {name: _fit(name, value, length, size) for name, value in needed.items()}
        results = compiled(**fitted)
        return {
            name: _restore(result, unbucketed.outputs[name].shape, batch, sequence) for name, result in results.items()
        }

    return serve


def _longest(needed: Tensors, tokens: list[tf.Tensor]) -> tf.Tensor:
    """The length of the longest row: of its real tokens, where a mask says which they are."""
    masks = [value for name, value in needed.items() if _padding_name(name) in MASK_NAMES]
    if not masks:
        return tf.shape(tokens[0])[1]
    ends = [tf.where(tf.cast(mask, "bool"), tf.range(1, tf.shape(mask)[1] + 1), 0) for mask in masks]
    return tf.reduce_max([tf.reduce_max(tf.concat([tf.reshape(end, [-1]), [1]], 0)) for end in ends])


def _fit(name: str, value: tf.Tensor, length: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Pads or cuts to `[size, length, ...]`, or where there is no sequence pads to `[size, ...]`."""
    shape = value.shape
    padding = _padding_name(name)
    if padding is not None:
        value = value[:, :length]
        value = _pad(value, 1, length, PADDING[padding])
        shape = [shape[0], None, *shape[2:]]
    value = _pad(value, 0, size, 0)
    return tf.ensure_shape(value, [None, *shape[1:]])


def _pad(value: tf.Tensor, axis: int, size: Any, padding: int) -> tf.Tensor:
    paddings = [[0, size - tf.shape(value)[axis] if i == axis else 0] for i in range(value.shape.rank)]
    return tf.pad(value, paddings, constant_values=tf.cast(padding, value.dtype))


def _restore(result: tf.Tensor, shape: tf.TensorShape, batch: tf.Tensor, sequence: tf.Tensor) -> tf.Tensor:
    """Cuts the batch back to `batch` rows and pads what has one entry for each token to the shape that "cpu" gives."""
    result = result[:batch]
    for axis in range(1, result.shape.rank):
        if result.shape[axis] is None or result.shape[axis] != shape[axis]:
            size = sequence if shape[axis] is None else shape[axis]
            if shape[axis] is None:
                begin = [slice(None)] * axis
                result = result[(*begin, slice(size))]
            result = _pad(result, axis, size, 0)
    return tf.ensure_shape(result, shape)
