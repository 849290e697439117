import pytest

from keras_bert_layers.checkpoints import sort_names as module
from keras_bert_layers.checkpoints.architectures import ARCHITECTURES
from keras_bert_layers.checkpoints.name_table import NameTable
from keras_bert_layers.checkpoints.naming_scheme import PYTORCH, TENSORFLOW


def sort_names(names, source_name):
    tables = [NameTable(ARCHITECTURES["bert"], scheme) for scheme in (PYTORCH, TENSORFLOW)]
    return module.sort_names(names, tables, source_name)


@pytest.mark.parametrize(
    "prefix",
    ["bert.", "module.bert.", "model.bert.", "_orig_mod.bert.", "module._orig_mod.model.bert.", "my.own.bert."],
)
def test_names_of_pytorch_are_sorted_by_what_they_are(prefix):
    names = [
        f"{prefix}embeddings.word_embeddings.weight",
        f"{prefix}encoder.layer.0.output.dense.bias",
        f"{prefix}encoder.layer.11.attention.self.query.weight",
        f"{prefix}encoder.layer.1.attention.self.distance_embedding.weight",
        f"{prefix}encoder.layer.x.output.dense.bias",
        f"{prefix}encoder.layer.{'9' * 5000}.output.dense.bias",
        f"{prefix}encoder.layer.01.output.dense.bias",
        f"{prefix}extra",
        f"{prefix}embeddings.position_ids",
        "cls.predictions.bias",
        "pooler.dense.weight",
        "encoder.layer.0.output.dense.bias",
    ]
    result = sort_names(names, "a test")
    assert result.weights == {
        "embeddings/word_embeddings": names[0],
        "layer_1/feed_forward/output/bias": names[1],
        "layer_12/attention/query/kernel": names[2],
    }
    assert result.unexpected == names[3:8]
    # PyTorch keeps a kernel as [outputs, inputs], and everything else as we do.
    assert result.transposed == {"layer_12/attention/query/kernel"}
    assert result.others == names[8:]


@pytest.mark.parametrize("prefix", ["", "module.", "0.auto_model.", "model._orig_mod.", "module.module."])
def test_names_without_bert_before_them(prefix):
    names = [
        f"{prefix}embeddings.word_embeddings.weight",
        f"{prefix}encoder._orig_mod.layer.0.output.dense.bias",
        f"{prefix}encoder.layer.1._checkpoint_wrapped_module.output.dense.bias",
        f"{prefix}pooler.dense.bias",
        f"{prefix}pooler.extra",
        f"{prefix}classifier.weight",
        "linear.weight",
        "my_embeddings.word_embeddings.weight",
        "prompt.embeddings.word_embeddings.weight",
    ]
    result = sort_names(names, "a test")
    assert list(result.weights.values()) == names[:4]
    assert result.unexpected == names[4:5]
    assert result.others == names[5:]


def test_names_of_tensorflow_are_sorted_by_what_they_are():
    names = [
        "tf_bert_model/bert/embeddings/word_embeddings/weight:0",
        "bert/bert/pooler/dense/bias:0",
        "model/bert/encoder/extra:0",
        f"layer_{'9' * 5000}/bert/encoder/extra:0",
        "bert/encoder/" * 5000 + "\n",
        "mlm___cls/predictions/bias:0",
        "mybert/encoder/layer_._0/output/dense/bias:0",
        "/" * 100_000,
    ]
    result = sort_names(names, "a test")
    assert result.weights == {"embeddings/word_embeddings": names[0], "pooler/bias": names[1]}
    assert result.unexpected == names[2:5]
    assert result.others == names[5:]


@pytest.mark.parametrize(
    "names",
    [
        ["bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"],
        ["bert.pooler.dense.bias", "bert._orig_mod.pooler.dense.bias"],
        ["a/bert/pooler/dense/bias:0", "b/bert/pooler/dense/bias:0"],
    ],
)
def test_two_names_for_one_weight_are_refused(names):
    with pytest.raises(ValueError, match=f"expected once. Received: both '{names[0]}' and '{names[1]}' in a test"):
        sort_names(names, "a test")


def test_two_berts_are_refused():
    names = [f"{bert}.{name}" for bert in ("query", "passage") for name in ["embeddings.word_embeddings.weight"]]
    names += ["query.encoder.layer.0.output.dense.bias", "passage.encoder.layer.0.output.dense.bias"]
    with pytest.raises(ValueError, match=f"Received: both '{names[0]}' and '{names[1]}' in a test. Save only one"):
        sort_names(names, "a test")
