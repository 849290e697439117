import pytest

from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.checkpoints.name_tables import PYTORCH_NAMES, TENSORFLOW_NAMES, sort_names
from keras_bert_layers.checkpoints.weight_names import check_weights, expected_shapes

from .tiny_checkpoints import SIZES


def test_a_bert_base_has_its_weights():
    shapes = expected_shapes(BertConfig(), pooler=True)
    assert len(shapes) == 5 + 12 * 16 + 2
    # The published number of parameters of BERT-base, uncased.
    sizes = [shape[0] * (shape[1] if len(shape) == 2 else 1) for shape in shapes.values()]
    assert sum(sizes) == 109_482_240
    assert next(iter(shapes)) == "embeddings/word_embeddings"
    assert list(shapes)[5] == "layer_1/attention/query/kernel"
    assert list(shapes)[-3:] == ["layer_12/feed_forward/layer_norm/beta", "pooler/kernel", "pooler/bias"]


def test_the_pooler_can_be_left_out():
    config = BertConfig(**SIZES)
    with_pooler, without = expected_shapes(config, pooler=True), expected_shapes(config, pooler=False)
    assert set(with_pooler) - set(without) == {"pooler/kernel", "pooler/bias"}


@pytest.mark.parametrize("table", [PYTORCH_NAMES, TENSORFLOW_NAMES])
def test_each_table_reaches_every_weight(table):
    config = BertConfig(**(SIZES | {"num_hidden_layers": 1}))
    assert {name.format(1) for name in table.values()} == set(expected_shapes(config, pooler=True))


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
    names = [f"{bert}.{name}" for bert in ("query", "passage") for name in list(PYTORCH_NAMES)[:1]]
    names += ["query.encoder.layer.0.output.dense.bias", "passage.encoder.layer.0.output.dense.bias"]
    with pytest.raises(ValueError, match=f"Received: both '{names[0]}' and '{names[1]}' in a test. Save only one"):
        sort_names(names, "a test")


def test_one_report_lists_all_that_does_not_fit():
    config = BertConfig(**SIZES)
    found = expected_shapes(config, pooler=True)
    for name in list(found)[:15]:
        del found[name]
    found |= {"encoder.scale": (1,), "pooler/kernel": (8, 9)}
    with pytest.raises(ValueError, match="The weights in a test are expected") as caught:
        check_weights(found, config, True, "a test", ["backbone.scale", *map(str, range(10)), "last"])
    message = str(caught.value)
    assert "15 missing:\n    embeddings/word_embeddings\n" in message
    assert "... and 5 more" in message
    assert "1 unexpected:\n    encoder.scale\n" in message
    assert "12 of other parts:\n    backbone.scale\n    0\n" in message
    assert "... and 2 more" in message
    assert "1 of another shape:\n    pooler/kernel [8, 9] instead of [8, 8]\n" in message
    assert message.count("\n    layer_") == 5
