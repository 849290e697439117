"""Every architecture against transformers' own class on the same random weights."""

import pytest
import tensorflow as tf

from keras_bert_layers import BertEncoder
from keras_bert_layers.checkpoints.architectures import ARCHITECTURES

from .test_bert_encoder import assert_equal_to_tfbertmodel, everything, run_everything
from .tiny_encoders import HUGGINGFACE_NAMES, assert_same, make_ids, make_tf_model, renamed

pytest.importorskip("transformers", reason="transformers is not installed")

# The class, and what its configuration has beside the sizes that all have.
CASES = {
    "bert": ("TFBertModel", {}),
    "distilbert": ("TFDistilBertModel", {}),
}


def test_every_architecture_has_a_case():
    assert set(CASES) == set(ARCHITECTURES)


@pytest.fixture(scope="module", params=CASES)
def architecture(request):
    """A model of transformers, ids, and what it makes of them."""
    class_name, sizes = CASES[request.param]
    tf_model = make_tf_model(class_name, **sizes)
    ids = make_ids()
    known = [name for name in HUGGINGFACE_NAMES if name in tf_model.call.__code__.co_varnames]
    theirs = {name: value for name, value in renamed(ids, HUGGINGFACE_NAMES).items() if name in known}
    return tf_model, ids, tf_model(theirs, output_hidden_states=True, output_attentions=True)


@pytest.fixture(scope="module")
def encoder(architecture):
    return BertEncoder.from_pretrained(architecture[0], return_attention_scores=True)


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_equal_to_transformers(mode, architecture, encoder):
    _, ids, expected = architecture
    assert_equal_to_tfbertmodel(run_everything(encoder, mode)(ids), expected)


def test_equal_through_files(architecture, encoder, tmp_path):
    tf_model, ids, _ = architecture
    tf_model.save_pretrained(tmp_path, safe_serialization=True)
    again = BertEncoder.from_pretrained(tmp_path, return_attention_scores=True)
    assert again.config == encoder.config
    tf.nest.map_structure(assert_same, everything(again)(ids), everything(encoder)(ids))


def test_a_saved_configuration_comes_back(encoder):
    again = BertEncoder.from_config(encoder.get_config())
    assert again.config == encoder.config
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in encoder.weights]
