from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.encoders.padding_removal import run_by_cpu_executor


class LayerNormalization(keras.layers.LayerNormalization):
    r"""Keras's layer normalisation of `[tokens, hidden]` in the form that TensorFlow runs as one operation on CPU.

    \(\gamma \, (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta\) over the last axis (Ba et al. 2016). Written as a batch
    normalisation with a channel for each token, it is what the graph optimiser replaces by oneDNN's layer
    normalisation, epsilon included, in TensorFlow 2.13 to 2.21; its other patterns put 1e-3 for epsilon.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not run_by_cpu_executor(training):
            return super().call(inputs)
        tokens = tf.cast(inputs, "float32")
        count, hidden = tf.shape(tokens)[0], tokens.shape[-1]
        normalized = tf.raw_ops.FusedBatchNormV3(
            x=tf.reshape(tokens, [1, -1, hidden, 1]),
            scale=tf.ones([count]),
            offset=tf.zeros([count]),
            mean=tf.constant([], "float32"),
            variance=tf.constant([], "float32"),
            epsilon=self.epsilon,
            data_format="NCHW",
            is_training=True,
        ).y
        gamma, beta = (tf.cast(weight, "float32") for weight in (self.gamma, self.beta))
        return tf.cast(tf.reshape(normalized, [-1, hidden]) * gamma + beta, self.compute_dtype)
