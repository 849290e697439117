from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from keras_bert_layers.serving.export_options import ExportOptions
from keras_bert_layers.serving.pruned_function import PrunedFunction, Tensors
from keras_bert_layers.serving.served_model import token_key
from keras_bert_layers.serving.stored_weights import StoredWeights
from keras_bert_layers.token_inputs import MASK_NAMES, PADDING


class BucketedFunction:
    """A function of ids for XLA, which compiles for fixed shapes.

    Ids are padded or cut to the next of `length_buckets`, and the batch is padded to the next of `batch_sizes`. For
    each pair of the two XLA compiles a program when it first comes. Outputs are cut, or padded with zeros, to the shape
    that they have without buckets.

    Args:
        function: ids and other numbers by keyword -> a dict of tensors.
        specs: for each keyword its `tf.TensorSpec`.
        outputs: for each output its `tf.TensorSpec` without buckets.
        options: with `length_buckets` and `batch_sizes`.
        weights: what the function is to compute with.
    """

    def __init__(
        self,
        function: Callable[..., Tensors],
        specs: Mapping[str, tf.TensorSpec],
        outputs: Mapping[str, tf.TensorSpec],
        options: ExportOptions,
        weights: StoredWeights,
    ):
        assert options.length_buckets is not None
        self._lengths, self._sizes = options.length_buckets, options.batch_sizes
        self._outputs = outputs
        bucket_specs = {name: self._bucket_spec(name, spec) for name, spec in specs.items()}
        self._pruned = PrunedFunction(function, bucket_specs, weights, jit_compile=True)
        self._compiled = tf.function(self._pruned, jit_compile=True, autograph=False)

    def __call__(self, **inputs: tf.Tensor) -> Tensors:
        needed = {name: inputs[name] for name in self._pruned.inputs}
        tokens = [value for name, value in needed.items() if token_key(name)]
        with tf.device("CPU:0"):
            batch = tf.shape(next(iter(needed.values())))[0]
            longest, sequence = _longest(needed, tokens), tf.shape(tokens[0])[1]
            checks = [
                tf.debugging.assert_less_equal(
                    batch, self._sizes[-1], f"Expected a batch of at most {self._sizes[-1]} rows."
                ),
                tf.debugging.assert_less_equal(
                    longest, self._lengths[-1], f"Expected rows of at most {self._lengths[-1]} tokens."
                ),
            ]
            with tf.control_dependencies([check for check in checks if check is not None]):
                length, size = _next(self._lengths, longest), _next(self._sizes, batch)
            fitted = {name: _fit(name, value, length, size) for name, value in needed.items()}
        results = self._compiled(**fitted)
        return {name: _restore(result, self._outputs[name].shape, batch, sequence) for name, result in results.items()}

    def _bucket_spec(self, name: str, spec: tf.TensorSpec) -> tf.TensorSpec:
        if not token_key(name):
            return spec
        length = self._lengths[0] if len(self._lengths) == 1 else None
        return tf.TensorSpec([None, length, *spec.shape[2:]], spec.dtype, name)


def _next(sizes: Any, size: tf.Tensor) -> tf.Tensor:
    """The first of ascending sizes that holds a size."""
    sizes = tf.constant(sizes)
    return tf.gather(sizes, tf.searchsorted(sizes, size[None])[0])


def _longest(needed: Tensors, tokens: list[tf.Tensor]) -> tf.Tensor:
    """The length of the longest row: of its real tokens, where a mask says which they are."""
    masks = [value for name, value in needed.items() if token_key(name) in MASK_NAMES]
    if not masks:
        return tf.shape(tokens[0])[1]
    ends = [tf.where(tf.cast(mask, "bool"), tf.range(1, tf.shape(mask)[1] + 1), 0) for mask in masks]
    return tf.reduce_max([tf.reduce_max(tf.concat([tf.reshape(end, [-1]), [1]], 0)) for end in ends])


def _fit(name: str, value: tf.Tensor, length: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Pads or cuts to `[size, length, ...]`, or where there is no sequence pads to `[size, ...]`."""
    shape = value.shape
    key = token_key(name)
    if key:
        value = _pad(value[:, :length], 1, length, PADDING[key])
        shape = [shape[0], None, *shape[2:]]
    value = _pad(value, 0, size, 0)
    return tf.ensure_shape(value, [None, *shape[1:]])


def _pad(value: tf.Tensor, axis: int, size: Any, padding: int) -> tf.Tensor:
    paddings = [[0, size - tf.shape(value)[axis] if i == axis else 0] for i in range(value.shape.rank)]
    return tf.pad(value, paddings, constant_values=tf.cast(padding, value.dtype))


def _restore(result: tf.Tensor, shape: tf.TensorShape, batch: tf.Tensor, sequence: tf.Tensor) -> tf.Tensor:
    """Cuts the batch back to `batch` rows, and what has one entry for each token to `shape` and its `sequence`."""
    result = result[:batch]
    for axis in range(1, result.shape.rank):
        if result.shape[axis] is None or result.shape[axis] != shape[axis]:
            size = sequence if shape[axis] is None else shape[axis]
            if shape[axis] is None:
                begin = [slice(None)] * axis
                result = result[(*begin, slice(size))]
            result = _pad(result, axis, size, 0)
    return tf.ensure_shape(result, shape)
