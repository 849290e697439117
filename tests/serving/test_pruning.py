"""What no signature needs is neither stored nor computed."""

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

import keras_bert_layers as kbl

SIZES = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 192}


def text_model(encoder: Any, vocabulary: list[str]) -> keras.Model:
    text = keras.Input(shape=(), dtype="string", name="text")
    features = encoder(kbl.BertPreprocessor(vocabulary, sequence_length=16)(text))
    return keras.Model(text, kbl.SequencePooling("mean")(features["encoder_outputs"]))


def nodes(directory: pathlib.Path) -> list[Any]:
    graph_def = SavedModel.FromString((directory / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    return [*graph_def.node, *(node for function in graph_def.library.function for node in function.node_def)]


def matmuls(directory: pathlib.Path) -> int:
    """MatMul operations and the like, whatever the attention uses."""
    return sum("MatMul" in node.op or node.op == "Einsum" for node in nodes(directory))


def stored_bytes(directory: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in (directory / "variables").glob("variables.data*"))


def variable_names(directory: pathlib.Path) -> set[str]:
    return {node.attr["shared_name"].s.decode() for node in nodes(directory) if node.op == "VarHandleOp"}


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_layers_above_the_highest_in_use(target, vocabulary, tmp_path):
    config = kbl.BertConfig(vocab_size=len(vocabulary), **SIZES)
    options = {"target": target, "warmup": False}
    encoder = kbl.BertEncoder(config, layers=[1], combine="last")
    kbl.export_saved_model(text_model(encoder, vocabulary), tmp_path / "1", **options, check=False)
    one = kbl.BertEncoder(config, layers=[1], combine="last", num_hidden_layers=1)
    kbl.export_saved_model(text_model(one, vocabulary), tmp_path / "2", **options, check=False)
    whole = kbl.BertEncoder(config, layers=[3], combine="last")
    kbl.export_saved_model(text_model(whole, vocabulary), tmp_path / "3", **options, check=False)

    names = variable_names(tmp_path / "1")
    assert any("layer_1" in name for name in names)
    assert not [name for name in names for part in ("layer_2", "layer_3", "pooler") if part in name]
    parts = [encoder.embeddings, encoder.transformer_layers[0]]
    expected = sum(4 * weight.numpy().size for part in parts for weight in part.weights)
    assert expected <= stored_bytes(tmp_path / "1") <= 1.03 * expected
    assert matmuls(tmp_path / "1") == matmuls(tmp_path / "2") == matmuls(tmp_path / "3") / 3 > 0


def test_the_union_of_what_the_signatures_need_is_stored_once(vocabulary, tmp_path):
    config = kbl.BertConfig(vocab_size=len(vocabulary), **SIZES)
    encoder = kbl.BertEncoder(config, layers=[1, 2], combine="mean")
    model = text_model(encoder, vocabulary)
    signatures = ("embed", "tokens", "layers", "words", "ids", "tokenize")
    kbl.export_saved_model(model, tmp_path / "1", signatures=signatures, warmup=False, check=False)
    parts = [encoder.embeddings, *encoder.transformer_layers[:2]]
    expected = sum(4 * weight.numpy().size for part in parts for weight in part.weights)
    assert expected <= stored_bytes(tmp_path / "1") <= 1.03 * expected
    one = tmp_path / "2"
    kbl.export_saved_model(model, one, warmup=False, check=False)
    # Seven signatures, of which one has no encoder.
    assert matmuls(tmp_path / "1") == 6 * matmuls(one)


def test_a_wrapped_encoder_computes_what_is_needed(vocabulary, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs transformers < 4.55")
    tf_model = transformers.TFBertModel(transformers.BertConfig(vocab_size=len(vocabulary), **SIZES))
    for layer in (1, 3):
        model = text_model(kbl.HuggingFaceEncoder(tf_model, layers=[layer], combine="last"), vocabulary)
        kbl.export_saved_model(model, tmp_path / str(layer), warmup=False, check=False)
    assert matmuls(tmp_path / "1") * 3 == matmuls(tmp_path / "3") > 0
    texts = tf.constant(["a good film", "dull"])
    served = tf.saved_model.load(str(tmp_path / "3")).signatures["serving_default"](text=texts)
    np.testing.assert_allclose(next(iter(served.values())), model(texts), atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_checks_survive(vocabulary, tmp_path):
    """An assertion beside the outputs is not a thing that they depend on, and is kept."""

    @keras.saving.register_keras_serializable(package="tests")
    class Refusing(keras.layers.Layer):
        def call(self, inputs):
            tf.debugging.assert_less(tf.reduce_max(tf.shape(inputs)[0]), 3, "too many rows")
            return inputs

        def compute_output_spec(self, inputs):
            return keras.KerasTensor(inputs.shape, inputs.dtype)

    ids = keras.Input((8,), dtype="int32", name="input_word_ids")
    config = kbl.BertConfig(vocab_size=len(vocabulary), **SIZES)
    features = kbl.BertEncoder(config, layers=[1], combine="last")({"input_word_ids": Refusing()(ids)})
    model = keras.Model(ids, features["encoder_outputs"])
    # The golden example has three rows.
    with pytest.raises(tf.errors.InvalidArgumentError, match="too many rows"):
        kbl.export_saved_model(model, tmp_path / "1", warmup=False, check=False)
    assert list(tmp_path.iterdir()) == []
