"""The normalisation of an inference graph on CPU, a batch normalisation, has the derivatives of its formula."""

import numpy as np
import tensorflow as tf

from keras_bert_layers.encoders.layer_normalization import LayerNormalization

EPSILON = 1e-3


def formula(x, gamma, beta):
    centered = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centered), axis=-1, keepdims=True)
    return gamma * centered / tf.sqrt(variance + EPSILON) + beta


def test_first_and_second_derivatives():
    random = np.random.default_rng(0)
    layer = LayerNormalization(epsilon=EPSILON)
    layer.build((None, 16))
    x, matrix, wanted = (tf.constant(random.normal(size=size), "float32") for size in ((6, 16), (16, 16), (6, 16)))
    gamma, beta = (tf.constant(random.normal(size=16), "float32") for _ in range(2))
    layer.gamma.assign(gamma)
    layer.beta.assign(beta)

    @tf.function
    def derivatives(normalize):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                # The normalised values depend on one another's inputs: where `tf.nn.moments` is a little off.
                loss = tf.reduce_sum(wanted * normalize(tf.matmul(x, matrix)) ** 2)
            first = inner.gradient(loss, x)
            penalty = tf.reduce_sum(first**2)
        return first, outer.gradient(penalty, x)

    for ours, expected in zip(derivatives(layer), derivatives(lambda x: formula(x, gamma, beta)), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
