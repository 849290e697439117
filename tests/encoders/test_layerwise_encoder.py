"""The contract that the three encoders keep: inputs, outputs, masks, selection, combining, errors, freezing.

What the base class does by itself is tested on a `ToyEncoder`, the rest on all three kinds.
"""

import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import BertEncoder, HuggingFaceEncoder, LayerCombination, TFHubEncoder
from keras_bert_layers.layers.layer_combination import COMBINE_MODES
from keras_bert_layers.layers.layer_selection import select_layers

from ..layers.test_layer_combination import IN_NUMPY
from .tiny_encoders import HUGGINGFACE_NAMES, SIZES, TFHUB_NAMES, assert_same, make_ids, randomize, renamed, tensors
from .toy_encoder import ToyEncoder

LENGTHS = (6, 9, 1, 4)
MASK = np.arange(9) < np.array(LENGTHS)[:, None]
SHAPE = (4, 9, 16)


# `BertEncoder` combines in a form of its own, the other two as they come.
KINDS_AND_MODES = [
    *(("bert", mode) for mode in COMBINE_MODES),
    *((kind, mode) for kind in ("huggingface", "tfhub") for mode in ("stack", "weighted")),
]


@pytest.fixture(scope="module")
def toy():
    return ToyEncoder()


def symbolic_ids(names=TFHUB_NAMES, sequence=None):
    return {name: keras.Input((sequence,), dtype="int32", name=name) for name in names}


def functional(encoder, names=TFHUB_NAMES, sequence=None):
    inputs = symbolic_ids(names, sequence)
    return keras.Model(inputs, encoder(inputs))


def fit_model(encoder):
    """[CLS] of the combination, and of the pooler where there is one, -> one number, with dropout nowhere else."""
    inputs = symbolic_ids()
    outputs = encoder(inputs)
    features = [outputs["encoder_outputs"][:, 0], *([outputs["pooled_output"]] if encoder.has_pooler else [])]
    scores = keras.layers.Dense(1)(keras.layers.concatenate(features))
    model = keras.Model(inputs, scores)
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    return model


def fit(model, steps=1):
    ids = make_ids(LENGTHS)
    model.fit(ids, np.arange(4.0), batch_size=4, epochs=steps, verbose=0)


def assert_symbolic_outputs_are_as_computed(encoder):
    """Keras believes `compute_output_spec`, so it must say what `call` gives."""
    model = functional(encoder)
    symbolic, outputs = model.output, model(make_ids(LENGTHS))
    assert sorted(symbolic) == sorted(outputs)
    for expected, output in zip(keras.tree.flatten(symbolic), keras.tree.flatten(outputs), strict=True):
        assert expected.dtype == output.dtype.name
        assert len(expected.shape) == len(output.shape)
        assert all(size in (None, actual) for size, actual in zip(expected.shape, output.shape, strict=True))
        assert expected.shape[-1] == output.shape[-1] or expected.name == "mask"
    known = {name: keras.KerasTensor((4, 9), "int32") for name in TFHUB_NAMES}
    shapes = keras.tree.map_structure(lambda output: output.shape, encoder.compute_output_spec(known))
    assert keras.tree.flatten(shapes) == keras.tree.flatten(
        keras.tree.map_structure(lambda output: tuple(output.shape), outputs)
    )


class TestOutputs:
    def test_of_a_list(self, make):
        outputs = make()(make_ids(LENGTHS))
        assert sorted(outputs) == ["encoder_outputs", "mask", "pooled_output", "sequence_output"]
        assert isinstance(outputs["encoder_outputs"], list)
        assert [state.shape for state in outputs["encoder_outputs"]] == [SHAPE] * 3
        assert outputs["sequence_output"].shape == SHAPE
        assert outputs["pooled_output"].shape == (4, 16)
        assert outputs["mask"].dtype == tf.bool
        np.testing.assert_array_equal(outputs["mask"], MASK)
        np.testing.assert_array_equal(outputs["sequence_output"], outputs["encoder_outputs"][-1])
        for state in [*outputs["encoder_outputs"], outputs["sequence_output"]]:
            assert state.dtype == tf.float32
            assert not np.any(state.numpy()[~MASK])
            assert np.all(np.any(state.numpy()[MASK], axis=-1))

    def test_one_layer_is_a_list_too(self):
        outputs = ToyEncoder(layers=2)(make_ids(LENGTHS))
        assert [state.shape for state in outputs["encoder_outputs"]] == [SHAPE]

    @pytest.mark.parametrize(("kind", "mode"), KINDS_AND_MODES)
    def test_of_each_mode(self, kind, mode, encoder_factory):
        encoder = encoder_factory(kind, layers=[3, 1], combine=mode)
        outputs = encoder(make_ids(LENGTHS))
        states = [state.numpy() for state in encoder.hidden_states(make_ids(LENGTHS), [3, 1])]
        assert_same(outputs["encoder_outputs"], IN_NUMPY[mode](states), 1e-6)
        assert_same(outputs["sequence_output"], states[0], 0)
        combined = outputs["encoder_outputs"].numpy()
        by_token = combined if encoder.combination.has_sequence_axis else combined.transpose(0, 2, 1, 3)
        assert not by_token[~MASK].any()

    @pytest.mark.parametrize("mode", [None, *COMBINE_MODES])
    def test_symbolic_ones_are_as_computed(self, mode):
        assert_symbolic_outputs_are_as_computed(ToyEncoder(layers="last2", combine=mode, dtype="mixed_bfloat16"))

    def test_symbolic_ones_of_each_kind(self, make):
        assert_symbolic_outputs_are_as_computed(make(layers="last2", combine="weighted", dtype="mixed_bfloat16"))

    def test_attention_scores(self, kind, make):
        if kind == "tfhub":
            pytest.skip("refuses them, which test_tfhub_encoder.py tests")
        encoder = make(layers=[3, 1], combine="mean", return_attention_scores=True)
        model = functional(encoder)
        assert model.output["attention_scores"].shape == (None, 2, 2, None, None)
        ids = make_ids(LENGTHS)
        scores = model(ids)["attention_scores"].numpy()
        assert scores.shape == (4, 2, 2, 9, 9)
        np.testing.assert_allclose(scores.sum(-1), np.broadcast_to(MASK[:, None, None], (4, 2, 2, 9)), atol=1e-5)
        assert not scores.transpose(0, 4, 1, 2, 3)[~MASK].any()
        one = make(layers=1, return_attention_scores=True)
        one.set_weights(encoder.get_weights())
        assert_same(one(ids)["attention_scores"][:, 0], scores[:, 1], 1e-6)
        assert np.abs(scores[:, 0] - scores[:, 1]).max() > 1e-3
        plain = make(layers=[3, 1], combine="mean")
        plain.set_weights(encoder.get_weights())
        assert "attention_scores" not in plain(ids)
        assert_same(plain(ids)["encoder_outputs"], model(ids)["encoder_outputs"], 1e-6)

    def test_without_pooler(self, make):
        encoder = make(pooler=False)
        assert "pooled_output" not in encoder(make_ids(LENGTHS))
        assert "pooled_output" not in functional(encoder).output

    @pytest.mark.parametrize("combine", [None, "stack"])
    def test_first_dimension_is_the_batch(self, combine):
        for output in keras.tree.flatten(ToyEncoder(combine=combine, return_attention_scores=True)(make_ids(LENGTHS))):
            assert output.shape[0] == 4


class TestLayers:
    @pytest.mark.parametrize("layers", [-1, [2, 1, 2], range(1, 3), "last2", "2:"])
    def test_are_those_of_the_grammar(self, layers):
        encoder = ToyEncoder(layers=layers)
        ids = make_ids(LENGTHS)
        every = dict(zip((1, 2, 3), encoder.hidden_states(ids, [1, 2, 3]), strict=True))
        numbers = select_layers(layers, 3, embeddings=encoder.has_embeddings)
        assert encoder.selected_layers == numbers
        outputs = encoder(ids)
        assert len(outputs["encoder_outputs"]) == len(numbers)
        for number, state in zip(numbers, outputs["encoder_outputs"], strict=True):
            assert_same(state, every[number], 0)
        assert_same(outputs["sequence_output"], every[3], 0)
        for first, second in ((1, 2), (2, 3), (1, 3)):
            assert np.abs(every[first] - every[second]).max() > 0.1

    def test_of_each_kind(self, make):
        encoder = make(layers=[2, 1, 2])
        ids = make_ids(LENGTHS)
        second, first, again = encoder(ids)["encoder_outputs"]
        assert_same(second, again, 0)
        for state, expected in zip((first, second), encoder.hidden_states(ids, [1, 2]), strict=True):
            assert_same(state, expected, 0)
        assert np.abs(first - second).max() > 0.1

    def test_never_change_the_other_outputs(self, make):
        ids = make_ids(LENGTHS)
        full, some = make(), make(layers=1, combine="weighted")
        for ours, theirs in zip(some.pretrained_layers, full.pretrained_layers, strict=True):
            ours.set_weights(theirs.get_weights())
        for key in ("sequence_output", "pooled_output", "mask"):
            assert_same(some(ids)[key], full(ids)[key], 0)

    def test_layer_0(self, kind, make):
        if kind == "tfhub":
            with pytest.raises(ValueError, match=r"does not return layer 0.*Received: layers='all\+embeddings'"):
                make(layers="all+embeddings")
            with pytest.raises(ValueError, match="does not return layer 0"):
                make().hidden_states(make_ids(), [0])
            return
        ids = make_ids(LENGTHS)
        encoder = make(layers="all+embeddings")
        states = encoder(ids)["encoder_outputs"]
        assert len(states) == 4
        assert_same(encoder.hidden_states(ids, 0)[0], states[0], 0)
        assert not states[0].numpy()[~MASK].any()
        # It does not depend on the other tokens, as no other layer can say.
        changed = dict(ids, input_word_ids=np.where(np.arange(9) == 1, 7, ids["input_word_ids"]))
        others = np.arange(9) != 1
        before, after = states, encoder(changed)["encoder_outputs"]
        assert_same(after[0].numpy()[:, others], before[0].numpy()[:, others], 0)
        assert np.abs(after[1].numpy()[0, others] - before[1].numpy()[0, others]).max() > 1e-4

    @pytest.mark.parametrize("layers", [4, -5, "last4", "none", []])
    def test_unknown(self, layers):
        with pytest.raises(ValueError, match=r"Received: layers="):
            ToyEncoder(layers=layers)

    @pytest.mark.parametrize("layers", [1.5, None])
    def test_of_another_type(self, layers):
        with pytest.raises(TypeError, match=r"Received: layers="):
            ToyEncoder(layers=layers)

    def test_layer_0_has_no_attention_scores(self):
        with pytest.raises(ValueError, match=r"no attention scores\. Received: layers=\[-4, 1\].*layers from 1 to 3"):
            ToyEncoder(layers=[-4, 1], return_attention_scores=True)


class TestHiddenStates:
    def test_any_layers_in_their_order(self, make):
        encoder = make(layers=1, combine="sum")
        ids = make_ids(LENGTHS)
        assert len(encoder.hidden_states(ids)) == 3
        third, first, again = encoder.hidden_states(ids, [3, 1, 3])
        assert_same(third, again, 0)
        assert_same(first, encoder(ids)["encoder_outputs"], 0)
        assert_same(third, encoder(ids)["sequence_output"], 0)

    def test_before_any_call(self):
        assert BertEncoder(SIZES).hidden_states(make_ids(LENGTHS))[0].shape == SHAPE

    def test_training(self, make):
        encoder = make()
        ids = make_ids(LENGTHS)
        first, second = encoder.hidden_states(ids, 3, training=True), encoder.hidden_states(ids, 3, training=True)
        assert np.abs(first[0] - second[0]).max() > 1e-3
        assert_same(encoder.hidden_states(ids, 3)[0], encoder.hidden_states(ids, 3)[0], 0)

    def test_compute_dtype(self, make):
        states = make(dtype="mixed_bfloat16").hidden_states(make_ids(LENGTHS))
        assert [state.dtype for state in states] == [tf.bfloat16] * 3

    def test_refuses_symbolic_inputs(self):
        with pytest.raises(ValueError, match=r"cannot be part of a functional model.*Received: symbolic inputs"):
            ToyEncoder().hidden_states(symbolic_ids())

    def test_checks_as_a_call(self):
        with pytest.raises(ValueError, match=r"expects a dict"):
            ToyEncoder().hidden_states([[1, 2]])
        with pytest.raises(ValueError, match=r"Received: layers=7"):
            ToyEncoder().hidden_states(make_ids(), 7)


class TestInputs:
    def test_both_families_of_names(self, encoder):
        ids = make_ids(LENGTHS)
        other = renamed(ids, HUGGINGFACE_NAMES)
        assert sorted(other) == sorted(HUGGINGFACE_NAMES)
        keras.tree.map_structure(lambda a, b: assert_same(a, b, 0), encoder(ids), encoder(other))
        model = functional(encoder, HUGGINGFACE_NAMES)
        assert_same(model(other)["sequence_output"], encoder(ids)["sequence_output"])

    def test_each_name_means_what_it_says(self, encoder):
        names, ids = TFHUB_NAMES, make_ids((9, 9))
        base = encoder(ids)["sequence_output"]
        for name in names:
            value = ids[name].copy()
            value[:, 5] = 1 - value[:, 5] if name != names[0] else 3
            assert np.abs(encoder({**ids, name: value})["sequence_output"] - base)[:, :4].max() > 1e-3, name

    @pytest.mark.parametrize("names", [TFHUB_NAMES, HUGGINGFACE_NAMES])
    def test_defaults(self, names, toy):
        ids = renamed(make_ids((9, 9)), names)
        explicit = {names[0]: ids[names[0]], names[1]: np.ones((2, 9), int), names[2]: np.zeros((2, 9), int)}
        outputs = toy({names[0]: ids[names[0]]})
        keras.tree.map_structure(lambda a, b: assert_same(a, b, 0), outputs, toy(explicit))
        assert np.all(outputs["mask"])

    def test_all_tokens_count_without_a_mask_also_zeros(self, toy):
        ids = np.array([[2, 7, 0, 0]])
        assert np.all(toy({"input_word_ids": ids})["mask"])

    @pytest.mark.parametrize(
        "convert",
        [
            lambda value: value.tolist(),
            lambda value: value.astype("int64"),
            lambda value: value.astype("uint8"),
            tf.constant,
            lambda value: tf.constant(value, tf.int64),
        ],
        ids=["list", "int64", "uint8", "tensor", "int64 tensor"],
    )
    def test_forms(self, convert, toy):
        ids = make_ids(LENGTHS)
        outputs = toy({name: convert(value) for name, value in ids.items()})
        assert_same(outputs["sequence_output"], toy(ids)["sequence_output"], 0)

    def test_bool_mask(self, toy):
        ids = make_ids(LENGTHS)
        outputs = toy(dict(ids, input_mask=MASK))
        assert_same(outputs["sequence_output"], toy(ids)["sequence_output"], 0)

    def test_what_a_tokenizer_of_transformers_returns(self, toy):
        transformers = pytest.importorskip("transformers")
        ids = renamed(make_ids(LENGTHS), HUGGINGFACE_NAMES)
        assert_same(toy(transformers.BatchEncoding(ids))["mask"], MASK)

    def test_what_a_preprocessor_adds_is_ignored(self, toy):
        ids = make_ids(LENGTHS)
        more = {
            "offsets": tf.zeros((4, 9, 2), tf.int32),
            "word_ids": tf.zeros((4, 9), tf.int32),
            "special_tokens_mask": MASK,
            "window_rows": tf.constant([0.5]),
        }
        keras.tree.map_structure(lambda a, b: assert_same(a, b, 0), toy({**ids, **more}), toy(ids))
        inputs = {**symbolic_ids(), "special_tokens_mask": keras.Input((None,), name="special_tokens_mask")}
        assert toy(inputs)["sequence_output"].shape == (None, None, 16)

    def test_do_not_change_the_callers_dict(self, toy):
        ids = {name: value.tolist() for name, value in make_ids(LENGTHS).items()}
        ids["offsets"] = None
        toy(ids)
        assert sorted(ids) == sorted([*TFHUB_NAMES, "offsets"])
        assert isinstance(ids["input_word_ids"], list)

    @pytest.mark.parametrize(
        "inputs",
        [
            {"input_word_ids": 1, "input_ids": 1},
            {"input_word_ids": 1, "attention_mask": 1},
            {"input_ids": 1, "input_mask": 1},
            {"input_ids": 1, "labels": 1},
            {"input_mask": 1, "input_type_ids": 1},
            {"windows": 1, "input_ids": 1},
            {"ids": 1},
            {},
        ],
        ids=lambda inputs: "+".join(inputs) or "none",
    )
    def test_wrong_keys(self, inputs, toy):
        message = (
            r"Encoder expects the keys \('input_word_ids', 'input_mask', 'input_type_ids'\) or the keys "
            r"\('input_ids', 'attention_mask', 'token_type_ids'\).*Received: keys=\["
            + ", ".join(map(repr, sorted(inputs)))
        )
        with pytest.raises(ValueError, match=message):
            toy({name: tf.ones((1, 3), tf.int32) for name in inputs})

    @pytest.mark.parametrize("inputs", [[[1, 2]], tf.ones((1, 2), tf.int32), "text", [tf.ones((1, 2), tf.int32)]])
    def test_no_dict(self, inputs, toy):
        with pytest.raises(ValueError, match=r"expects a dict of integer tensors.*Received: inputs of type "):
            toy(inputs)

    @pytest.mark.parametrize("shape", [(5,), (2, 5, 1), ()])
    def test_rank(self, shape, toy):
        message = r"expects 'input_word_ids' to be \[batch, sequence\]\. Received: input_word_ids\.shape=\(" + (
            ", ".join(map(str, shape))
        )
        with pytest.raises(ValueError, match=message):
            toy({"input_word_ids": np.ones(shape, "int32")})
        with pytest.raises(ValueError, match=message.replace("word_ids", "mask")):
            toy({"input_word_ids": np.ones((2, 5), "int32"), "input_mask": np.ones(shape, "int32")})

    def test_rank_of_symbolic_inputs(self, toy):
        with pytest.raises(ValueError, match=r"to be \[batch, sequence\]\. Received: input_ids\.shape=\(None,\)"):
            toy({"input_ids": keras.Input((), dtype="int32")})

    @pytest.mark.parametrize("name", TFHUB_NAMES)
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_dtype(self, name, dtype, toy):
        ids = make_ids(LENGTHS)
        ids[name] = ids[name].astype(dtype)
        with pytest.raises(ValueError, match=f"'{name}' to hold integers. Received: {name}.dtype={dtype}.*keras.Input"):
            toy(ids)

    def test_dtype_of_symbolic_inputs(self, toy):
        with pytest.raises(ValueError, match=r"to hold integers\. Received: input_ids\.dtype=float32"):
            toy({"input_ids": keras.Input((None,))})

    def test_bool_ids(self, toy):
        with pytest.raises(
            ValueError, match=r"'input_word_ids' to hold integers\. Received: input_word_ids\.dtype=bool"
        ):
            toy({"input_word_ids": MASK})

    @pytest.mark.parametrize("value", [np.array([["a", "b"]]), tf.constant([["a", "b"]]), [["a", "b"]]])
    def test_strings_for_ids(self, value, toy):
        with pytest.raises(ValueError, match=r"'input_word_ids' to hold integers\. Received: input_word_ids\.dtype="):
            toy({"input_word_ids": value})

    @pytest.mark.parametrize("value", [None, 5])
    def test_no_tensor(self, value, toy):
        with pytest.raises(ValueError, match=r"'input_mask' to .*Received: input_mask"):
            toy({"input_word_ids": np.ones((1, 2), "int32"), "input_mask": value})

    def test_ragged_lists_and_tensors(self, toy):
        rows = [[2, 7, 3], [2, 3]]
        with pytest.raises(
            ValueError, match=r"'input_word_ids' to have rows of one length, padded\. Received: input_wo"
        ):
            toy({"input_word_ids": rows})
        with pytest.raises(ValueError, match=r"tensor with rows of one length, padded\. Received: .* RaggedTensor"):
            toy({"input_word_ids": tf.ragged.constant(rows)})

    def test_shapes_that_differ(self, toy):
        ids = make_ids(LENGTHS)
        ids["input_mask"] = ids["input_mask"][:, :5]
        with pytest.raises(ValueError, match=r"expects inputs of one shape\. Received: shapes=.*\(4, 9\).*\(4, 5\)"):
            toy(ids)
        ids["input_mask"] = np.ones((3, 9), "int32")
        with pytest.raises(ValueError, match=r"inputs of one shape"):
            toy(ids)

    def test_shapes_are_compared_where_they_are_static(self, toy):
        inputs = symbolic_ids()
        inputs["input_mask"] = keras.Input((9,), dtype="int32", name="input_mask")
        assert toy(inputs)["sequence_output"].shape[-1] == 16
        inputs["input_type_ids"] = keras.Input((8,), dtype="int32", name="input_type_ids")
        with pytest.raises(ValueError, match=r"inputs of one shape"):
            toy(inputs)


class TestMasks:
    @pytest.mark.parametrize("mode", [None, "stack", "concat", "weighted"])
    def test_implicit(self, mode):
        encoder = ToyEncoder(layers=[1, 3], combine=mode, return_attention_scores=True)
        outputs = encoder(make_ids(LENGTHS))
        states = outputs["encoder_outputs"]
        for state in states if mode is None else [states]:
            if mode == "stack":
                assert getattr(state, "_keras_mask", None) is None
            else:
                np.testing.assert_array_equal(state._keras_mask, MASK)
        np.testing.assert_array_equal(outputs["sequence_output"]._keras_mask, MASK)
        for key in ("pooled_output", "mask", "attention_scores"):
            assert getattr(outputs[key], "_keras_mask", None) is None, key

    def test_all_ones_by_default(self):
        outputs = ToyEncoder()({"input_ids": tf.ones((2, 3), tf.int32)})
        np.testing.assert_array_equal(outputs["sequence_output"]._keras_mask, np.ones((2, 3), bool))

    def test_standard_layers_respect_padding(self, make):
        encoder = make(combine="sum")
        pooling = keras.layers.GlobalAveragePooling1D()
        ids = make_ids(LENGTHS)
        inputs = symbolic_ids()
        model = keras.Model(inputs, pooling(encoder(inputs)["encoder_outputs"]))
        states = encoder(ids)["encoder_outputs"]
        for pooled in (pooling(states), model(ids)):
            assert_same(pooled, states.numpy().sum(1) / np.array(LENGTHS)[:, None])

    def test_pooled_output_trains(self):
        """An implicit mask on it would reach the loss, and `fit` would die."""
        inputs = symbolic_ids()
        model = keras.Model(inputs, keras.layers.Dense(1)(ToyEncoder()(inputs)["pooled_output"]))
        model.compile("sgd", "mse")
        assert np.isfinite(model.train_on_batch(make_ids(LENGTHS), np.zeros((4, 1))))


class TestCombination:
    @pytest.mark.parametrize("kind", ["bert", "huggingface"])
    def test_a_layer_with_options(self, kind, encoder_factory):
        combine = LayerCombination("weighted", initial_weights=[1, 3], layer_norm=True)
        encoder = encoder_factory(kind, layers=[1, 3], combine=combine)
        ids = make_ids(LENGTHS)
        normalized = []
        for state in encoder.hidden_states(ids, [1, 3]):
            state = state.numpy().astype("float64")
            normalized.append((state - state.mean(-1, keepdims=True)) / np.maximum(state.std(-1, keepdims=True), 1e-6))
        expected = (0.25 * normalized[0] + 0.75 * normalized[1]) * MASK[:, :, None]
        assert_same(encoder(ids)["encoder_outputs"], expected, 1e-5)
        assert encoder.combination.mode == "weighted"

    @pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
    def test_gives_the_encoders_dtype(self, dtype):
        """Also with a layer that was made under another policy."""
        policy = "mixed_bfloat16"
        for mode in ("weighted", "stack"):
            encoder = ToyEncoder(combine=LayerCombination(mode, dtype=dtype), dtype=policy)
            assert encoder(make_ids())["encoder_outputs"].dtype == tf.bfloat16

    def test_unknown_mode(self):
        with pytest.raises(
            ValueError, match=r"`combine` to be None, one of stack, concat.*Received: combine='average'"
        ):
            ToyEncoder(combine="average")

    @pytest.mark.parametrize("combine", [7, ["sum"], LayerCombination])
    def test_of_another_type(self, combine):
        with pytest.raises(
            TypeError, match=r"`combine` to be None, the name of a mode or a LayerCombination\. Received"
        ):
            ToyEncoder(combine=combine)

    def test_wrong_number_of_weights(self):
        with pytest.raises(ValueError, match=r"one initial weight for each of the 3 layers"):
            ToyEncoder(combine=LayerCombination("weighted", initial_weights=[1, 2])).build()

    def test_one_mix_for_encoders_of_different_depth(self):
        mix = LayerCombination("weighted")
        ToyEncoder(combine=mix).build()
        with pytest.raises(ValueError, match=r"a weight for each of 3 layers\. Received: 2 layers\. Make another"):
            ToyEncoder(layers=[1, 2], combine=mix)(make_ids())

    def test_learns(self):
        encoder = ToyEncoder(combine="weighted")
        fit(fit_model(encoder), 2)
        assert np.ptp(encoder.combination.layer_weights) > 1e-4


class TestTraining:
    def test_dropout_only_when_training(self, make):
        encoder = make(combine="sum")
        ids = make_ids(LENGTHS)
        plain = encoder(ids)
        for outputs in (encoder(ids), encoder(ids, training=False)):
            assert_same(outputs["encoder_outputs"], plain["encoder_outputs"], 0)
        first, second = encoder(ids, training=True), encoder(ids, training=True)
        assert np.abs(first["encoder_outputs"] - plain["encoder_outputs"]).max() > 1e-2
        assert np.abs(first["encoder_outputs"] - second["encoder_outputs"]).max() > 1e-2
        assert not first["encoder_outputs"].numpy()[~MASK].any()

    def test_dropout_in_a_model(self, make):
        model = functional(make(combine="sum"))
        ids = tensors(make_ids(LENGTHS))
        plain = model(ids)["encoder_outputs"]
        assert_same(tf.function(model)(ids)["encoder_outputs"], plain)
        assert np.abs(model(ids, training=True)["encoder_outputs"] - plain).max() > 1e-2

    def test_every_weight_learns(self, make, recwarn):
        encoder = make(combine="weighted")
        model = fit_model(encoder)
        before = {weight.path: weight.numpy() for weight in encoder.trainable_weights}
        fit(model, 3)
        assert not [str(w.message) for w in recwarn if "radient" in str(w.message)]
        # A bias of the keys adds the same to all scores of a token, which the softmax takes away again.
        still = [w.path for w in encoder.trainable_weights if np.array_equal(w, before[w.path]) and "key" not in w.path]
        assert len(before) >= 5 + 3 * 16 + 2 + 2
        assert still == []

    def test_frozen_pretrained_weights(self, make):
        encoder = make(combine="weighted", trainable=False)
        encoder.build()
        assert encoder.trainable
        assert {weight.name for weight in encoder.trainable_weights} == {"w", "gamma"}
        before = [weight.numpy() for layer in encoder.pretrained_layers for weight in layer.weights]
        fit(fit_model(encoder))
        after = [weight.numpy() for layer in encoder.pretrained_layers for weight in layer.weights]
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        assert np.ptp(encoder.combination.layer_weights) > 1e-5

    def test_freezing_all_of_it(self):
        encoder = ToyEncoder(combine="weighted")
        encoder.trainable = False
        encoder.build()
        assert encoder.trainable_weights == []
        before = encoder.get_weights()
        model = fit_model(encoder)
        fit(model, 2)
        assert all(np.array_equal(a, b) for a, b in zip(before, encoder.get_weights(), strict=True))

    @pytest.mark.parametrize("frozen", ["argument", "attribute"])
    def test_thawing(self, frozen, make):
        encoder = make(combine="weighted", trainable=frozen != "argument")
        if frozen == "attribute":
            encoder.trainable = False
        encoder.build()
        assert {weight.name for weight in encoder.trainable_weights} <= {"w", "gamma"}
        encoder.trainable = True
        assert len(encoder.trainable_weights) >= 5 + 3 * 16 + 2 + 2
        assert encoder.get_config()["frozen_layers"] == []
        assert encoder.get_config()["trainable"] is True

    @pytest.mark.parametrize(
        "freeze",
        [
            lambda encoder: setattr(encoder, "trainable", False),
            lambda encoder: [setattr(layer, "trainable", False) for layer in encoder.pretrained_layers],
            lambda encoder: setattr(encoder.combination, "trainable", False),
        ],
        ids=["all", "pretrained", "combination"],
    )
    def test_frozen_state_survives_its_configuration(self, freeze):
        encoder = ToyEncoder(combine="weighted")
        encoder.build()
        freeze(encoder)
        again = type(encoder).from_config(encoder.get_config())
        again.build()
        assert again.trainable == encoder.trainable
        assert_same_trainable(again, encoder)

    def test_jit_compiled_training(self, make):
        """Keras compiles with XLA what says that it can be; it must then run, or say that it cannot."""
        model = fit_model(make(combine="weighted"))
        model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile="auto")
        ids = make_ids(LENGTHS)
        losses = [model.train_on_batch(ids, np.arange(4.0)) for _ in range(3)]
        assert np.all(np.isfinite(losses))


def assert_same_trainable(first, second):
    def described(encoder):
        # transformers numbers its models: tf_bert_model_1.bert...
        return [(weight.name.split(".", 1)[-1], weight.shape) for weight in encoder.trainable_weights]

    assert described(first) == described(second)


class TestConfig:
    def test_has_every_argument_of_the_constructor(self, make):
        encoder = make()
        names = {
            BertEncoder: {"config"},
            HuggingFaceEncoder: {"tf_model"},
            TFHubEncoder: {"source"},
        }[type(encoder)]
        parameters = set(inspect.signature(type(encoder)).parameters)
        assert names < parameters
        # `frozen_layers` belongs to `from_config`.
        assert set(encoder.get_config()) == parameters | {"frozen_layers"}

    def test_is_json(self):
        encoder = ToyEncoder(layers=range(1, 3), combine=LayerCombination("weighted", dropout=0.1))
        config = encoder.get_config()
        assert config["layers"] == [1, 2]
        again = type(encoder).from_config(json.loads(json.dumps(config)))
        assert again.get_config()["layers"] == [1, 2]
        assert again.combination.dropout == 0.1

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {
                "layers": [3, 1], "name": "my_encoder", "dtype": "mixed_bfloat16", "combine": "concat", "pooler": False,
                "trainable": False, "return_attention_scores": True,
            },
        ],
        ids=["defaults", "all"],
    )  # fmt: skip
    def test_keeps_every_argument(self, arguments, kind, make):
        if kind == "tfhub" and arguments:
            # It refuses them.
            arguments = {**arguments, "return_attention_scores": False}
        encoder = make(**arguments)
        encoder.build()
        again = type(encoder).from_config(encoder.get_config())
        again.build()
        again.set_weights(encoder.get_weights())
        outputs, expected = again(make_ids()), encoder(make_ids())
        assert sorted(outputs) == sorted(expected)
        for first, second in zip(keras.tree.flatten(outputs), keras.tree.flatten(expected), strict=True):
            assert first.dtype == second.dtype
            np.testing.assert_array_equal(first, second)
        assert again.name == encoder.name
        assert_same_trainable(again, encoder)
        assert {**again.get_config(), "tf_model": 0} == {**encoder.get_config(), "tf_model": 0}
        for key, value in arguments.items():
            if key in ("layers", "pooler", "trainable", "name", "return_attention_scores"):
                assert again.get_config()[key] == value

    def test_clone_model(self, make):
        model = fit_model(make(layers=[1, 3], combine="weighted"))
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        ids = make_ids()
        np.testing.assert_array_equal(clone(ids), model(ids))
        before = clone.get_weights()
        fit(model)
        assert all(np.array_equal(a, b) for a, b in zip(before, clone.get_weights(), strict=True))

    def test_weights_file(self, make, tmp_path):
        model, other = (fit_model(make(combine="weighted")) for _ in "ab")
        randomize(model.trainable_weights)
        model.save_weights(tmp_path / "m.weights.h5")
        ids = make_ids()
        expected = model(ids)
        randomize(other.trainable_weights, seed=1)
        assert not np.array_equal(other(ids), expected)
        other.load_weights(tmp_path / "m.weights.h5")
        np.testing.assert_array_equal(other(ids), expected)
