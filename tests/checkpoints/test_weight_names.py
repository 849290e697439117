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


def test_names_are_sorted_by_what_they_are():
    names = [
        "bert.encoder.layer.11.attention.self.query.weight",
        "tf_bert_model/bert/embeddings/word_embeddings/weight:0",
        "bert/bert/pooler/dense/bias:0",
        "bert.encoder.layer.1.attention.self.distance_embedding.weight",
        "encoder.layer.x.output.dense.bias",
        "bert.extra",
        "model/bert/encoder/extra:0",
        "bert.embeddings.position_ids",
        "cls.predictions.bias",
        "mlm___cls/predictions/bias:0",
    ]
    result = sort_names(names, "a test")
    assert result.weights == {
        "layer_12/attention/query/kernel": names[0],
        "embeddings/word_embeddings": names[1],
        "pooler/bias": names[2],
    }
    assert result.unexpected == names[3:7]
    assert result.others == names[7:]


def test_two_names_for_one_weight_are_refused():
    names = ["embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"]
    with pytest.raises(ValueError, match=f"expected once. Received: both '{names[0]}' and '{names[1]}' in a test"):
        sort_names(names, "a test")


def test_one_report_lists_all_that_does_not_fit():
    expected = expected_shapes(BertConfig(**SIZES), pooler=True)
    found = dict(expected)
    for name in list(found)[:15]:
        del found[name]
    found |= {"encoder.scale": (1,), "pooler/kernel": (8, 9)}
    with pytest.raises(ValueError, match="The weights in a test are expected") as caught:
        check_weights(found, expected, "a test")
    message = str(caught.value)
    assert "15 missing:\n    embeddings/word_embeddings\n" in message
    assert "... and 5 more" in message
    assert "1 unexpected:\n    encoder.scale\n" in message
    assert "1 of another shape:\n    pooler/kernel [8, 9] instead of [8, 8]\n" in message
    assert message.count("\n    layer_") == 5
