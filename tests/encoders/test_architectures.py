"""Every architecture against transformers' own class on the same random weights."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import BertEncoder
from keras_bert_layers.checkpoints.architectures import ARCHITECTURES

from .test_bert_encoder import assert_equal_to_tfbertmodel, everything, run_everything
from .tiny_encoders import HUGGINGFACE_NAMES, as_graph, assert_same, make_ids, make_tf_model, renamed

pytest.importorskip("transformers", reason="transformers is not installed")

# The class, and what its configuration has beside the sizes that all have.
CASES = {
    "bert": ("TFBertModel", {}),
    "distilbert": ("TFDistilBertModel", {}),
    "electra": ("TFElectraModel", {"embedding_size": 8}),
    "mpnet": ("TFMPNetModel", {"max_position_embeddings": 202, "relative_attention_num_buckets": 16}),
    "roberta": ("TFRobertaModel", {"type_vocab_size": 1, "pad_token_id": 1}),
    "xlm-roberta": ("TFXLMRobertaModel", {"type_vocab_size": 1, "pad_token_id": 1}),
    "camembert": ("TFCamembertModel", {"type_vocab_size": 1, "pad_token_id": 1}),
    "albert": ("TFAlbertModel", {"embedding_size": 8, "num_hidden_groups": 2}),
}


def test_every_architecture_has_a_case():
    assert set(CASES) == set(ARCHITECTURES)


@pytest.fixture(scope="module", params=CASES)
def architecture(request):
    """A model of transformers, ids, and what it makes of them."""
    class_name, sizes = CASES[request.param]
    tf_model = make_tf_model(class_name, **sizes)
    # For MPNet longer than the distances that it tells apart.
    ids = make_ids((6, 190, 1, 4), sequence=190) if request.param == "mpnet" else make_ids()
    padding = getattr(tf_model.config, "pad_token_id", 0)
    token_ids = np.where(ids["input_word_ids"] == padding, 5, ids["input_word_ids"])
    # RoBERTa tells padding by its id.
    ids["input_word_ids"] = np.where(ids["input_mask"], token_ids, padding)
    if getattr(tf_model.config, "type_vocab_size", 2) == 1:
        ids["input_type_ids"] *= 0
    known = [name for name in HUGGINGFACE_NAMES if name in inspect.signature(tf_model.call).parameters]
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


def test_one_text_alone_equals_itself_in_a_batch(architecture, encoder):
    """Also where short texts share a row of attention with others."""
    _, ids, _ = architecture
    packed = BertEncoder.from_config({**encoder.get_config(), "return_attention_scores": False})
    packed.set_weights(encoder.get_weights())
    together = as_graph(everything(packed))(ids)
    for row, length in enumerate(ids["input_mask"].sum(axis=1)):
        alone = everything(encoder)({name: value[row : row + 1, :length] for name, value in ids.items()})
        for state, states in zip(alone["hidden_states"], together["hidden_states"], strict=True):
            assert_same(state[0], states[row, :length])


def test_fewer_layers(architecture, encoder):
    first = BertEncoder.from_pretrained(architecture[0], num_hidden_layers=2)
    _, ids, _ = architecture
    for state, expected in zip(first.hidden_states(ids), encoder.hidden_states(ids)[:2], strict=True):
        assert_same(state, expected)
    # ALBERT's first two layers have the weights of one group.
    blocks = 1 if first.config.model_type == "albert" else 2
    assert len({id(block) for block in first.transformer_layers}) == blocks
    assert len([weight for weight in first.weights if "query/kernel" in weight.path]) == blocks


@pytest.mark.parametrize("recompute", [False, True])
def test_every_weight_gets_a_gradient(architecture, recompute):
    """And the same one, whether the layers are computed again or not."""
    tf_model, ids, _ = architecture
    rates = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    gradients = []
    for again in {False, recompute}:
        encoder = BertEncoder.from_pretrained(tf_model, combine="sum", recompute=again, **rates)
        with tf.GradientTape() as tape:
            outputs = encoder(ids, training=True)
            loss = sum(
                tf.reduce_sum(tf.sin(3 * outputs[key]))
                for key in ("encoder_outputs", "pooled_output")
                if key in outputs
            )
        gradients.append([tf.convert_to_tensor(g) for g in tape.gradient(loss, encoder.trainable_variables)])
    for first, second in zip(gradients[0], gradients[-1], strict=True):
        assert_same(first, second, atol=1e-4 * max(1.0, float(np.abs(first).max())))
