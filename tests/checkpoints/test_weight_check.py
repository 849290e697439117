import pytest

from keras_bert_layers import BertConfig, BertEncoder
from keras_bert_layers.checkpoints.weight_check import check_weights

from .tiny_checkpoints import SIZES, expected_shapes


def test_one_report_lists_all_that_does_not_fit():
    expected = expected_shapes(BertEncoder(BertConfig(**SIZES)))
    found = dict(list(expected.items())[15:])
    found |= {"encoder.scale": (1,), "pooler/kernel": (8, 9)}
    with pytest.raises(ValueError, match="The weights in a test are expected") as caught:
        check_weights(found, expected, 3, "a test", ["backbone.scale", *map(str, range(10)), "last"])
    message = str(caught.value)
    assert "15 missing:\n    embeddings/word_embeddings\n" in message
    assert "... and 5 more" in message
    assert "1 unexpected:\n    encoder.scale\n" in message
    assert "12 of other parts:\n    backbone.scale\n    0\n" in message
    assert "... and 2 more" in message
    assert "1 of another shape:\n    pooler/kernel [8, 9] instead of [8, 8]\n" in message
    assert message.count("\n    layer_") == 5
