"""`BertEncoder` against `TFBertModel`, and what it alone has: checkpoints, first layers, padding removed."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import BertConfig, BertEncoder, BertPreprocessor
from keras_bert_layers.checkpoints.bert_config import SUPPORTED_ACTIVATIONS

from .tiny_encoders import (
    HUGGINGFACE_NAMES,
    SIZES,
    as_graph,
    assert_same,
    make_ids,
    make_tf_model,
    randomize,
    renamed,
)

MODES = ["eager", "graph", "xla"]
SLOW = pytest.mark.slow
HOLES = np.array([[1, 1, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 1, 0], [1, 1, 1, 1, 1, 1, 1]], dtype="int32")


def everything(encoder, training=False):
    """A function of ids that gives all that an encoder can, layer 0 included."""

    def run(ids):
        outputs = encoder(ids, training=training)
        return {**outputs, "hidden_states": encoder.hidden_states(ids, "all+embeddings", training=training)}

    return run


def run_everything(encoder, mode):
    run = everything(encoder)
    return run if mode == "eager" else as_graph(run, jit_compile=mode == "xla")


def run_tfbertmodel(tf_model, ids):
    return tf_model(renamed(ids, HUGGINGFACE_NAMES), output_hidden_states=True, output_attentions=True)


def assert_equal_to_tfbertmodel(outputs, expected, atol=1e-5):
    """Every hidden state, the pooled output and the attention scores, on all real tokens."""
    mask = np.asarray(outputs["mask"])
    states = outputs["hidden_states"]
    assert len(states) == len(expected.hidden_states)
    for state, hidden_state in zip(states, expected.hidden_states, strict=True):
        assert_same(state[mask], hidden_state.numpy()[mask], atol)
    assert_same(outputs["sequence_output"][mask], expected.last_hidden_state.numpy()[mask], atol)
    for state, hidden_state in zip(outputs["encoder_outputs"], expected.hidden_states[1:], strict=True):
        assert_same(state[mask], hidden_state.numpy()[mask], atol)
    if getattr(expected, "pooler_output", None) is None:
        assert "pooled_output" not in outputs
    else:
        has_cls = mask[:, 0]
        assert_same(outputs["pooled_output"][has_cls], expected.pooler_output.numpy()[has_cls], atol)
    # [batch, K, heads, sequence, sequence] -> real tokens first.
    scores = np.asarray(outputs["attention_scores"]).transpose(0, 3, 4, 1, 2)
    attentions = np.stack([layer.numpy() for layer in expected.attentions], axis=1).transpose(0, 3, 4, 1, 2)
    pairs = mask[:, :, None] & mask[:, None, :]
    assert_same(scores[pairs], attentions[pairs], atol)
    assert not scores[~pairs].any()


@pytest.fixture(scope="module")
def tf_model():
    return make_tf_model()


@pytest.fixture(scope="module")
def encoder(tf_model):
    return BertEncoder.from_pretrained(tf_model, return_attention_scores=True)


@pytest.fixture(scope="module")
def run(encoder):
    """Mode -> `everything` of the encoder in that mode, compiled once."""
    return functools.cache(functools.partial(run_everything, encoder))


@pytest.fixture(scope="module")
def texts():
    """64 texts of 0 to 60 words."""
    random = np.random.default_rng(1)
    words = (
        "the quick brown fox jumps over lazy dogs while an unbelievably tokenised sentence , about Zürich and 北京 , "
        "is read by 1,234 people who didn't expect antidisestablishmentarianism !"
    ).split()
    return [" ".join(random.choice(words, length)) for length in [0, 1, 60, *random.integers(1, 60, 61)]]


@pytest.fixture(scope="module")
def real(minilm_directory, texts):
    """The real checkpoint as a `BertEncoder`, ids of the texts, and what `TFBertModel` makes of them."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tf_model = transformers.TFBertModel.from_pretrained(minilm_directory)
    ids = BertPreprocessor.from_pretrained(minilm_directory, sequence_length=64)(texts)
    encoder = BertEncoder.from_pretrained(minilm_directory, return_attention_scores=True)
    return encoder, ids, run_tfbertmodel(tf_model, ids)


class TestEqualToTFBertModel:
    @pytest.mark.parametrize("mode", [pytest.param("eager", marks=SLOW), "graph", pytest.param("xla", marks=SLOW)])
    def test_real_checkpoint(self, mode, real):
        encoder, ids, expected = real
        assert len(set(np.sum(ids["input_mask"], axis=1))) > 20
        assert encoder.num_layers == 6
        assert_equal_to_tfbertmodel(run_everything(encoder, mode)(ids), expected)

    @pytest.mark.parametrize("activation", SUPPORTED_ACTIVATIONS)
    def test_activation(self, activation):
        # TFBertModel has the same function under another name.
        theirs = {"gelu_pytorch_tanh": "gelu_new"}.get(activation, activation)
        # Wide enough that the two forms of GELU differ by more than the tolerance.
        tf_model = make_tf_model(hidden_act=theirs, num_hidden_layers=2)
        tf_model.config.hidden_act = activation
        encoder = BertEncoder.from_pretrained(tf_model, return_attention_scores=True)
        assert encoder.config.hidden_act == activation
        ids = make_ids()
        assert_equal_to_tfbertmodel(everything(encoder)(ids), run_tfbertmodel(tf_model, ids))

    def test_the_two_forms_of_gelu_are_told_apart(self, tf_model):
        config = BertConfig.from_dict({**tf_model.config.to_dict(), "hidden_act": "gelu_new"})
        encoder = BertEncoder(config)
        encoder.build()
        encoder.set_weights(BertEncoder.from_pretrained(tf_model).get_weights())
        ids = make_ids()
        difference = encoder(ids)["sequence_output"] - BertEncoder.from_pretrained(tf_model)(ids)["sequence_output"]
        assert np.abs(difference).max() > 2e-5

    @pytest.mark.parametrize("epsilon", [1e-12, 1e-5, 1e-2])
    def test_epsilon(self, epsilon):
        tf_model = make_tf_model(layer_norm_eps=epsilon)
        # Small states make the epsilon count.
        tf_model.bert.embeddings.weight.assign(tf_model.bert.embeddings.weight * 1e-2)
        encoder = BertEncoder.from_pretrained(tf_model, return_attention_scores=True)
        ids = make_ids()
        assert_equal_to_tfbertmodel(everything(encoder)(ids), run_tfbertmodel(tf_model, ids))

    def test_in_the_forms_with_and_without_onednn(self, monkeypatch):
        # One of them this machine would not choose.
        tf_model = make_tf_model(layer_norm_eps=1e-2)
        ids = make_ids()
        expected = run_tfbertmodel(tf_model, ids)
        encoder = BertEncoder.from_pretrained(tf_model, return_attention_scores=True)
        for is_on in (True, False):
            monkeypatch.setattr("keras_bert_layers.encoders.execution.onednn_is_on", lambda is_on=is_on: is_on)
            assert_equal_to_tfbertmodel(run_everything(encoder, "graph")(ids), expected)

    @pytest.mark.parametrize("types", [1, 2, 3])
    def test_number_of_segments(self, types):
        tf_model = make_tf_model(type_vocab_size=types)
        encoder = BertEncoder.from_pretrained(tf_model, return_attention_scores=True)
        ids = make_ids(types=types)
        assert ids["input_type_ids"].max() == types - 1
        assert_equal_to_tfbertmodel(everything(encoder)(ids), run_tfbertmodel(tf_model, ids))

    def test_without_pooler(self):
        tf_model = make_tf_model(pooler=False)
        encoder = BertEncoder.from_pretrained(tf_model, return_attention_scores=True)
        assert not encoder.has_pooler
        ids = make_ids()
        assert_equal_to_tfbertmodel(everything(encoder)(ids), run_tfbertmodel(tf_model, ids))

    def test_heads_of_another_number_and_size(self):
        tf_model = make_tf_model(hidden_size=24, num_attention_heads=6, intermediate_size=10, num_hidden_layers=1)
        encoder = BertEncoder.from_pretrained(tf_model, return_attention_scores=True)
        ids = make_ids()
        assert_equal_to_tfbertmodel(everything(encoder)(ids), run_tfbertmodel(tf_model, ids))

    @pytest.mark.parametrize("mode", MODES)
    def test_modes_and_holes_in_the_mask(self, mode, tf_model, run):
        ids = {**make_ids((7, 7, 7), sequence=7), "input_mask": HOLES}
        assert_equal_to_tfbertmodel(run(mode)(ids), run_tfbertmodel(tf_model, ids))

    def test_both_ways_through_files(self, tf_model, tmp_path):
        transformers = pytest.importorskip("transformers")
        tf_model.save_pretrained(tmp_path, safe_serialization=True)
        encoder = BertEncoder.from_pretrained(tmp_path, return_attention_scores=True)
        again = transformers.TFBertModel.from_pretrained(tmp_path)
        ids = make_ids()
        assert_equal_to_tfbertmodel(everything(encoder)(ids), run_tfbertmodel(again, ids))
        for ours, theirs in zip(encoder.weights, BertEncoder.from_pretrained(again).weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    def test_a_classifier_of_transformers_as_source(self):
        tf_model = make_tf_model("TFBertForSequenceClassification")
        encoder = BertEncoder.from_pretrained(tf_model, layers="all+embeddings")
        ids = make_ids()
        expected = tf_model(renamed(ids, HUGGINGFACE_NAMES), output_hidden_states=True).hidden_states
        mask = ids["input_mask"].astype(bool)
        for state, hidden_state in zip(encoder(ids)["encoder_outputs"], expected, strict=True):
            assert_same(state[mask], hidden_state.numpy()[mask])


class TestPaddingRemoval:
    def test_eager_graph_and_xla_agree_everywhere(self, run):
        ids = {**make_ids((7, 7, 7), sequence=7), "input_mask": HOLES}
        eager = run("eager")(ids)
        for mode in ("graph", "xla"):
            tf.nest.map_structure(assert_same, run(mode)(ids), eager)

    @pytest.mark.parametrize("options", [{}, {"jit_compile": True}], ids=["graph", "xla"])
    def test_gradients_agree(self, options, tf_model):
        encoder = BertEncoder.from_pretrained(tf_model, hidden_dropout=0.0, attention_dropout=0.0, combine="sum")
        ids = make_ids()

        def gradients(ids):
            with tf.GradientTape() as tape:
                outputs = encoder(ids, training=True)
                loss = tf.reduce_sum(tf.sin(3 * outputs["encoder_outputs"])) + tf.reduce_sum(outputs["pooled_output"])
            return [tf.convert_to_tensor(g) for g in tape.gradient(loss, encoder.trainable_variables)]

        eager, compiled = gradients(ids), as_graph(gradients, **options)(ids)
        for first, second in zip(eager, compiled, strict=True):
            assert np.abs(first).max() > 0 or first.shape == (16,)
            assert_same(first, second, atol=1e-3 * max(1.0, float(np.abs(first).max())))

    def test_dense_layers_see_real_tokens_alone(self, encoder, monkeypatch):
        rows = []
        dense = encoder.transformer_layers[0].feed_forward.intermediate
        original = type(dense).call

        def call(self, inputs, *args, **kwargs):
            if self is dense:
                rows.append(tuple(inputs.shape))
            return original(self, inputs, *args, **kwargs)

        monkeypatch.setattr(type(dense), "call", call)
        encoder(make_ids((6, 9, 1, 4)))
        assert rows == [(20, 16)]

    @pytest.mark.parametrize("mode", MODES)
    def test_one_text_alone_equals_itself_in_a_batch(self, mode, run):
        ids = make_ids((6, 9))
        together = run(mode)(ids)
        for row, length in enumerate((6, 9)):
            alone = run(mode)({name: value[row : row + 1, :length] for name, value in ids.items()})
            for state, states in zip(alone["hidden_states"], together["hidden_states"], strict=True):
                assert_same(state[0], states[row, :length])
            assert_same(alone["pooled_output"][0], together["pooled_output"][row])
            assert_same(alone["attention_scores"][0], together["attention_scores"][row][..., :length, :length])

    def test_ids_at_padding_change_nothing(self, encoder):
        ids = make_ids()
        other = dict(ids, input_word_ids=np.where(ids["input_mask"], ids["input_word_ids"], 30))
        assert np.any(other["input_word_ids"] != ids["input_word_ids"])
        tf.nest.map_structure(assert_same, everything(encoder)(other), everything(encoder)(ids))


class TestNumberOfLayers:
    def test_keeps_the_first(self, tf_model, encoder):
        first = BertEncoder.from_pretrained(tf_model, num_hidden_layers=2, combine="concat")
        ids = make_ids()
        outputs, full = first(ids), encoder.hidden_states(ids)
        assert_same(outputs["encoder_outputs"], np.concatenate(full[:2], axis=-1))
        assert_same(outputs["sequence_output"], full[1])
        assert "pooled_output" not in outputs
        assert not any("layer_3" in weight.path or "pooler" in weight.path for weight in first.weights)
        assert len(first.weights) == 5 + 2 * 16
        # The configuration stays the checkpoint's.
        assert (first.config, first.num_hidden_layers) == (encoder.config, 2)
        assert BertEncoder.from_config(first.get_config()).num_layers == 2

    def test_all_of_them_keeps_the_pooler(self, tf_model):
        assert BertEncoder.from_pretrained(tf_model, num_hidden_layers=3).has_pooler

    def test_of_a_configuration(self):
        encoder = BertEncoder(BertConfig(**SIZES), num_hidden_layers=1, layers=-1)
        assert encoder.selected_layers == [1]
        assert not encoder.has_pooler
        assert len(encoder.transformer_layers) == 1

    @pytest.mark.parametrize("number", [0, -1, 4, 1.5, "2", True])
    def test_wrong(self, number, tf_model):
        message = r"num_hidden_layers.* from 1 to 3.* Received: num_hidden_layers="
        with pytest.raises(ValueError, match=message):
            BertEncoder(BertConfig(**SIZES), num_hidden_layers=number)
        with pytest.raises(ValueError, match=message):
            BertEncoder.from_pretrained(tf_model, num_hidden_layers=number)

    def test_pooler_left_out(self, tf_model):
        encoder = BertEncoder.from_pretrained(tf_model, pooler=False)
        assert "pooled_output" not in encoder(make_ids())
        assert not any("pooler" in weight.path for weight in encoder.weights)


class TestConstruction:
    def test_starts_as_bert_does(self):
        encoder = BertEncoder(BertConfig(**{**SIZES, "hidden_size": 64, "initializer_range": 0.1}))
        encoder.build()
        values = {}
        for weight in encoder.weights:
            if "gamma" in weight.path:
                np.testing.assert_array_equal(weight, 1)
            elif "beta" in weight.path or "bias" in weight.path:
                np.testing.assert_array_equal(weight, 0)
            else:
                value = np.asarray(weight)
                # A normal distribution that is cut at two deviations has 0.88 of its deviation.
                assert 0.075 < value.std() < 0.1 or value.size < 500
                assert np.abs(value).max() <= 0.2
                values[weight.path] = value
        first = [value[:5, :5].tobytes() for value in values.values() if value.shape[0] >= 5]
        assert len(set(first)) == len(first), "two weights start with the same values"

    def test_every_dropout_rate_is_the_configurations(self):
        config = BertConfig(**SIZES, hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.5)
        rates = dropout_rates(BertEncoder(config))
        assert rates == {"embeddings": {0.25}, "hidden": {0.25}, "attention": {0.5}}

    def test_dropout_rates_of_ones_own(self, tf_model):
        encoder = BertEncoder.from_pretrained(tf_model, hidden_dropout=0.0, attention_dropout=0.75)
        assert dropout_rates(encoder) == {"embeddings": {0.0}, "hidden": {0.0}, "attention": {0.75}}

    @pytest.mark.parametrize(
        "place",
        [
            "embeddings/dropout",
            "layer_1/attention/attention_dropout",
            "layer_1/attention/hidden_dropout",
            "layer_1/feed_forward/hidden_dropout",
        ],
    )
    def test_each_dropout_drops(self, place):
        encoder = BertEncoder(BertConfig(**SIZES), num_hidden_layers=1, hidden_dropout=0.5, attention_dropout=0.5)
        ids = make_ids()
        encoder(ids)
        sublayers = encoder._sublayers()
        for path, layer in sublayers.items():
            if path.endswith("dropout") and path != place:
                layer.rate = 0.0
        embedded, state = encoder.hidden_states(ids, [0, 1], training=True)
        plain_embedded, plain = encoder.hidden_states(ids, [0, 1])
        assert np.abs(state - plain).max() > 1e-4
        assert np.any(embedded != plain_embedded) == (place == "embeddings/dropout")

    @pytest.mark.parametrize("argument", ["hidden_dropout", "attention_dropout"])
    @pytest.mark.parametrize("rate", [1.5, 1, -0.1, "x", True, [0.1], float("nan")])
    def test_wrong_dropout(self, rate, argument):
        with pytest.raises(ValueError, match=rf"`{argument}` to be at least 0 and below 1.*Received: {argument}="):
            BertEncoder(BertConfig(**SIZES), **{argument: rate})

    @pytest.mark.parametrize("argument", ["pooler", "recompute", "trainable", "return_attention_scores"])
    @pytest.mark.parametrize("flag", [1, "no", None])
    def test_wrong_flag(self, flag, argument):
        with pytest.raises(TypeError, match=rf"Expected `{argument}` to be True or False\. Received: {argument}="):
            BertEncoder(BertConfig(**SIZES), **{argument: flag})

    def test_reading_keeps_the_configuration(self, tf_model):
        """Random numbers that are overwritten at once are not drawn, and nothing else changes."""
        read = BertEncoder.from_pretrained(tf_model)
        assert read.config.initializer_range == tf_model.config.initializer_range > 0
        fresh = BertEncoder.from_config(read.get_config())
        assert np.any(fresh.transformer_layers[0].attention.query.kernel)

    def test_options_have_names(self, tf_model):
        with pytest.raises(TypeError, match="positional"):
            BertEncoder(BertConfig(**SIZES), "all", "mean", 2)
        with pytest.raises(TypeError, match="positional"):
            BertEncoder.from_pretrained(tf_model, "all")
        with pytest.raises(TypeError, match="unexpected keyword argument 'layer'"):
            BertEncoder.from_pretrained(tf_model, layer="all")

    def test_a_dict_for_a_configuration(self):
        assert BertEncoder(dict(SIZES)).config == BertConfig(**SIZES)

    @pytest.mark.parametrize("config", ["google-bert/bert-base-uncased", None])
    def test_no_configuration(self, config):
        with pytest.raises(TypeError, match=r"Received: config=.* A checkpoint is read by BertEncoder.from_pretrained"):
            BertEncoder(config)

    def test_longer_than_its_positions(self, encoder):
        assert encoder(make_ids((24,), sequence=24))["sequence_output"].shape == (1, 24, 16)
        with pytest.raises(ValueError, match=r"positions for 24 tokens\. Received: a sequence of 25"):
            encoder(make_ids((1,), sequence=25))
        with pytest.raises(ValueError, match="positions for 24 tokens"):
            encoder.hidden_states(make_ids((1,), sequence=25))

    def test_randomized_weights_are_those_that_are_read(self, tf_model):
        """A weight that is not read would keep its start."""
        read = BertEncoder.from_pretrained(tf_model)
        fresh = BertEncoder(BertConfig(**SIZES))
        fresh.build()
        for weight, start in zip(read.weights, fresh.weights, strict=True):
            assert np.abs(np.asarray(weight) - np.asarray(start)).max() > 0.05, weight.path


def dropout_rates(encoder):
    rates = {"embeddings": {encoder.embeddings.dropout.rate}, "hidden": set(), "attention": set()}
    for layer in encoder.transformer_layers:
        rates["hidden"] |= {layer.attention.hidden_dropout.rate, layer.feed_forward.hidden_dropout.rate}
        rates["attention"].add(layer.attention.attention_dropout.rate)
    return rates


class TestEmptyInput:
    @pytest.fixture(params=MODES)
    def run(self, request, encoder):
        return run_everything(encoder, request.param)

    def test_all_padding(self, run):
        outputs = run(make_ids((0, 0), sequence=5))
        for state in [*outputs["hidden_states"], outputs["sequence_output"], outputs["attention_scores"]]:
            assert not np.any(state)
        assert np.all(np.isfinite(outputs["pooled_output"]))
        assert not np.any(outputs["mask"])

    def test_an_empty_row_among_others(self, run):
        ids = make_ids((0, 5, 0), sequence=5)
        outputs, alone = run(ids), run({name: value[1:2] for name, value in ids.items()})
        for state, expected in zip(outputs["hidden_states"], alone["hidden_states"], strict=True):
            assert_same(state[1], expected[0])
            assert not np.any(np.asarray(state)[[0, 2]])
        assert np.all(np.isfinite(outputs["pooled_output"]))

    def test_no_place_for_a_token(self, encoder):
        with pytest.raises(ValueError, match=r"rows of at least one token\. Received: shapes=.*\(2, 0\)"):
            encoder(make_ids((0, 0), sequence=0))

    def test_batch_of_none(self, run):
        outputs = run(make_ids((), sequence=5))
        assert [state.shape for state in outputs["hidden_states"]] == [(0, 5, 16)] * 4
        assert outputs["pooled_output"].shape == (0, 16)
        assert outputs["attention_scores"].shape == (0, 3, 2, 5, 5)


def test_gradient_of_an_empty_row_is_finite():
    encoder = BertEncoder(BertConfig(**SIZES))
    encoder.build()
    randomize(encoder.weights)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder(make_ids((0, 3)))["sequence_output"] ** 2)
    for gradient in tape.gradient(loss, encoder.trainable_variables):
        assert gradient is None or np.all(np.isfinite(tf.convert_to_tensor(gradient)))
