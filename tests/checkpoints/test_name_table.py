import contextlib

import pytest

from keras_bert_layers import BertConfig, BertEncoder
from keras_bert_layers.checkpoints.architectures import ARCHITECTURES
from keras_bert_layers.checkpoints.name_table import NameTable
from keras_bert_layers.checkpoints.naming_scheme import PYTORCH, TENSORFLOW
from keras_bert_layers.keras_compatibility import variables_without_values

from .tiny_checkpoints import SIZES, expected_shapes


def test_a_bert_base_has_its_weights():
    with contextlib.suppress(InterruptedError), variables_without_values():
        shapes = expected_shapes(BertEncoder(BertConfig()))
        raise InterruptedError("Its weights are not needed.")
    assert len(shapes) == 5 + 12 * 16 + 2
    # The published number of parameters of BERT-base, uncased.
    assert sum(shape[0] * (shape[1] if len(shape) == 2 else 1) for shape in shapes.values()) == 109_482_240


@pytest.mark.parametrize("scheme", [PYTORCH, TENSORFLOW], ids=["pytorch", "tensorflow"])
@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_each_table_is_a_bijection_onto_the_encoders_weights(model_type, scheme):
    table = NameTable(ARCHITECTURES[model_type], scheme)
    values = {**SIZES, "model_type": model_type, "num_hidden_groups": 3}
    has_pooler = "pooler" in ARCHITECTURES[model_type].modules.values()
    ours = set(expected_shapes(BertEncoder(BertConfig.from_dict(values), pooler=has_pooler)))
    assert ours == {name.format(number) for name in table.names for number in (1, 2, 3)}
    theirs = {name: table.theirs(name) for name in ours}
    assert len(set(theirs.values())) == len(ours)
    assert {name: table.ours(their_name) for name, their_name in theirs.items()} == {name: name for name in ours}
