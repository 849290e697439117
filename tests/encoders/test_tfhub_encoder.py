import hashlib
import shutil
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import TFHubEncoder, TFHubPreprocessor
from keras_bert_layers.checkpoints.tfhub_saved_model import load_saved_model

from ..tfhub_factory import make_tfhub_preprocessor
from .tiny_encoders import TFHUB_NAMES, as_graph, assert_same, make_ids, write_tfhub_encoder

LENGTHS = (6, 9, 1, 4)
MASK = np.arange(9) < np.array(LENGTHS)[:, None]


@pytest.fixture(scope="module")
def loaded(tfhub_directory):
    return load_saved_model(tfhub_directory)


def assert_exact(encoder, loaded, ids):
    """Every output, on real tokens, inside `tf.function` both."""
    expected = as_graph(lambda ids: loaded(ids, training=False))(ids)
    outputs = as_graph(encoder)(ids)
    mask = np.asarray(ids["input_mask"]).astype(bool)
    assert len(outputs["encoder_outputs"]) == len(expected["encoder_outputs"])
    for state, hidden_state in zip(outputs["encoder_outputs"], expected["encoder_outputs"], strict=True):
        np.testing.assert_array_equal(state.numpy()[mask], hidden_state.numpy()[mask])
        assert not state.numpy()[~mask].any()
    np.testing.assert_array_equal(outputs["pooled_output"], expected["pooled_output"])
    np.testing.assert_array_equal(outputs["sequence_output"].numpy()[mask], expected["sequence_output"].numpy()[mask])


@pytest.fixture(scope="module")
def checkpoint(data_directory):
    return data_directory / "checkpoints" / "tfhub_bert_tiny"


@pytest.fixture(scope="module")
def real_encoder(checkpoint):
    return TFHubEncoder(checkpoint / "encoder")


class TestRealEncoder:
    def test_golden(self, checkpoint, real_encoder):
        golden = np.load(checkpoint / "golden.npz")
        ids = {name: golden[name] for name in TFHUB_NAMES}
        mask = ids["input_mask"].astype(bool)
        assert 0 < mask.sum() < mask.size
        for outputs in (real_encoder(ids), as_graph(real_encoder)(ids)):
            for number, state in enumerate(outputs["encoder_outputs"]):
                assert_same(state[mask], golden[f"encoder_output_{number}"][mask], 1e-6)
            assert len(outputs["encoder_outputs"]) == 3
            assert_same(outputs["pooled_output"], golden["pooled_output"], 1e-6)
        assert_exact(real_encoder, real_encoder.saved_model.loaded, ids)

    def test_its_preprocessor_is_no_encoder(self, checkpoint):
        with pytest.raises(ValueError, match=r"Received: a preprocessing model.* Give it to TFHubPreprocessor"):
            TFHubEncoder(checkpoint / "preprocess")

    def test_takes_what_its_preprocessor_returns(self, checkpoint, real_encoder):
        preprocess = load_saved_model(checkpoint / "preprocess")
        ids = preprocess(tf.constant(["one short text", "and another one, longer than the first"]))
        assert_exact(real_encoder, real_encoder.saved_model.loaded, ids)
        ours = TFHubPreprocessor(checkpoint / "preprocess", sequence_length=16)("one short text")
        assert real_encoder(ours)["sequence_output"].shape == (1, 16, 32)

    def test_every_weight_but_the_flag_trains(self, real_encoder):
        assert len(real_encoder.trainable_weights) == 55
        assert len(real_encoder.weights) == 56


class TestOutputs:
    def test_are_exactly_the_loaded_objects(self, loaded):
        assert_exact(TFHubEncoder(loaded), loaded, make_ids(LENGTHS))

    def test_training_is_passed_on(self, loaded):
        encoder = TFHubEncoder(loaded, layers=-1)
        ids = make_ids(LENGTHS)
        assert np.abs(encoder(ids, training=True)["sequence_output"] - encoder(ids)["sequence_output"]).max() > 1e-2

    def test_an_encoder_that_takes_no_training(self, tmp_path):
        loaded = load_saved_model(write_tfhub_encoder(tmp_path / "encoder", training=False, num_layers=1))
        encoder = TFHubEncoder(loaded)
        ids = make_ids(LENGTHS)
        expected = loaded({name: tf.constant(value) for name, value in ids.items()})["sequence_output"]
        for training in (False, True):
            outputs = encoder(ids, training=training)
            np.testing.assert_array_equal(outputs["sequence_output"].numpy()[MASK], expected.numpy()[MASK])

    def test_all_padding_and_no_row(self, loaded):
        encoder = TFHubEncoder(loaded)
        outputs = encoder(make_ids((0, 3), sequence=4))
        for state in outputs["encoder_outputs"]:
            assert not np.any(state[0])
            assert np.all(np.isfinite(state))
        assert encoder(make_ids((), sequence=4))["encoder_outputs"][2].shape == (0, 4, 16)

    def test_are_cast_to_the_policys_dtype(self, loaded):
        outputs = TFHubEncoder(loaded, dtype="mixed_bfloat16")(make_ids(LENGTHS))
        assert {output.dtype for output in [*outputs["encoder_outputs"], outputs["pooled_output"]]} == {tf.bfloat16}
        expected = TFHubEncoder(loaded)(make_ids(LENGTHS))["sequence_output"]
        np.testing.assert_array_equal(outputs["sequence_output"], tf.cast(expected, tf.bfloat16))

    def test_without_a_pooler(self, tmp_path):
        encoder = TFHubEncoder(write_tfhub_encoder(tmp_path / "encoder", pooler=False, num_layers=1))
        assert "pooled_output" not in encoder(make_ids(LENGTHS))
        # The weights are in the SavedModel all the same.
        assert len(encoder.non_trainable_weights) == 3

    def test_takes_what_a_preprocessor_returns(self, loaded, tmp_path):
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
        directory = make_tfhub_preprocessor(tmp_path / "preprocessor", vocabulary)
        ids = load_saved_model(directory)(tf.constant(["a b", "c d e"]))
        assert_exact(TFHubEncoder(loaded), loaded, ids)


class TestVariables:
    def test_are_the_loaded_objects(self, loaded):
        encoder = TFHubEncoder(loaded)
        assert [weight._value for weight in encoder.pretrained.adopted] == list(loaded.variables)
        assert {id(w._value) for w in encoder.trainable_weights} == {id(v) for v in loaded.trainable_variables}

    def test_fit_changes_the_loaded_object(self, tfhub_directory, recwarn):
        loaded = load_saved_model(tfhub_directory)
        before = [variable.numpy() for variable in loaded.variables]
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in TFHUB_NAMES}
        encoder = TFHubEncoder(loaded, combine="weighted", pooler=False)
        model = keras.Model(inputs, keras.layers.Dense(1)(encoder(inputs)["encoder_outputs"][:, 0]))
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
        model.fit(make_ids(LENGTHS), np.arange(4.0), batch_size=4, verbose=0)
        changed = [not np.array_equal(v, old) for v, old in zip(loaded.variables, before, strict=True)]
        # Not the flag and not the pooler's kernel and bias.
        assert sum(changed) >= 53 - 3
        assert not any(changed[-3:])
        assert not [str(w.message) for w in recwarn if "radient" in str(w.message)]


class TestSource:
    def test_a_directory_as_text_and_as_path(self, tfhub_directory, loaded):
        expected = TFHubEncoder(loaded)(make_ids())["sequence_output"]
        for source in (tfhub_directory, str(tfhub_directory)):
            assert_same(TFHubEncoder(source)(make_ids())["sequence_output"], expected, 0)

    def test_a_url_handle(self, tfhub_directory, monkeypatch):
        hub = pytest.importorskip("tensorflow_hub", reason="tensorflow_hub is not installed")
        handles = []
        monkeypatch.setattr(hub, "resolve", lambda handle: handles.append(handle) or str(tfhub_directory))
        encoder = TFHubEncoder("https://tfhub.dev/someone/bert/4", layers="last2")
        assert handles == ["https://tfhub.dev/someone/bert/4"]
        assert encoder.selected_layers == [2, 3]

    def test_a_url_handle_in_tensorflow_hubs_cache(self, tfhub_directory, tmp_path, monkeypatch):
        pytest.importorskip("tensorflow_hub", reason="tensorflow_hub is not installed")
        handle = "https://tfhub.dev/someone/bert/4"
        shutil.copytree(tfhub_directory, tmp_path / hashlib.sha1(handle.encode()).hexdigest())
        monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
        assert TFHubEncoder(handle).num_layers == 3

    def test_a_url_handle_without_tensorflow_hub(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
        with pytest.raises(ImportError, match=r"tensorflow_hub is needed.*keras-bert-layers\[tfhub\].*TFHUB_CACHE_DIR"):
            TFHubEncoder("https://tfhub.dev/someone/bert/4")

    def test_no_directory(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no saved_model\.pb"):
            TFHubEncoder(tmp_path / "nothing")

    def test_without_encoder_outputs(self, tmp_path):
        directory = write_tfhub_encoder(tmp_path / "encoder", encoder_outputs=False, num_layers=1)
        message = (
            r"whose outputs have `encoder_outputs`.*Received: source='.*encoder', whose outputs are "
            r"\['default', 'pooled_output', 'sequence_output'\]\. Versions 3 and later"
        )
        with pytest.raises(ValueError, match=message):
            TFHubEncoder(str(directory))

    def test_another_kind_of_model(self, tmp_path):
        module = tf.Module()
        module.__call__ = tf.function(
            lambda text: tf.strings.length(text), input_signature=[tf.TensorSpec([None], tf.string)]
        )
        tf.saved_model.save(module, str(tmp_path / "lengths"))
        with pytest.raises(ValueError, match=r"called on a dict of .*Received: source='.*lengths', which cannot be"):
            TFHubEncoder(str(tmp_path / "lengths"))
        module = tf.Module()
        module.value = tf.Variable(1.0)
        tf.saved_model.save(module, str(tmp_path / "nothing"))
        with pytest.raises(ValueError, match=r"called on a dict of .*cannot be"):
            TFHubEncoder(str(tmp_path / "nothing"))

    def test_attention_scores(self, loaded):
        with pytest.raises(ValueError, match=r"does not return its attention scores\. Received: return_attention_sc"):
            TFHubEncoder(loaded, return_attention_scores=True)

    def test_layer_0(self, loaded):
        with pytest.raises(ValueError, match=r"does not return layer 0.*Received: layers=\[0, 1\]"):
            TFHubEncoder(loaded, layers=[0, 1])


class TestSaving:
    def test_after_the_directory_was_deleted(self, tfhub_directory, tmp_path):
        directory = tmp_path / "copy"
        shutil.copytree(tfhub_directory, directory)
        encoder = TFHubEncoder(directory, layers=[3, 1])
        shutil.rmtree(directory)
        again = TFHubEncoder.from_config(encoder.get_config())
        again.set_weights(encoder.get_weights())
        keras.tree.map_structure(np.testing.assert_array_equal, again(make_ids()), encoder(make_ids()))
        vocabulary = tf.io.read_file(again.saved_model.loaded.vocab_file.asset_path)
        assert vocabulary.numpy().startswith(b"[PAD]\n[UNK]")
        assert bool(again.saved_model.loaded.do_lower_case)
        # And once more, from what came out of a configuration.
        third = TFHubEncoder.from_config(again.get_config())
        third.set_weights(encoder.get_weights())
        keras.tree.map_structure(np.testing.assert_array_equal, third(make_ids()), encoder(make_ids()))

    def test_of_a_loaded_object(self, loaded):
        encoder = TFHubEncoder(loaded)
        again = TFHubEncoder.from_config(encoder.get_config())
        again.set_weights(encoder.get_weights())
        keras.tree.map_structure(np.testing.assert_array_equal, again(make_ids()), encoder(make_ids()))

    def test_safe_mode(self, loaded, tmp_path):
        inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in TFHUB_NAMES}
        model = keras.Model(inputs, TFHubEncoder(loaded, combine="mean")(inputs)["encoder_outputs"])
        model.save(tmp_path / "m.keras")
        with pytest.raises(
            ValueError, match=r"TFHubEncoder holds the TensorFlow graph.*load_model\(path, safe_mode=False"
        ):
            keras.saving.load_model(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras", safe_mode=False)
        ids = make_ids()
        np.testing.assert_array_equal(again(ids), model(ids))
