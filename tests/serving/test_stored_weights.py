"""Exports in fewer bytes: what they weigh, what they lose, and what the card says of it."""

import json
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

SENTENCES = "the plot was dull . what a good film ! is it bright ? a very bad book and a bright actor".split()


def model_on_minilm(directory: pathlib.Path) -> keras.Model:
    text = keras.Input(shape=(), dtype="string", name="text")
    encoder = kbl.BertEncoder.from_pretrained(directory, layers="last2", combine="mean", pooler=False)
    features = encoder(kbl.BertPreprocessor.from_pretrained(directory, sequence_length=64)(text))
    return keras.Model(text, kbl.SequencePooling("mean", name="vector")(features["encoder_outputs"]))


def variables_bytes(directory: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in (directory / "variables").iterdir())


def vectors(directory: pathlib.Path, texts: list[str]) -> np.ndarray:
    serve = tf.saved_model.load(str(directory)).signatures["serving_default"]
    return np.concatenate([serve(text=tf.constant(texts[i : i + 100]))["vector"] for i in range(0, len(texts), 100)])


@pytest.fixture(scope="module")
def thousand_texts() -> list[str]:
    chance = np.random.default_rng(0)
    return [" ".join(chance.choice(SENTENCES, chance.integers(2, 20))) for _ in range(1000)]


@pytest.fixture(scope="module")
def exact(minilm_directory, tmp_path_factory, thousand_texts) -> tuple[keras.Model, int, np.ndarray]:
    model = model_on_minilm(minilm_directory)
    directory = tmp_path_factory.mktemp("exact") / "1"
    kbl.export_saved_model(model, directory, warmup=False, check=False)
    return model, variables_bytes(directory), vectors(directory, thousand_texts)


@pytest.mark.parametrize(
    ("options", "most_bytes", "least_cosine"),
    [
        ({"dtype": "bfloat16"}, 0.51, 0.999),
        ({"dtype": "float16"}, 0.51, 0.999),
        ({"quantize": "int8"}, 0.27, 0.99),
    ],
    ids=str,
)
def test_bytes_and_loss_on_a_real_bert(options, most_bytes, least_cosine, exact, thousand_texts, tmp_path):
    model, whole_bytes, expected = exact
    before = [weight.numpy().copy() for weight in model.weights]
    kbl.export_saved_model(model, tmp_path / "1", warmup=False, **options, check=False)
    assert variables_bytes(tmp_path / "1") <= most_bytes * whole_bytes
    received = vectors(tmp_path / "1", thousand_texts)
    assert received.dtype == np.float32
    cosines = (received * expected).sum(-1) / np.linalg.norm(received, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert cosines.mean() >= least_cosine
    # It is another model, or nothing was done.
    assert np.abs(received - expected).max() > 1e-5

    card = json.loads((tmp_path / "1" / "keras_bert_layers.json").read_text())
    assert (card["dtype"], card["quantize"]) == (options.get("dtype", "float32"), options.get("quantize"))
    loss = card["loss_against_float32"]["serving_default"]["vector"]
    assert 1e-5 < loss["max_absolute"] < 0.2
    assert least_cosine <= loss["mean_cosine"] < 1
    # The user's model is as it was.
    assert all(np.array_equal(old, weight.numpy()) for old, weight in zip(before, model.weights, strict=True))
    assert {layer.compute_dtype for layer in model._flatten_layers()} == {"float32"}


def operations(directory: pathlib.Path) -> list[Any]:
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graph_def = SavedModel.FromString((directory / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    return [node for function in graph_def.library.function for node in function.node_def]


def test_int8_rows_are_looked_up_before_they_are_floats(vocabulary, tmp_path):
    config = kbl.BertConfig(
        vocab_size=len(vocabulary), hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    text = keras.Input(shape=(), dtype="string", name="text")
    features = kbl.BertEncoder(config)(kbl.BertPreprocessor(vocabulary, sequence_length=8)(text))
    model = keras.Model(text, features["pooled_output"])
    kbl.export_saved_model(model, tmp_path / "1", quantize="int8", warmup=False, check=False)
    lookups = [node for node in operations(tmp_path / "1") if node.op == "GatherV2"]
    int8 = [node for node in lookups if node.attr["Tparams"].type == tf.int8.as_datatype_enum]
    # Words and positions; the two rows of the segments are too few to be worth it.
    assert len(int8) == 2


def test_loss_of_rows_of_different_lengths(vocabulary, tmp_path):
    config = kbl.BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    text = keras.Input(shape=(), dtype="string", name="text")
    preprocessor = kbl.BertPreprocessor(vocabulary, sequence_length=16, padding="longest")
    model = keras.Model(text, kbl.BertEncoder(config)(preprocessor(text))["sequence_output"])
    kbl.export_saved_model(model, tmp_path / "1", dtype="bfloat16", warmup=False, check=False)
    (loss,) = json.loads((tmp_path / "1" / "keras_bert_layers.json").read_text())["loss_against_float32"].values()
    assert 0 < loss["sequence_output"]["max_absolute"] < 0.2


def test_what_cannot_be_made_smaller(vocabulary, tmp_path):
    config = kbl.BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    ids = keras.Input((8,), dtype="int32", name="input_word_ids")
    model = keras.Model(ids, kbl.BertEncoder(config)({"input_word_ids": ids})["pooled_output"])
    for options, message in [
        ({"dtype": "float64"}, "`dtype` to be None, bfloat16 or float16. Received: dtype='float64'"),
        ({"quantize": "int4"}, "`quantize` to be None or int8. Received: quantize='int4'"),
        ({"dtype": "bfloat16", "quantize": "int8"}, "Expected one of `dtype` and `quantize`"),
    ]:
        with pytest.raises(ValueError, match=message):
            kbl.export_saved_model(model, tmp_path / "1", warmup=False, **options, check=False)
    transformers = pytest.importorskip("transformers", reason="needs transformers < 4.55")
    small = transformers.BertConfig(
        vocab_size=99, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    wrapped = kbl.HuggingFaceEncoder(transformers.TFBertModel(small))
    model = keras.Model(ids, wrapped({"input_word_ids": ids})["pooled_output"])
    with pytest.raises(ValueError, match="with a HuggingFaceEncoder. Load the same checkpoint with BertEncoder"):
        kbl.export_saved_model(model, tmp_path / "1", quantize="int8", warmup=False, check=False)
    assert list(tmp_path.iterdir()) == []
