"""Ids that are in no table and shapes that do not fit, which only a run can tell: in all encoders, and in an export."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

from .tiny_encoders import TFHUB_NAMES, make_ids

LENGTHS = (6, 9, 1, 4)
IDS = {name: value.astype("int64") for name, value in make_ids(LENGTHS).items()}


def with_id(name, value, place=(1, 2)):
    changed = IDS[name].copy()
    changed[place] = value
    return {**IDS, name: changed}


WRONG_IDS = {
    "negative": (with_id("input_word_ids", -1), r"Expected input_word_ids from 0 to 30\. Received:.*\[-1\].*\[1,? 2\]"),
    "too large": (with_id("input_word_ids", 31), r"input_word_ids from 0 to 30.*\[31\].*\[1,? 2\]"),
    "beyond 32 bits": (with_id("input_word_ids", 2**32 + 5), r"input_word_ids from 0 to 30.*\[2147483647\].*\[1,? 2\]"),
    "negative beyond 32 bits": (with_id("input_word_ids", 5 - 2**32), r"input_word_ids from 0.*\[1,? 2\]"),
    "negative type": (
        with_id("input_type_ids", -1),
        r"input_type_ids from 0 to 1\. Received:.*\[-1\].*\[1,? 2\]",
    ),
    "third type": (with_id("input_type_ids", 2, (3, 0)), r"input_type_ids from 0 to 1.*\[2\].*\[3,? 0\]"),
}
SHAPES = r"Expected input_\w+, input_\w+, input_\w+ of one shape \[batch, sequence\], .* at most (24|128), .*Received"
WRONG_SHAPES = {
    "shorter mask": {**IDS, "input_mask": IDS["input_mask"][:, :5]},
    "mask of one token": {**IDS, "input_mask": IDS["input_mask"][:, :1]},
    "mask of fewer rows": {**IDS, "input_mask": IDS["input_mask"][:1]},
    "shorter types": {**IDS, "input_type_ids": IDS["input_type_ids"][:, :1]},
    "too long": make_ids((1,), sequence=129),
    "no token": make_ids((0, 0), sequence=0),
}
RUNS = [pytest.param(*case, id=name) for name, case in WRONG_IDS.items()]
OPEN_RUNS = RUNS + [pytest.param(ids, SHAPES, id=name) for name, ids in WRONG_SHAPES.items()]


def tensors(ids):
    return {name: tf.constant(value, "int64") for name, value in ids.items()}


def open_specs():
    return {name: tf.TensorSpec((None, None), "int64") for name in TFHUB_NAMES}


@pytest.fixture(scope="module")
def graph(encoder):
    run = tf.function(lambda ids: encoder(ids)["sequence_output"], input_signature=[open_specs()])
    return lambda ids: run(tensors(ids))


@pytest.mark.parametrize(("ids", "message"), RUNS)
def test_eagerly(ids, message, encoder):
    # Eagerly TensorFlow prints numbers without brackets.
    message = message.replace(r"\[", r"\[?").replace(r"\]", r"\]?")
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"(?s){message}"):
        encoder(ids)


@pytest.mark.parametrize(("ids", "message"), OPEN_RUNS)
def test_in_a_graph_of_open_shapes(ids, message, graph):
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"(?s){message}"):
        graph(ids)


@pytest.fixture(scope="module")
def exported(encoder_factory, tmp_path_factory):
    directory = tmp_path_factory.mktemp("exported") / "1"
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in TFHUB_NAMES}
    model = keras.Model(inputs, {"first": encoder_factory("bert", combine="mean")(inputs)["encoder_outputs"][:, 0]})
    kbl.export_saved_model(model, directory, check=False, warmup=False)
    return tf.saved_model.load(str(directory))


@pytest.mark.parametrize(
    ("ids", "message"),
    [case for case in OPEN_RUNS if case.id in ("negative", "third type", "mask of one token", "mask of fewer rows")],
)
def test_in_an_export(ids, message, exported):
    run = exported.signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"(?s){message}"):
        run(**{name: tf.constant(value, "int32") for name, value in ids.items()})
    assert run(**{name: tf.constant(value, "int32") for name, value in IDS.items()})["first"].shape == (4, 16)


@pytest.mark.parametrize("name", ["input_word_ids", "input_type_ids"])
def test_xla_cannot_raise_and_gives_nan_for_the_row(name, encoder):
    run = tf.function(lambda ids: encoder(ids), jit_compile=True)
    expected, outputs = run(tensors(IDS)), run(tensors(with_id(name, -1)))
    for output, right in zip(keras.tree.flatten(outputs), keras.tree.flatten(expected), strict=True):
        if output.dtype.is_floating:
            assert np.all(np.isnan(output[1]))
            np.testing.assert_array_equal(np.delete(output, 1, axis=0), np.delete(right, 1, axis=0))


def test_an_id_at_padding_is_not_looked_at_by_bert_encoder(encoder_factory):
    encoder = encoder_factory("bert")
    ids = with_id("input_word_ids", -100, (0, 7))
    np.testing.assert_array_equal(encoder(ids)["sequence_output"], encoder(IDS)["sequence_output"])


def test_in_windows(encoder_factory):
    encoder = kbl.WindowedEncoder(encoder_factory("bert", combine="mean"), window=6, stride=1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)input_word_ids from 0 to 30.*-1.*1, 8"):
        encoder(with_id("input_word_ids", -1, (1, 8)))


def test_rows_longer_than_the_positions(kind, encoder):
    positions = 128 if kind == "tfhub" else 24
    assert encoder(make_ids((1,), sequence=positions))["sequence_output"].shape == (1, positions, 16)
    with pytest.raises(ValueError, match=rf"positions for {positions} tokens\. Received: a sequence .*WindowedEncoder"):
        encoder(make_ids((1,), sequence=positions + 1))
