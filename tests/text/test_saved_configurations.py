"""What comes out of a saved configuration is data: it names no file that is read, and no address."""

import json
import pathlib
import sys
import zipfile

import keras
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers.checkpoints.tfhub_saved_model import TFHubSavedModel

SECRET = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "password=hunter2"]

# An audit hook cannot be taken away again, so that there is one for all tests.
_opened: list[str] = []
sys.addaudithook(lambda event, arguments: _opened.append(str(arguments[0])) if event == "open" else None)


@pytest.fixture
def secret(tmp_path) -> pathlib.Path:
    """A file that would pass for a vocabulary. Whoever opens it is seen."""
    path = tmp_path / "secret.txt"
    path.write_text("\n".join(SECRET))
    _opened.clear()
    assert path.read_text()
    assert _opened == [str(path)]
    _opened.clear()
    return path


def edited(source: pathlib.Path, vocabulary: object) -> pathlib.Path:
    """A copy of a `.keras` file whose preprocessor has another `vocabulary` in its configuration."""
    target = source.with_name("edited.keras")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                text = json.dumps(json.loads(content), ensure_ascii=False)
                found = json.dumps([*SECRET[:4], "one"])
                assert text.count(found) == 1
                content = text.replace(found, json.dumps(vocabulary)).encode()
            new.writestr(name, content)
    return target


@pytest.fixture
def saved(tmp_path) -> pathlib.Path:
    """A functional model inside a functional model, so that the preprocessor's configuration is a nested one."""
    text = keras.Input((), dtype="string")
    inner = keras.Model(text, kbl.BertPreprocessor([*SECRET[:4], "one"], sequence_length=4)(text))
    outer = keras.Input((), dtype="string")
    keras.Model(outer, inner(outer)).save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_a_path_as_vocabulary_is_refused_unread(saved, secret, tmp_path):
    shown = edited(saved, SECRET)
    model = keras.saving.load_model(shown)
    assert model(tf.constant(["one"]))["input_word_ids"].numpy().tolist() == [[2, 1, 3, 0]]
    _opened.clear()
    serialized = {"class_name": "__path__", "config": str(secret)}
    for vocabulary in (str(secret), {"class_name": "str", "config": str(secret)}, serialized, None, 5):
        path = edited(saved, vocabulary)
        for safe_mode in (True, False):
            with pytest.raises((ValueError, TypeError), match="list of tokens"):
                keras.saving.load_model(path, safe_mode=safe_mode)
    config = keras.saving.serialize_keras_object(kbl.BertPreprocessor(SECRET[:4], name="ids"))
    config["config"]["vocabulary"] = str(secret)
    for load in (keras.saving.deserialize_keras_object, keras.layers.deserialize):
        with pytest.raises(ValueError, match="list of tokens"):
            load(config)
    assert str(secret) not in _opened
    # The user's own call may name a file.
    assert kbl.BertPreprocessor(secret).tokenizer.vocabulary == SECRET


@pytest.mark.parametrize("layer", [kbl.TFHubEncoder, kbl.TFHubPreprocessor])
@pytest.mark.parametrize("source", ["no/such/directory", "https://127.0.0.1:1/model/1", None, {"saved_model": 5}])
def test_a_path_or_address_of_a_saved_model_is_refused(layer, source):
    """Where executable graphs are allowed, too: the graph has to be in the file."""
    config = {"module": "keras_bert_layers", "class_name": layer.__name__, "config": {"source": source}}
    config["registered_name"] = f"keras_bert_layers>{layer.__name__}"
    with pytest.raises(ValueError, match="safe_mode=True"):
        keras.saving.deserialize_keras_object(config)
    with pytest.raises((TypeError, ValueError), match="carry its SavedModel"):
        keras.saving.deserialize_keras_object(config, safe_mode=False)
    with pytest.raises((TypeError, ValueError), match="carry its SavedModel"):
        layer.from_config({"source": source})


def test_a_wrapped_model_is_made_from_its_configuration_alone(secret):
    for tf_model in (str(secret), {"class_name": "os", "config": {}}, {"class_name": str(secret), "config": {}}):
        with pytest.raises((TypeError, ValueError)):
            kbl.HuggingFaceEncoder.from_config({"tf_model": tf_model})
    assert str(secret) not in _opened


def test_a_packed_saved_model_still_comes_back(data_directory):
    saved_model = TFHubSavedModel(data_directory / "checkpoints" / "tfhub_bert_tiny" / "preprocess")
    again = TFHubSavedModel(saved_model.get_config())
    texts = tf.constant(["a text"])
    assert again.loaded.tokenize(texts).to_list() == saved_model.loaded.tokenize(texts).to_list()


@pytest.mark.parametrize("damage", [5, None, True, "os.system", {"module": "os"}])
def test_a_dtype_policy_that_is_none_is_refused_by_the_layers_name(damage):
    config = kbl.BertConfig(len(SECRET), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    encoder = kbl.BertEncoder(config, layers=-1, combine="last", pooler=False)
    layers = [
        encoder,
        kbl.LayerCombination("mean"),
        kbl.SequencePooling("mean"),
        kbl.WordPooling("mean"),
        kbl.BertPreprocessor(SECRET, sequence_length=8),
    ]
    for layer in layers:
        saved = layer.get_config()
        assert isinstance(saved["dtype"], dict)
        type(layer).from_config(saved)
        saved["dtype"]["class_name"] = damage
        with pytest.raises(ValueError, match=f"configuration of a {type(layer).__name__} to hold a dtype"):
            type(layer).from_config(saved)


def test_a_combination_that_was_built_for_nothing_is_refused():
    layer = kbl.LayerCombination("weighted")
    layer([tf.zeros((1, 2, 8))] * 2)
    saved = keras.saving.serialize_keras_object(layer)
    assert keras.saving.deserialize_keras_object(saved).w.shape == (2,)
    for damage in ("LayerCombination", {"input_shapes": []}, {"input_shape": 5}):
        with pytest.raises(ValueError, match="LayerCombination to hold the shapes"):
            keras.saving.deserialize_keras_object({**saved, "build_config": damage})
