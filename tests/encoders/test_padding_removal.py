import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers.encoders.padding_removal import remove_padding, restore_padding, token_layout

MASK = np.array([[False, True, False, True], [False] * 4, [True] * 4])
PADDED = np.arange(24.0).reshape(3, 4, 2)


def test_keeps_the_real_tokens_in_order():
    layout = token_layout(tf.constant(MASK))
    tokens = remove_padding(tf.constant(PADDED), layout)
    np.testing.assert_array_equal(tokens, PADDED[MASK])
    np.testing.assert_array_equal(restore_padding(tokens, layout).numpy()[MASK], PADDED[MASK])


def test_ids_too():
    layout = token_layout(tf.constant(MASK))
    np.testing.assert_array_equal(remove_padding(tf.constant(PADDED[..., 0]), layout), PADDED[MASK][:, 0])


@pytest.mark.parametrize("mask", [np.zeros((2, 3), bool), np.zeros((0, 3), bool)], ids=["no token", "no row"])
def test_without_any_token(mask):
    layout = token_layout(tf.constant(mask))
    tokens = remove_padding(tf.zeros((*mask.shape, 2)), layout)
    assert restore_padding(tokens, layout).shape == (*mask.shape, 2)


def test_keeps_the_padding_under_xla():
    seen = {}

    @tf.function(jit_compile=True)
    def compiled(mask, padded):
        layout = token_layout(mask)
        seen.update(layout)
        tokens = remove_padding(padded, layout)
        seen["tokens"] = tokens.shape
        return restore_padding(tokens, layout)

    np.testing.assert_array_equal(compiled(tf.constant(MASK), tf.constant(PADDED)), PADDED)
    assert set(seen) == {"mask", "tokens"}
    assert seen["tokens"] == (12, 2)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_knows_xla_through_a_function_inside(jit_compile):
    inner = tf.function(lambda mask: tf.constant("positions" in token_layout(mask)))
    outer = tf.function(lambda mask: inner(mask), jit_compile=jit_compile)
    assert bool(outer(tf.constant(MASK))) != jit_compile
