"""`BertEncoder` under 16-bit policies, with LoRA and quantised."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import BertConfig, BertEncoder, LayerCombination

from ..fresh_process import run_in_fresh_process
from .tiny_encoders import SIZES, TFHUB_NAMES, as_graph, assert_same, make_ids, quantize, randomize

LENGTHS = (6, 9, 1, 4)
MASK = np.arange(9) < np.array(LENGTHS)[:, None]
IDS = make_ids(LENGTHS)
ONE_LAYER = BertConfig(**{**SIZES, "num_hidden_layers": 1})


def make(config=None, **arguments):
    encoder = BertEncoder(config or BertConfig(**SIZES), **arguments)
    encoder.build()
    for layer in encoder.pretrained_layers:
        randomize(layer.weights)
    return encoder


def make_model(encoder, outputs=1):
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in TFHUB_NAMES}
    features = encoder(inputs)
    pooled = keras.layers.concatenate([features["encoder_outputs"][:, 0], features["pooled_output"]])
    model = keras.Model(inputs, keras.layers.Dense(outputs, dtype="float32", name="scores")(pooled))
    model.compile(keras.optimizers.Adam(1e-3), "mse", jit_compile=False)
    return model


def relative_difference(first, second):
    first, second = (np.asarray(tf.cast(value, "float64")) for value in (first, second))
    return np.linalg.norm(first - second) / np.linalg.norm(second)


class TestPolicies:
    @pytest.mark.parametrize(
        ("policy", "mode"),
        [
            *((policy, "eager") for policy in ("mixed_bfloat16", "mixed_float16", "bfloat16", "float16")),
            ("mixed_bfloat16", "graph"),
            ("mixed_float16", "xla"),
        ],
    )
    def test_every_layer_is_near_float32(self, policy, mode):
        reference, encoder = (make(dtype=dtype, return_attention_scores=True) for dtype in ("float32", policy))
        for weight, start in zip(encoder.weights, reference.weights, strict=True):
            weight.assign(start)
        states = {"layers": lambda ids: encoder.hidden_states(ids, "all+embeddings"), "call": encoder}
        if mode != "eager":
            states = {name: as_graph(run, jit_compile=mode == "xla") for name, run in states.items()}
        for state, expected in zip(states["layers"](IDS), reference.hidden_states(IDS, "all+embeddings"), strict=True):
            assert state.dtype == encoder.compute_dtype
            assert relative_difference(state.numpy()[MASK], expected.numpy()[MASK]) < 2e-2
        outputs, expected = states["call"](IDS), reference(IDS)
        for key in ("sequence_output", "pooled_output", "attention_scores"):
            assert outputs[key].dtype == encoder.compute_dtype
            assert relative_difference(outputs[key], expected[key]) < 2e-2
        variables = {weight.dtype for weight in encoder.weights}
        assert variables == {encoder.variable_dtype} == {"float32" if "mixed" in policy else policy}

    def test_training_with_xla_has_no_nan(self):
        """Without it, both policies train in tests/test_training.py."""
        encoder = make(ONE_LAYER, dtype="mixed_float16", combine="weighted", hidden_dropout=0.0, attention_dropout=0.0)
        model = make_model(encoder)
        model.compile(keras.optimizers.Adam(1e-3), "mse", jit_compile=True)
        losses = [float(model.train_on_batch(IDS, np.arange(4.0))) for _ in range(6)]
        assert np.all(np.isfinite(losses))
        assert losses[-1] < losses[0]
        assert all(np.all(np.isfinite(tf.cast(weight, "float32"))) for weight in model.weights)

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
    def test_all_padding(self, policy):
        outputs = make(dtype=policy)(make_ids((0, 3)))
        assert not np.any(outputs["sequence_output"][0])
        assert np.all(np.isfinite(tf.cast(outputs["sequence_output"], "float32")))

    def test_the_softmax_is_computed_in_float32(self):
        """Scores of about 3e4 differ by less than float16's and bfloat16's steps there; a float32 softmax of the same
        16-bit scores still masks the padding, where -1e9 would overflow float16."""
        encoder = make(dtype="float16", return_attention_scores=True)
        seen = []
        original = tf.nn.softmax

        def softmax(logits, *args, **kwargs):
            seen.append(logits.dtype)
            return original(logits, *args, **kwargs)

        tf.nn.softmax, keep = softmax, tf.nn.softmax
        try:
            scores = encoder(IDS)["attention_scores"].numpy().astype("float64")
        finally:
            tf.nn.softmax = keep
        assert seen == [tf.float32] * 3
        assert_same(scores.sum(-1), np.broadcast_to(MASK[:, None, None], (4, 3, 2, 9)), 2e-3)

    @pytest.mark.parametrize("policy", ["float16", "mixed_float16"])
    def test_layer_norm_is_computed_in_float32(self, policy):
        """The squares of states of 300 are beyond float16, of which 65,504 is the largest."""
        encoder, reference = make(dtype=policy), make()
        for own in (encoder, reference):
            for number, layer in enumerate(own.transformer_layers):
                layer.feed_forward.output_dense.bias.assign(300 * np.cos(np.arange(16.0) + number))
        for state, expected in zip(encoder.hidden_states(IDS), reference.hidden_states(IDS), strict=True):
            assert np.all(np.isfinite(state))
            assert relative_difference(state, expected) < 2e-2

    @pytest.mark.parametrize("mode", ["mean", "layer_norm", "attention"])
    def test_combining_is_computed_in_float32(self, mode):
        """Two states of 4e4 have a mean, but no sum, no square and no product with a query below float16's 65,504."""
        combine = LayerCombination("weighted", layer_norm=True) if mode == "layer_norm" else mode
        encoder = make(dtype="float16", layers=[3, 3], combine=combine)
        state = 4e4 * np.cos(np.arange(16.0)) ** 2
        layer_norm = encoder.transformer_layers[2].feed_forward.layer_norm
        layer_norm.gamma.assign(np.zeros(16))
        layer_norm.beta.assign(state)
        if mode == "attention":
            encoder.combination.query.assign(np.ones(16))
        expected = (state - state.mean()) / state.std() if mode == "layer_norm" else state
        combined = encoder(IDS)["encoder_outputs"].numpy()[MASK].astype("float64")
        assert relative_difference(combined, np.broadcast_to(expected, combined.shape)) < 1e-3


class TestLora:
    def test_trains_little_and_is_saved(self, tmp_path):
        encoder = make(combine="weighted")
        model = make_model(encoder)
        for layer in encoder._flatten_layers(include_self=False):
            if layer.weights and not layer._layers:
                layer.trainable = False
        for layer in encoder.transformer_layers:
            for dense in (layer.attention.query, layer.attention.value):
                dense.trainable = True
                dense.enable_lora(4)
        model.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
        names = [weight.name for weight in encoder.trainable_weights]
        assert names.count("lora_kernel_a") == names.count("lora_kernel_b") == 6
        assert not any(name == "kernel" for name in names)
        kernels = [layer.attention.query._kernel.numpy() for layer in encoder.transformer_layers]
        before = model(IDS)
        for _ in range(5):
            model.train_on_batch(IDS, np.arange(4.0))
        for layer, kernel in zip(encoder.transformer_layers, kernels, strict=True):
            np.testing.assert_array_equal(layer.attention.query._kernel, kernel)
            assert np.any(layer.attention.query.lora_kernel_b)
        after = model(IDS)
        assert np.abs(after - before).max() > 1e-3
        model.save(tmp_path / "m.keras")
        assert_same(keras.saving.load_model(tmp_path / "m.keras")(IDS), after, 1e-5)


@pytest.fixture(scope="module")
def quantized():
    """Policy -> a model quantised by Keras, and what it predicted before."""
    models = {}
    for policy in ("float32", "mixed_bfloat16"):
        model = make_model(make(ONE_LAYER, dtype=policy, combine="weighted", name="my_encoder"))
        before = model(IDS)
        quantize(model)
        models[policy] = model, before
    return models


LOAD_AND_CALL = """
import sys

sys.modules["transformers"] = sys.modules["tensorflow_hub"] = sys.modules["tf_keras"] = None
import keras, numpy as np, keras_bert_layers

ids = dict(np.load("ids.npz"))
for policy in ("float32", "mixed_bfloat16"):
    model = keras.saving.load_model(policy + ".keras")
    model.save("again.keras")
    again = keras.saving.load_model("again.keras")
    np.save(policy, np.stack([model(ids), again(ids)]))
"""


class TestQuantized:
    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
    def test_gives_nearly_the_same(self, policy, quantized):
        model, before = quantized[policy]
        difference = relative_difference(model(IDS), before)
        assert 0 < difference < 0.1
        encoder = model.get_layer("my_encoder")
        dense = encoder.transformer_layers[0].feed_forward.intermediate
        assert dense.kernel.dtype == encoder.embeddings.word_embeddings.embeddings.dtype == "int8"
        outputs = encoder(IDS)
        assert outputs["encoder_outputs"].dtype == encoder.compute_dtype
        assert len(encoder.hidden_states(IDS, "all+embeddings")) == 2
        assert not np.any(outputs["sequence_output"].numpy()[~MASK])

    def test_is_equal_after_loading_in_a_fresh_process(self, quantized, tmp_path):
        for policy, (model, _) in quantized.items():
            model.save(tmp_path / f"{policy}.keras")
        np.savez(tmp_path / "ids.npz", **IDS)
        run_in_fresh_process(LOAD_AND_CALL, cwd=tmp_path)
        for policy, (model, _) in quantized.items():
            loaded, loaded_twice = np.load(tmp_path / f"{policy}.npy")
            np.testing.assert_array_equal(loaded, model(IDS))
            np.testing.assert_array_equal(loaded_twice, model(IDS))


class TestPolicyMap:
    def test_of_ones_own_survives_its_configuration(self):
        policies = keras.dtype_policies.DTypePolicyMap(
            "float32", {"my_encoder/layer_1/feed_forward/intermediate": keras.DTypePolicy("mixed_bfloat16")}
        )
        encoder = make(dtype=policies, combine="sum", name="my_encoder")
        dense = [layer.feed_forward.intermediate for layer in encoder.transformer_layers]
        assert [layer.compute_dtype for layer in dense] == ["bfloat16", "float32", "float32"]
        again = BertEncoder.from_config(encoder.get_config())
        again = BertEncoder.from_config({**again.get_config(), "name": "another"})
        again.build()
        dense = [layer.feed_forward.intermediate for layer in again.transformer_layers]
        assert [layer.compute_dtype for layer in dense] == ["bfloat16", "float32", "float32"]
        assert again(IDS)["encoder_outputs"].dtype == tf.float32
