"""The recipes of docs/extending.md are followed: their code is taken from the page and put where it belongs."""

import pathlib
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import keras_bert_layers as kbl
from keras_bert_layers.checkpoints import checkpoint
from keras_bert_layers.checkpoints.architectures import ARCHITECTURES
from keras_bert_layers.checkpoints.architectures.architecture import Architecture
from keras_bert_layers.checkpoints.architectures.distilbert import DISTILBERT
from keras_bert_layers.checkpoints.formats import FORMATS
from keras_bert_layers.checkpoints.formats.checkpoint_format import CheckpointFormat
from keras_bert_layers.checkpoints.naming_scheme import PYTORCH
from keras_bert_layers.checkpoints.stored_weight import StoredWeight
from keras_bert_layers.encoders import layerwise_encoder
from keras_bert_layers.layers import layer_combination
from keras_bert_layers.layers.combine_modes import MODES, CombineMode
from keras_bert_layers.serving.check.export import Export

from .checkpoints.tiny_checkpoints import pytorch_tensors, write_checkpoint, write_config
from .encoders.toy_encoder import ToyEncoder

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "extending.md"
IDS = {"input_word_ids": np.array([[2, 7, 3, 0], [2, 3, 0, 0]]), "input_mask": np.array([[1, 1, 1, 0], [1, 1, 0, 0]])}


def follow(recipe: str, **names):
    """Executes the code of a recipe with these names imported, and returns what it defines."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {recipe}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_a_combine_mode(monkeypatch):
    modes = dict(MODES)
    follow("A combine mode", CombineMode=CombineMode, MODES=modes, ops=ops)
    monkeypatch.setitem(MODES, "min", modes["min"])
    for module in (layer_combination, layerwise_encoder):
        monkeypatch.setattr(module, "COMBINE_MODES", tuple(MODES))
    encoder = ToyEncoder(layers="all", combine="min")
    np.testing.assert_allclose(encoder(IDS)["encoder_outputs"], np.min(encoder.hidden_states(IDS), axis=0))


def test_an_architecture(monkeypatch, tmp_path):
    made = follow("An architecture", Architecture=Architecture, DISTILBERT=DISTILBERT)["DISTIL_SOMETHING"]
    monkeypatch.setitem(ARCHITECTURES, "distil_something", made)
    transformers = pytest.importorskip("transformers")
    config = transformers.DistilBertConfig(vocab_size=50, dim=16, n_layers=2, n_heads=2, hidden_dim=32)
    model = transformers.TFDistilBertModel(config)
    expected = model(
        {"input_ids": IDS["input_word_ids"], "attention_mask": IDS["input_mask"]}, output_hidden_states=True
    ).hidden_states
    model.config.model_type = "distil_something"
    states = kbl.BertEncoder.from_pretrained(model, layers="all+embeddings")(IDS)["encoder_outputs"]
    for ours, theirs in zip(states, expected, strict=True):
        np.testing.assert_allclose(ours, np.where(IDS["input_mask"][..., None], theirs, 0), atol=1e-5)


def test_a_checkpoint_format(monkeypatch, tmp_path):
    imports = {"CheckpointFormat": CheckpointFormat, "PYTORCH": PYTORCH, "StoredWeight": StoredWeight, "np": np}
    made = follow("A checkpoint format", pathlib=pathlib, Mapping=dict, **imports)["NpzFormat"]
    monkeypatch.setattr(checkpoint, "FORMATS", (*FORMATS, made()))
    write_checkpoint(tmp_path / "safetensors", pytorch_tensors("bert."))
    (tmp_path / "npz").mkdir()
    write_config(tmp_path / "npz")
    np.savez(tmp_path / "npz" / "weights.npz", **pytorch_tensors("bert."))
    one, other = (kbl.BertEncoder.from_pretrained(tmp_path / name) for name in ("safetensors", "npz"))
    for expected, weight in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_a_signature(tmp_path):
    ids = {name: keras.Input((None,), dtype="int32", name=name) for name in IDS}
    encoder = kbl.BertEncoder(
        kbl.BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32),
        combine="last",
        pooler=False,
    )
    pooled = kbl.SequencePooling("mean")(encoder(ids)["encoder_outputs"])
    model = keras.Model(ids, keras.layers.Dense(3, name="scores")(pooled))
    follow("A signature", keras=keras, kbl=kbl, model=model, directory=tmp_path / "1")
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    tensors = {name: tf.constant(values, tf.int32) for name, values in IDS.items()}
    (probabilities,) = signatures["probabilities"](**tensors).values()
    (scores,) = signatures["serving_default"](**tensors).values()
    np.testing.assert_allclose(probabilities, tf.nn.softmax(model(tensors)), atol=1e-5)
    np.testing.assert_allclose(scores, model(tensors), atol=1e-5)


def test_a_check(monkeypatch, tmp_path):
    made = follow("A check", Export=Export)["check_size"]
    monkeypatch.setattr(sys.modules["keras_bert_layers.serving.check"], "CHECKS", (made,))
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"))

    def sizes():
        return [found.problem for found in kbl.serving.check(tmp_path / "1", run=False) if "GiB" in found.problem]

    assert sizes() == []
    # A file with a hole.
    with open(tmp_path / "1" / "large", "wb") as file:
        file.truncate(2**30 + 1)
    assert sizes() == ["The export has 1.0 GiB."]
