"""Short texts share the rows of attention; what comes out is what the padded form gives, and so are the gradients."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_bert_layers as kbl
from keras_bert_layers.encoders import token_layout
from keras_bert_layers.encoders.token_layout import HalvedLayout, PackedLayout, PaddedLayout, choose_layout

MASK = np.array([[False, True, False, True], [False] * 4, [True] * 4])
PADDED = np.arange(24.0).reshape(3, 4, 2)

CONFIG = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
LENGTHS = {
    "many short ones beside a long one": [24, 1, 2, 3, 5, 8, 11, 12, 13, 4, 4, 4, 6, 0, 7],
    "none shares": [9, 8, 9, 7],
    "half of the tokens in the first": [24, 3, 20],
    "only empty ones in one half": [0, 5, 0],
    "as many rows as texts that are not empty, and yet two share one": [6, 3, 3, 0, 16, 8, 8, 0],
    "no padding": [12, 12, 12],
    "one text": [5],
    "one token": [1],
    "nothing": [0, 0],
    "no text": [],
}


def ids(lengths, sequence=24):
    mask = np.arange(sequence) < np.array(lengths, int)[:, None]
    words = np.random.default_rng(0).integers(1, 60, mask.shape)
    return {
        "input_word_ids": tf.constant(words * mask, tf.int32),
        "input_mask": tf.constant(mask, tf.int32),
        "input_type_ids": tf.constant((np.arange(sequence) > 3) * mask, tf.int32),
    }


def test_keeps_the_real_tokens_in_order():
    layout = PackedLayout(tf.constant(MASK))
    tokens = layout.pack(tf.constant(PADDED))
    np.testing.assert_array_equal(tokens, PADDED[MASK])
    np.testing.assert_array_equal(layout.unpack(tokens), np.where(MASK[..., None], PADDED, 0))


def test_ids_too():
    layout = PackedLayout(tf.constant(MASK))
    np.testing.assert_array_equal(layout.pack(tf.constant(PADDED[..., 0])), PADDED[MASK][:, 0])


@pytest.mark.parametrize("mask", [np.zeros((2, 3), bool), np.zeros((0, 3), bool)], ids=["no token", "no row"])
def test_without_any_token(mask):
    layout = PackedLayout(tf.constant(mask))
    tokens = layout.pack(tf.zeros((*mask.shape, 2)))
    assert layout.unpack(tokens).shape == (*mask.shape, 2)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_halves_are_whole_texts(lengths):
    mask = tf.sequence_mask(lengths, 24)
    layout = HalvedLayout(mask)
    first, second = layout.halves(layout.pack(tf.reshape(tf.range(tf.size(mask)), mask.shape)))
    rows = [np.unique(half[0] // 24) for half in (first, second)]
    assert not set(rows[0]) & set(rows[1])
    total = len(layout.positions)
    assert len(first[0]) + len(second[0]) == total
    for part, (tokens, half_mask, positions) in zip(("first", "second"), (first, second), strict=True):
        assert len(tokens) <= total / 2 + (max(lengths, default=0) if part == "second" else 0)
        offset = 0 if part == "first" else len(first[1])
        np.testing.assert_array_equal(tf.add(positions, [offset, 0]) @ [[24], [1]], tokens[:, None])
        assert len(tokens) or not len(half_mask)
    np.testing.assert_array_equal(tf.concat([first[1], second[1]], 0), mask)


def test_keeps_the_padding_under_xla():
    seen = {}

    @tf.function(jit_compile=True)
    def compiled(mask, padded):
        layout = choose_layout(mask, training=False)
        seen["layout"] = type(layout)
        tokens = layout.pack(padded)
        seen["tokens"] = tokens.shape
        return layout.unpack(tokens)

    expected = np.where(MASK[..., None], PADDED, 0)
    np.testing.assert_array_equal(compiled(tf.constant(MASK), tf.constant(PADDED)), expected)
    assert seen == {"layout": PaddedLayout, "tokens": (12, 2)}


@pytest.mark.parametrize("jit_compile", [False, True])
def test_knows_xla_through_a_function_inside(jit_compile):
    inner = tf.function(lambda mask: tf.constant(not choose_layout(mask, training=False).is_static))
    outer = tf.function(lambda mask: inner(mask), jit_compile=jit_compile)
    assert bool(outer(tf.constant(MASK))) != jit_compile


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    # Larger weights than a new BERT has, so that attention matters.
    return kbl.BertEncoder({**CONFIG, "initializer_range": 0.3}, layers="all+embeddings")


def outputs_and_gradients(encoder, inputs):
    """All outputs, and the gradients of a sum that weighs every real place of every layer differently."""
    with tf.GradientTape() as tape:
        outputs = encoder(inputs)
        states = tf.stack(outputs["encoder_outputs"])
        # XLA draws other random numbers.
        weights = tf.reshape(tf.sin(tf.range(tf.cast(tf.size(states), tf.float32))), tf.shape(states))
        loss = tf.reduce_sum(weights * states) + tf.reduce_sum(outputs["pooled_output"])
    variables = [variable.value for variable in encoder.trainable_variables]
    gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]
    return [*tf.nest.flatten(outputs), *gradients]


@pytest.fixture(scope="module")
def compiled(encoder):
    """Whether by XLA -> all layers in a graph of open shapes, traced once. Under XLA the padding stays."""
    specs = {name: tf.TensorSpec((None, None), tf.int32) for name in ids([])}

    @functools.cache
    def function(jit_compile):
        return tf.function(
            lambda inputs: encoder(inputs)["encoder_outputs"], input_signature=[specs], jit_compile=jit_compile
        )

    return function


@pytest.fixture(scope="module")
def packed_outputs_and_gradients(encoder):
    specs = {name: tf.TensorSpec((None, None), tf.int32) for name in ids([])}
    function = tf.function(functools.partial(outputs_and_gradients, encoder), input_signature=[specs])
    function.get_concrete_function()
    return function


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_equal_to_the_padded_form(encoder, packed_outputs_and_gradients, lengths, monkeypatch):
    inputs = ids(lengths)
    packed = packed_outputs_and_gradients(inputs)
    # As under XLA, but for its compilations, of which the next test needs one.
    monkeypatch.setattr(token_layout, "compiled_by_xla", lambda: True)
    assert_equal(packed, outputs_and_gradients(encoder, inputs))


def test_equal_to_the_padded_form_under_xla(encoder, packed_outputs_and_gradients):
    inputs = ids(next(iter(LENGTHS.values())))
    padded = tf.function(functools.partial(outputs_and_gradients, encoder), jit_compile=True)
    assert_equal(packed_outputs_and_gradients(inputs), padded(inputs))


def assert_equal(packed, padded):
    for ours, theirs in zip(packed, padded, strict=True):
        scale = max(1.0, float(tf.reduce_max(tf.abs(tf.cast(theirs, "float32")))))
        np.testing.assert_allclose(
            tf.cast(ours, "float32") / scale, tf.cast(theirs, "float32") / scale, atol=1e-5, rtol=0
        )


def test_equal_to_the_padded_form_on_any_lengths(compiled):
    packed, padded = compiled(False), compiled(True)

    # Eight rows, so that XLA compiles once.
    @settings(max_examples=100, derandomize=True, deadline=None)
    @given(st.lists(st.sampled_from([0, 1, 3, 4, 6, 8, 12, 24]), min_size=8, max_size=8))
    def compare(lengths):
        np.testing.assert_allclose(packed(ids(lengths)), padded(ids(lengths)), atol=1e-5)

    compare()


def test_mask_with_holes(compiled):
    """What stands behind a hole keeps its position, and the hole is seen by nobody."""
    inputs = ids([6, 24, 9, 3, 1, 0, 5, 2])
    holes = np.array(inputs["input_mask"])
    holes[0, [0, 3]] = 0
    holes[1, 5:9] = 0
    inputs["input_mask"] = tf.constant(holes)
    np.testing.assert_allclose(compiled(False)(inputs), compiled(True)(inputs), atol=1e-5)


@pytest.mark.parametrize("sequence", [8, 16, 32, 64])
def test_every_bucket_compiles(compiled, sequence):
    """The dense part compiles for each length of `bucket_by_length`, and gives the same."""
    inputs = ids([sequence, sequence // 2, 3, 1], sequence)
    np.testing.assert_allclose(compiled(False)(inputs), compiled(True)(inputs), atol=1e-5)


def test_attention_scores_keep_the_rows_of_the_batch():
    keras.utils.set_random_seed(0)
    encoder = kbl.BertEncoder({**CONFIG, "initializer_range": 0.3}, return_attention_scores=True)
    alone = [encoder(ids([n], n))["attention_scores"].numpy() for n in (7, 3)]
    inputs = ids([7, 3, 24])
    words = inputs["input_word_ids"].numpy()
    for row, n in enumerate((7, 3)):
        words[row, :n] = ids([n], n)["input_word_ids"].numpy()
    together = encoder({**inputs, "input_word_ids": tf.constant(words)})["attention_scores"].numpy()
    for row, n in enumerate((7, 3)):
        np.testing.assert_allclose(together[row, :, :, :n, :n], alone[row][0], atol=1e-5)
        assert not together[row, :, :, n:].any()
