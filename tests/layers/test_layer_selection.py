"""The grammar of `layers=` against Python's own lists, and on an encoder whose layer i gives the constant i."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_bert_layers.encoders.layerwise_encoder import EncoderStates, LayerwiseEncoder
from keras_bert_layers.layers.layer_selection import select_layers

HIDDEN = 3
IDS = {"input_word_ids": np.ones((2, 4), "int32"), "input_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0]])}
REAL = IDS["input_mask"].astype(bool)


class ConstantEncoder(LayerwiseEncoder):
    """An encoder whose layer i gives i at every real token; that all else is the base class's is the point of it."""

    def __init__(self, num_layers, layers, has_embeddings=True, combine=None):
        super().__init__()
        self.num_layers = num_layers
        self.hidden_size = HIDDEN
        self.num_heads = 1
        self.has_embeddings = has_embeddings
        self.has_pooler = False
        self.finish_init(layers, combine, trainable=True, return_attention_scores=False)

    @property
    def pretrained_layers(self):
        return []

    def run(self, token_ids, mask, segment_ids, collector, training):
        real = tf.cast(mask, "float32")[..., None] * tf.ones(HIDDEN)
        collection = collector.start()
        for number in range(0 if self.has_embeddings else 1, self.num_layers + 1):
            collection.take(number, real * float(number))
        return EncoderStates(*collection.result(), pooled_output=None)


def numbers_given_out(num_layers, layers, has_embeddings=True):
    """The numbers of the layers that really come out of an encoder."""
    encoder = ConstantEncoder(num_layers, layers, has_embeddings)
    outputs = encoder(IDS)
    states = [state.numpy() for state in outputs["encoder_outputs"]]
    for state in states:
        assert state.shape == (2, 4, HIDDEN)
        assert not state[~REAL].any()
        assert len(np.unique(state[REAL])) == 1
    # Whatever was selected, the last layer stays what it is.
    np.testing.assert_array_equal(outputs["sequence_output"].numpy()[REAL], num_layers)
    again = [state.numpy()[0, 0, 0] for state in encoder.hidden_states(IDS, layers)]
    numbers = [int(state[0, 0, 0]) for state in states]
    assert numbers == again
    return numbers


def oracle(num_layers, layers):
    """What Python says about a list of 0 to L; None where it says nothing or selects nothing."""
    every = [*range(num_layers + 1)]
    try:
        if not isinstance(layers, str):
            return [every[i] for i in layers] if isinstance(layers, (list, tuple, range)) else [every[layers]]
        if layers == "all":
            return every[1:]
        if layers == "all+embeddings":
            return every
        if layers == "first_last":
            return [every[1], every[-1]]
        if layers.startswith("last"):
            count = int(layers.removeprefix("last"))
            # Encoder layers alone: the embeddings are never among "the last".
            return every[1:][-count:] if 1 <= count <= num_layers else None
        start, stop = (int(bound) if bound else None for bound in layers.split(":"))
        return every[start:stop]
    except IndexError:
        return None


integers = st.integers(-9, 9)
bounds = st.one_of(st.just(""), integers.map(str))
syntaxes = st.one_of(
    integers,
    st.lists(integers, max_size=6),
    st.lists(integers, max_size=6).map(tuple),
    st.builds(range, integers, integers, integers.filter(bool)),
    st.sampled_from(["all", "all+embeddings", "first_last"]),
    st.integers(0, 9).map("last{}".format),
    st.tuples(bounds, bounds).map(":".join),
)


@settings(max_examples=300, deadline=None)
@given(num_layers=st.integers(1, 7), layers=syntaxes, has_embeddings=st.booleans())
# The known mistake: layer 0 is the embeddings, so that "the last two" of 4 are 3 and 4, which are at 3 and 4 of the
# list of 0 to 4 and at 2 and 3 of a list that forgets the embeddings.
@example(num_layers=4, layers="last2", has_embeddings=True)
@example(num_layers=4, layers="last2", has_embeddings=False)
@example(num_layers=4, layers="-2:", has_embeddings=False)
@example(num_layers=4, layers=[-2, -1], has_embeddings=False)
@example(num_layers=4, layers="last4", has_embeddings=True)
@example(num_layers=4, layers="last5", has_embeddings=True)
@example(num_layers=1, layers="first_last", has_embeddings=True)
def test_selection_as_python_selects(num_layers, layers, has_embeddings):
    expected = oracle(num_layers, layers)
    if not expected or (not has_embeddings and 0 in expected):
        with pytest.raises(ValueError, match=r"Received: layers="):
            select_layers(layers, num_layers, has_embeddings)
        return
    selected = select_layers(layers, num_layers, has_embeddings)
    assert selected == expected
    assert all(type(number) is int for number in selected)


@settings(max_examples=40, deadline=None)
@given(num_layers=st.integers(1, 7), layers=syntaxes, has_embeddings=st.booleans())
@example(num_layers=4, layers="last2", has_embeddings=False)
def test_encoder_gives_out_what_python_selects(num_layers, layers, has_embeddings):
    expected = oracle(num_layers, layers)
    if not expected or (not has_embeddings and 0 in expected):
        with pytest.raises(ValueError, match=r"Received: layers="):
            ConstantEncoder(num_layers, layers, has_embeddings)
        return
    assert numbers_given_out(num_layers, layers, has_embeddings) == expected


@pytest.mark.parametrize("has_embeddings", [True, False])
@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (3, [3]),
        (-1, [4]),
        (-4, [1]),
        ([4, 1, 4, -1, 2], [4, 1, 4, 4, 2]),
        ((2, 1), [2, 1]),
        (range(4, 0, -2), [4, 2]),
        (np.array([1, 3]), [1, 3]),
        (np.int64(-2), [3]),
        ("all", [1, 2, 3, 4]),
        ("last1", [4]),
        # Not [2, 3], which is what index 0 for the first encoder layer makes of the last two.
        ("last2", [3, 4]),
        ("last4", [1, 2, 3, 4]),
        ("first_last", [1, 4]),
        ("1:3", [1, 2]),
        ("-2:", [3, 4]),
        ("2:99", [2, 3, 4]),
        ("1:-1", [1, 2, 3]),
    ],
)
def test_each_syntax_on_an_encoder_of_four_layers(layers, expected, has_embeddings):
    assert numbers_given_out(4, layers, has_embeddings) == expected


def test_a_generator_is_read_once():
    encoder = ConstantEncoder(4, (number for number in (2, -1, 2)))
    assert [int(state[0, 0, 0]) for state in encoder(IDS)["encoder_outputs"]] == [2, 4, 2]
    assert encoder.layers == [2, -1, 2]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (0, [0]),
        (-5, [0]),
        ([0, -5, 4], [0, 0, 4]),
        ("all+embeddings", [0, 1, 2, 3, 4]),
        (":", [0, 1, 2, 3, 4]),
        (":2", [0, 1]),
        ("-99:1", [0]),
    ],
)
def test_layer_0_is_the_embeddings(layers, expected):
    assert numbers_given_out(4, layers) == expected
    with pytest.raises(
        ValueError, match=r"does not return layer 0.*TF Hub.*Received: layers=.*Choose among layers 1 to 4"
    ):
        ConstantEncoder(4, layers, has_embeddings=False)


@pytest.mark.parametrize(("combine", "expected"), [("sum", 10), ("mean", 10 / 3), ("max", 4), ("last", 2)])
def test_combination_takes_the_selected_layers(combine, expected):
    output = ConstantEncoder(4, [4, 4, 2], combine=combine)(IDS)["encoder_outputs"].numpy()
    np.testing.assert_allclose(output[REAL], expected, rtol=1e-6)


@pytest.mark.parametrize("combine", ["stack", "concat"])
def test_combination_keeps_order_and_repeats(combine):
    output = ConstantEncoder(4, "all+embeddings", combine=combine)(IDS)["encoder_outputs"].numpy()
    numbers = output[0, :, 0, 0] if combine == "stack" else output[0, 0, ::HIDDEN]
    np.testing.assert_array_equal(numbers, [0, 1, 2, 3, 4])
    output = ConstantEncoder(4, [3, 1, 3], combine=combine)(IDS)["encoder_outputs"].numpy()
    numbers = output[0, :, 0, 0] if combine == "stack" else output[0, 0, ::HIDDEN]
    np.testing.assert_array_equal(numbers, [3, 1, 3])


def test_in_a_functional_model():
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in IDS}
    model = keras.Model(inputs, ConstantEncoder(4, [-1, 0, 2])(inputs)["encoder_outputs"])
    assert [int(state[0, 0, 0]) for state in model(IDS)] == [4, 0, 2]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (5, r"layer numbers from 0 \(the embeddings\) to 4, or negative ones from -1 \(layer 4\) to -5 \(layer 0\)\. "
            r"Received: layers=5\."),
        (-6, r"from 0 \(the embeddings\) to 4.*Received: layers=-6\."),
        ([1, 9], r"from 0 \(the embeddings\) to 4.*Received: layers=\[1, 9\]\."),
        ("last0", r'Expected "lastN" with N from 1 to 4, the number of layers.*Received: layers=\'last0\''),
        ("last5", r'Expected "lastN" with N from 1 to 4.*Received: layers=\'last5\''),
        ([], r"select at least one layer of an encoder with layers 0 to 4\. Received: layers=\[\], which selects none"),
        ("3:2", r"select at least one layer.*Received: layers='3:2', which selects none"),
        ("7:", r"select at least one layer.*Received: layers='7:', which selects none"),
        (range(2, 2), r"select at least one layer.*Received: layers=(range\(2, 2\)|\[\]), which selects none"),
        *(
            (text, rf'Expected `layers` to be an int.*"first_last".*"a:b".*Received: layers={text!r}')
            for text in ["", "first", "last", "last-1", "last 4", "LAST4", "all ", "embeddings", "2", "-1"]
        ),
        *((text, rf"Expected `layers` to be.*Received: layers='{text}'") for text in ["-:", "1:2:1", "a:b", "1.0:2"]),
    ],
)  # fmt: skip
def test_layers_that_are_not_there(layers, message):
    with pytest.raises(ValueError, match=message):
        select_layers(layers, 4)
    with pytest.raises(ValueError, match=message):
        ConstantEncoder(4, layers)
    with pytest.raises(ValueError, match=message):
        ConstantEncoder(4, 1).hidden_states(IDS, layers)


@pytest.mark.parametrize(
    "layers", [None, True, 1.0, np.float32(1), [1, 2.0], ["1"], [True, False], [[1]], np.array([1.0]), np.array([True])]
)
def test_layers_of_another_type(layers):
    with pytest.raises(
        TypeError, match=r"Expected `layers` to be an int, a list or a range of ints.*Received: layers="
    ):
        select_layers(layers, 4)
    with pytest.raises(TypeError, match=r"Expected `layers` to be.*Received: layers="):
        ConstantEncoder(4, layers)
