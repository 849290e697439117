"""Encoders in every kind of Keras model: saved and loaded, they give the same to the last bit."""

import inspect
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

from ..fresh_process import run_in_fresh_process
from .tiny_encoders import SIZES, TFHUB_NAMES, make_ids, randomize

LENGTHS = (6, 9, 1, 4)
IDS = make_ids(LENGTHS)
TEXTS = tf.constant(["a good film", "bad", "the plot is not good, is it?"])


@keras.saving.register_keras_serializable("test_models")
class Subclassed(keras.Model):
    """Layers that are called one after the other on what the one before gave."""

    def __init__(self, steps, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        word_ids = inputs.get("word_ids") if isinstance(inputs, dict) else None
        for step in self.steps:
            inputs = step(inputs, word_ids) if type(step).__name__ == "WordPooling" else step(inputs)
            if isinstance(inputs, dict):
                word_ids = inputs.get("word_ids", word_ids)
                inputs = inputs.get("encoder_outputs", inputs.get("word_outputs", inputs))
        return self.dense(inputs)

    def get_config(self):
        return {"steps": [keras.saving.serialize_keras_object(step) for step in self.steps], "name": self.name}

    @classmethod
    def from_config(cls, config):
        steps = [keras.saving.deserialize_keras_object(step) for step in config["steps"]]
        return cls(steps, name=config["name"])


def preprocessor(vocabulary, **arguments):
    return kbl.BertPreprocessor(vocabulary, sequence_length=12, **arguments)


def bert(vocab_size=SIZES["vocab_size"], **arguments):
    sizes = {**SIZES, "vocab_size": vocab_size, "initializer_range": 0.3}
    return kbl.BertEncoder(kbl.BertConfig(**sizes), **arguments)


def symbolic():
    return {name: keras.Input((None,), dtype="int32", name=name) for name in TFHUB_NAMES}


def assert_comes_back(model, inputs, path, **options):
    expected = model(inputs)
    randomize(model.trainable_weights)
    moved = model(inputs)
    assert any(np.any(a != b) for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(moved), strict=True))
    model.save(path)
    again = keras.saving.load_model(path, **options)
    assert len(again.weights) == len(model.weights)
    keras.tree.map_structure(np.testing.assert_array_equal, again(inputs), moved)
    return again


class TestSubclassed:
    def test_around_each_encoder(self, kind, make, tmp_path):
        model = Subclassed([make(), kbl.LayerCombination("weighted"), kbl.SequencePooling("attention")])
        assert_comes_back(model, IDS, tmp_path / "m.keras", safe_mode=kind != "tfhub")

    def test_around_windows_and_another_model(self, tmp_path):
        windows = kbl.WindowedEncoder(bert(combine="attention"), window=6, stride=1)
        inner = Subclassed([windows, kbl.SequencePooling("mean")])
        assert_comes_back(Subclassed([inner]), IDS, tmp_path / "m.keras")

    def test_around_words(self, tmp_path):
        words = np.where(IDS["input_mask"], np.arange(9) // 2, -1)
        model = Subclassed([bert(combine="mean"), kbl.WordPooling("max")])
        assert_comes_back(model, {**IDS, "word_ids": words}, tmp_path / "m.keras")

    def test_from_text_in_a_fresh_process(self, vocabulary, tmp_path):
        layers = {"return_word_ids": True, "return_special_tokens_mask": True, "return_offsets": "characters"}
        steps = [preprocessor(vocabulary, **layers), bert(len(vocabulary), combine="weighted"), kbl.WordPooling("mean")]
        model = Subclassed(steps)
        assert_comes_back(model, TEXTS, tmp_path / "m.keras")
        program = (
            "import keras, pickle, tensorflow as tf, keras_bert_layers as kbl\n"
            + inspect.getsource(Subclassed)
            + f"\nmodel = keras.saving.load_model('m.keras')\ntexts = tf.constant({TEXTS.numpy().tolist()!r})\n"
            "open('result', 'wb').write(pickle.dumps(model(texts).numpy()))"
        )
        run_in_fresh_process(program, cwd=tmp_path)
        np.testing.assert_array_equal(pickle.loads((tmp_path / "result").read_bytes()), model(TEXTS))


def test_sequential(vocabulary, tmp_path):
    layers = [keras.Input((), dtype="string"), preprocessor(vocabulary), bert(len(vocabulary), combine="weighted")]
    assert_comes_back(keras.Sequential(layers), TEXTS, tmp_path / "m.keras")


def test_time_distributed_model(tmp_path):
    ids = keras.Input((9,), dtype="int32")
    vectors = kbl.SequencePooling("mean")(bert(combine="weighted")({"input_word_ids": ids})["encoder_outputs"])
    sentences = keras.Input((3, 9), dtype="int32")
    model = keras.Model(sentences, keras.layers.TimeDistributed(keras.Model(ids, vectors))(sentences))
    inputs = np.stack([make_ids((9, 9), seed=seed)["input_word_ids"] for seed in range(3)], axis=1)
    assert_comes_back(model, inputs, tmp_path / "m.keras")


@pytest.mark.parametrize("symbolic", [True, False])
def test_time_distributed_encoder(symbolic, encoder):
    inputs = keras.Input((3, 9), dtype="int32") if symbolic else np.ones((2, 3, 9), "int32")
    message = r"shapes of a dict.*TimeDistributed\(keras\.Model\(ids, vec" if symbolic else "expects a dict of integer"
    with pytest.raises(ValueError, match=message):
        keras.layers.TimeDistributed(encoder)(inputs)


def test_shapes_of_outputs(encoder):
    shapes = encoder.compute_output_shape({"input_ids": (None, 7)})
    assert shapes["sequence_output"] == (None, 7, 16)
    assert shapes["pooled_output"] == (None, 16)


def test_bidirectional_head(tmp_path):
    inputs = symbolic()
    states = bert(combine="weighted")(inputs)["encoder_outputs"]
    model = keras.Model(inputs, keras.layers.Bidirectional(keras.layers.LSTM(4))(states))
    assert_comes_back(model, IDS, tmp_path / "m.keras")
    shorter = {name: value[:, :6] for name, value in IDS.items()}
    np.testing.assert_allclose(model(shorter)[0], model(IDS)[0], rtol=0, atol=1e-5)


def test_two_towers_share_one_encoder(vocabulary, tmp_path):
    texts = [keras.Input((), dtype="string", name=name) for name in ("question", "answer")]
    preprocess, encoder = preprocessor(vocabulary), bert(len(vocabulary), combine="weighted")
    pooling = kbl.SequencePooling("attention")
    vectors = [pooling(encoder(preprocess(text))["encoder_outputs"]) for text in texts]
    model = keras.Model(texts, keras.layers.Dot(axes=-1)(vectors))
    again = assert_comes_back(model, [TEXTS, TEXTS[::-1]], tmp_path / "m.keras")
    assert sum(isinstance(layer, kbl.BertEncoder) for layer in again.layers) == 1


def test_user_floats_are_still_refused():
    """Leniency is for Keras's own placeholders alone."""
    model = Subclassed([bert(combine="mean"), kbl.SequencePooling("mean")])
    with pytest.raises(ValueError, match=r"to hold integers\. Received: input_word_ids\.dtype=float32"):
        model({"input_word_ids": tf.ones((2, 3))})
