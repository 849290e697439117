"""What a combination learned, read from encoders and models, and recorded while they train."""

import importlib.util
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keras_bert_layers import (
    BertEncoder,
    BertPreprocessor,
    LayerCombination,
    SequencePooling,
    WindowedEncoder,
    analysis,
)

from .made_encoder import MadeEncoder, Reference


def softmax(values):
    return np.exp(values) / np.exp(values).sum(-1, keepdims=True)


class TestLayerWeights:
    def test_weighted(self, encoder_factory):
        encoder = encoder_factory("bert", layers=[0, 2, 3], combine=LayerCombination("weighted", temperature=2.0))
        encoder.build()
        encoder.combination.w.assign([1.0, -2.0, 3.0])
        encoder.combination.gamma.assign(0.7)
        weights = analysis.layer_weights(encoder)
        expected = softmax(np.array([0.5, -1.0, 1.5]))
        np.testing.assert_allclose(weights.weights, expected, atol=1e-6)
        assert weights.layers == [0, 2, 3]
        assert weights.scale == pytest.approx(0.7)
        assert weights.expected_layer == pytest.approx(2 * expected[1] + 3 * expected[2])
        assert weights.divergence_from_uniform == pytest.approx(np.sum(expected * np.log(3 * expected)))
        assert weights.to_dataframe().columns.tolist() == ["layer", "weight"]

    def test_what_has_learned_nothing(self, encoder_factory):
        weights = analysis.layer_weights(encoder_factory("bert", layers="all+embeddings", combine="weighted"))
        np.testing.assert_allclose(weights.weights, 1 / 4)
        assert weights.expected_layer == pytest.approx(1.5)
        assert weights.divergence_from_uniform == pytest.approx(0, abs=1e-6)

    def test_attention(self, made_encoder, preprocessor, texts):
        encoder = MadeEncoder(made_encoder.tables, made_encoder.places, layers=[1, 4], combine="attention")
        encoder.build()
        query = np.random.default_rng(0).normal(size=12)
        encoder.combination.query.assign(query)
        weights = analysis.layer_weights(encoder, preprocessor, texts)
        reference = Reference(encoder, preprocessor, texts)
        expected = softmax(np.stack([reference.tokens(1) @ query, reference.tokens(4) @ query], -1) / np.sqrt(12))
        np.testing.assert_allclose(weights.weights, expected.mean(0), atol=1e-6)
        np.testing.assert_allclose(weights.spread, expected.std(0), atol=1e-6)
        assert weights.mode == "attention"
        assert weights.to_dataframe().columns.tolist() == ["layer", "weight", "spread"]
        with pytest.raises(ValueError, match='"attention" differ from token to token. Received: no preprocessor'):
            analysis.layer_weights(encoder)

    @pytest.mark.parametrize("windowed", [False, True])
    def test_finds_the_encoder_in_a_model(self, encoder_factory, windowed):
        encoder = encoder_factory("bert", combine=LayerCombination("weighted", initial_weights=[1, 2, 5]))
        outer = WindowedEncoder(encoder, window=12, stride=2) if windowed else encoder
        ids = keras.Input((None,), dtype="int32", name="input_word_ids")
        model = keras.Model(ids, outer({"input_word_ids": ids})["encoder_outputs"])
        np.testing.assert_allclose(analysis.layer_weights(model).weights, [1 / 8, 2 / 8, 5 / 8], atol=1e-6)

    def test_refuses(self, encoder_factory):
        with pytest.raises(ValueError, match=r"combination is 'weighted' or 'attention'. Received: 0 such encoders"):
            analysis.layer_weights(encoder_factory("bert", combine="mean"))
        with pytest.raises(TypeError, match="Received: encoder of type str"):
            analysis.layer_weights("model")


class TestLayerWeightsRecorder:
    def test_on_the_quickstart_model(self, minilm_directory, tmp_path, monkeypatch):
        file = pathlib.Path(__file__).parents[2] / "examples" / "quickstart.py"
        # It imports what stands beside it.
        monkeypatch.syspath_prepend(file.parent)
        spec = importlib.util.spec_from_file_location("quickstart", file)
        quickstart = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(quickstart)
        preprocessor = BertPreprocessor.from_pretrained(minilm_directory, sequence_length=16)
        encoder = BertEncoder.from_pretrained(
            minilm_directory, layers="all+embeddings", combine="weighted", pooler=False, trainable=False
        )
        model = quickstart.build_classifier(preprocessor, encoder, 2)
        model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
        texts = ["Where is my parcel?", "My card was charged twice."] * 4
        dataset = tf.data.Dataset.from_tensor_slices((texts, [0, 1] * 4)).batch(4)
        history = model.fit(dataset, epochs=3, verbose=0, callbacks=[analysis.LayerWeightsRecorder(tmp_path)]).history

        names = [f"layer_weights/layer_{layer:02d}" for layer in range(7)]
        recorded = np.array([history[name] for name in names]).T
        np.testing.assert_allclose(recorded[-1], encoder.combination.layer_weights, atol=1e-7)
        np.testing.assert_allclose(recorded.sum(1), 1, atol=1e-6)
        assert np.abs(np.diff(recorded, axis=0)).max(1).min() > 1e-4, "the weights moved in each epoch"
        np.testing.assert_allclose(history["layer_weights/expected_layer"], recorded @ np.arange(7), atol=1e-5)

        events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
        events.Reload()
        names += ["layer_weights/expected_layer", "layer_weights/scale"]
        assert sorted(events.Tags()["tensors"]) == sorted(names)
        for name in names:
            written = events.Tensors(name)
            assert [event.step for event in written] == [0, 1, 2]
            values = [tf.make_ndarray(event.tensor_proto).item() for event in written]
            # TensorBoard's scalars are float32.
            assert values == np.float32(history[name]).tolist()

    def test_a_layer_that_was_selected_twice(self, encoder_factory):
        combine = LayerCombination("weighted", initial_weights=[1, 2, 5])
        encoder = encoder_factory("bert", layers=[2, 3, 2], combine=combine, trainable=False)
        inputs = keras.Input((None,), dtype="int32", name="input_word_ids")
        features = encoder({"input_word_ids": inputs})
        outputs = SequencePooling("mean")(features["encoder_outputs"], mask=features["mask"])
        model = keras.Model(inputs, keras.layers.Dense(1)(outputs))
        model.compile(keras.optimizers.SGD(0.0), "mse")
        callback = analysis.LayerWeightsRecorder()
        history = model.fit(np.ones((2, 3), "int32"), np.ones((2, 1)), verbose=0, callbacks=[callback]).history
        assert history["layer_weights/layer_02"] == pytest.approx([6 / 8])
        assert history["layer_weights/layer_03"] == pytest.approx([2 / 8])

    def test_refuses_other_directories(self):
        with pytest.raises(TypeError, match="Expected `log_dir` to be None or a directory. Received: log_dir=5"):
            analysis.LayerWeightsRecorder(5)

    def test_refuses_a_model_without_weights(self):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match="Expected one encoder whose combination is 'weighted'. Received: 0 such"):
            model.fit(np.ones((2, 2)), np.ones((2, 1)), callbacks=[analysis.LayerWeightsRecorder()])
