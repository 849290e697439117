"""A `BertEncoder` in a `.keras` file, loaded by a process that has neither its source nor the packages it needs not."""

import keras
import numpy as np
import pytest

import keras_bert_layers as kbl
from keras_bert_layers import BertConfig, BertEncoder, LayerCombination

from ..layer_test_case import LayerCase, run_config_test, run_saving_test
from .tiny_encoders import SIZES, make_ids, make_tf_model

TWO_LAYERS = {**SIZES, "num_hidden_layers": 2}
CASE = LayerCase(BertEncoder, {"config": BertConfig(**TWO_LAYERS)}, make_ids())


def frozen_in_part(**arguments):
    encoder = BertEncoder(**arguments)
    encoder.transformer_layers[1].trainable = False
    encoder.build()
    return encoder


def frozen_whole(**arguments):
    encoder = BertEncoder(**arguments)
    encoder.trainable = False
    return encoder


@pytest.fixture
def source(tmp_path):
    tf_model = make_tf_model(num_hidden_layers=2)
    tf_model.save_pretrained(tmp_path / "source", safe_serialization=True)
    return tmp_path / "source"


def test_is_equal_in_a_fresh_process(source, tmp_path):
    def pretrained(**arguments):
        return BertEncoder.from_pretrained(source, **arguments)

    ids = CASE.inputs
    mix = LayerCombination("weighted", layer_norm=True)
    cases = {
        "defaults": CASE,
        "pretrained": LayerCase(pretrained, {"layers": "last2", "combine": mix}, ids),
        "first": LayerCase(pretrained, {"num_hidden_layers": 1, "combine": "concat", "pooler": False}, ids),
        "frozen": CASE.changed(trainable=False, combine="attention"),
        "frozen_in_part": LayerCase(frozen_in_part, CASE.arguments, ids),
        "frozen_whole": LayerCase(frozen_whole, {**CASE.arguments, "combine": "weighted"}, ids),
        "bfloat16": CASE.changed(dtype="mixed_bfloat16", layers=[0, -1], combine="stack"),
        "scores": CASE.changed(return_attention_scores=True, layers=[2, 1], name="mine"),
        "lone_ids": LayerCase(BertEncoder, CASE.arguments, {"input_ids": ids["input_word_ids"]}),
    }
    directory = tmp_path / "models"
    directory.mkdir()
    run_saving_test(cases, directory, blocked_imports=["transformers", "tensorflow_hub", "tf_keras"], delete=[source])


@pytest.mark.thorough
def test_every_argument_survives_its_configuration():
    config = BertConfig(**{**TWO_LAYERS, "intermediate_size": 20})
    variants = {
        "config": config,
        "layers": [2],
        "combine": "sum",
        "num_hidden_layers": 1,
        "hidden_dropout": 0.5,
        "attention_dropout": 0.5,
        "pooler": False,
        "trainable": False,
        "return_attention_scores": True,
        "recompute": True,
        "dtype": "mixed_bfloat16",
        "name": "another_name",
    }
    run_config_test(CASE, variants, unseen=("name", "recompute"))


def test_one_frozen_layer_survives_reloading_and_stays_as_it_is(tmp_path):
    encoder = BertEncoder(BertConfig(**SIZES), combine="sum", pooler=False)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in CASE.inputs}
    encoder.transformer_layers[1].trainable = False
    model = keras.Model(inputs, keras.layers.Dense(1)(encoder(inputs)["encoder_outputs"][:, 0]))
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    for own in (model, again):
        encoder = next(layer for layer in own.layers if isinstance(layer, BertEncoder))
        assert [layer.trainable for layer in encoder.transformer_layers] == [True, False, True]
        before = [layer.get_weights() for layer in encoder.transformer_layers]
        own.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
        own.fit(CASE.inputs, np.arange(4.0), verbose=0)
        after = [layer.get_weights() for layer in encoder.transformer_layers]
        changed = [
            any(not np.array_equal(a, b) for a, b in zip(x, y, strict=True)) for x, y in zip(before, after, strict=True)
        ]
        assert changed == [True, False, True]


@pytest.mark.parametrize(
    "freeze",
    [
        lambda encoder: setattr(encoder.embeddings.word_embeddings, "trainable", False),
        lambda encoder: setattr(encoder.transformer_layers[1].attention.query, "trainable", False),
        lambda encoder: [
            setattr(encoder.transformer_layers[2], "trainable", False),
            setattr(encoder.transformer_layers[2].feed_forward.layer_norm, "trainable", True),
        ],
        lambda encoder: [setattr(encoder, "trainable", False), setattr(encoder.pooler, "trainable", True)],
    ],
    ids=["embedding", "query", "all but a norm", "pooler of a frozen encoder"],
)
def test_what_is_frozen_at_any_depth_survives(freeze):
    encoder = BertEncoder(BertConfig(**SIZES), combine="weighted", name="mine")
    everything = len(encoder.trainable_weights)
    freeze(encoder)
    windowed = kbl.WindowedEncoder(encoder, window=8, stride=2)
    for own in (encoder, windowed):
        again = type(own).from_config(own.get_config())
        assert [weight.trainable for weight in again.weights] == [weight.trainable for weight in own.weights]
        assert len(again.trainable_weights) == len(own.trainable_weights) < everything


@pytest.mark.parametrize(
    "damaged",
    [
        {"lora": "layer_1"},
        {"lora": None},
        {"lora": {"layer_1/attention/query": 2}},
        {"lora": {"layer_1/attention/query": ["x", 2]}},
        {"lora": {"layer_1/attention/query": [10**9, 2]}},
        {"lora": {"layer_1/attention": [2, 2]}},
        {"frozen_layers": "layer_1/attention/query"},
        {"frozen_layers": None},
    ],
    ids=str,
)
def test_a_damaged_configuration_is_refused(damaged):
    config = BertEncoder(BertConfig(**SIZES)).get_config()
    with pytest.raises(ValueError, match="A configuration of BertEncoder is expected to have"):
        BertEncoder.from_config({**config, **damaged})
