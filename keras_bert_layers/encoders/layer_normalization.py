from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.encoders.execution import fused_by_onednn, is_cpu_inference_graph


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class LayerNormalization(keras.layers.LayerNormalization):
    r"""Keras's layer normalisation of `[tokens, hidden]` in the form that TensorFlow runs fastest on CPU.

    \(\gamma \, (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta\) over the last axis (Ba et al. 2016).
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not is_cpu_inference_graph(training):
            return super().call(inputs)
        tokens = tf.cast(inputs, "float32")
        normalized = (fused if fused_by_onednn() else in_few_operations)(tokens, self.epsilon)
        gamma, beta = (tf.cast(weight, "float32") for weight in (self.gamma, self.beta))
        return tf.cast(normalized * gamma + beta, self.compute_dtype)


def fused(tokens: Any, epsilon: float) -> Any:
    """A batch normalisation with a channel for each token.

    The graph optimiser replaces it, `gamma` and `beta` by oneDNN's layer normalisation, epsilon included, in
    TensorFlow 2.13 to 2.21; its other patterns put 1e-3 for epsilon.
    """
    count, hidden = tf.shape(tokens)[0], tokens.shape[-1]
    normalized = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(tokens, [1, -1, hidden, 1]),
        scale=tf.ones([count]),
        offset=tf.zeros([count]),
        mean=tf.constant([], "float32"),
        variance=tf.constant([], "float32"),
        epsilon=epsilon,
        data_format="NCHW",
        is_training=True,
    ).y
    return tf.reshape(normalized, [-1, hidden])


def in_few_operations(tokens: Any, epsilon: float) -> Any:
    """What is fastest where nothing is fused."""
    centred = tokens - tf.reduce_mean(tokens, axis=-1, keepdims=True)
    # The product of each row with itself: a matrix of squares need not be written to be summed.
    row = tf.expand_dims(centred, 1)
    variance = tf.squeeze(tf.matmul(row, row, transpose_b=True), 1) / tokens.shape[-1]
    return centred * tf.math.rsqrt(variance + epsilon)
