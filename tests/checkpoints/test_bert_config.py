import dataclasses
import json
import re

import pytest

from keras_bert_layers.checkpoints.architectures.architecture import OPTIONS
from keras_bert_layers.checkpoints.bert_config import SUPPORTED_ACTIVATIONS, BertConfig

from .tiny_checkpoints import SIZES


def test_defaults_are_those_of_transformers():
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertConfig()
    for field in dataclasses.fields(BertConfig):
        if field.name in OPTIONS:
            continue
        assert getattr(BertConfig(), field.name) == getattr(theirs, field.name), field.name


def test_to_dict_can_be_json_and_comes_back_equal():
    config = BertConfig(**SIZES, hidden_act="gelu_new", layer_norm_eps=1e-5, hidden_dropout_prob=0, pad_token_id=3)
    assert BertConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_every_value_of_the_dictionary_is_respected():
    values = (
        {
            **SIZES,
            "hidden_act": "relu",
            "hidden_dropout_prob": 0.2,
            "attention_probs_dropout_prob": 0.3,
            "initializer_range": 0.05,
            "layer_norm_eps": 1e-5,
            "pad_token_id": 7,
            "model_type": "bert",
        }
        | dict.fromkeys(OPTIONS)
        | {"position_offset": 0}
    )
    assert BertConfig.from_dict(values).to_dict() == values


def test_harmless_keys_are_ignored():
    values = SIZES | {"architectures": ["BertForMaskedLM"], "use_cache": True, "pooler_type": "x", "pad_token_id": None}
    values |= {"position_embedding_type": "absolute", "is_decoder": False, "pruned_heads": {}, "embedding_size": 8}
    assert BertConfig.from_dict(values) == BertConfig(**SIZES)


@pytest.mark.parametrize("name", ["config.json", "bert_config.json"])
def test_from_file_reads_a_directory_and_a_file(tmp_path, name):
    (tmp_path / name).write_text(json.dumps(SIZES))
    assert BertConfig.from_file(tmp_path) == BertConfig.from_file(str(tmp_path / name)) == BertConfig(**SIZES)


def test_from_file_reads_googles_configuration(data_directory):
    config = BertConfig.from_file(data_directory / "checkpoints" / "google_tiny")
    assert (config.hidden_size, config.num_attention_heads, config.vocab_size) == (4, 4, 15)
    assert config.layer_norm_eps == 1e-12


def test_supported_activations_are_those_of_transformers_that_keras_has():
    activations = pytest.importorskip("transformers.activations_tf")
    assert {*SUPPORTED_ACTIVATIONS} - {"gelu_pytorch_tanh"} == {*activations.ACT2FN} - {"gelu_10", "glu", "quick_gelu"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_size": 0}, "`hidden_size` is expected to be a positive integer, at most .* Received: hidden_size=0."),
        (
            {"vocab_size": "30"},
            "`vocab_size` is expected to be a positive integer, at most .* Received: vocab_size='30'.",
        ),
        ({"vocab_size": 2**31}, "at most 2,147,483,647. Received: vocab_size=2147483648."),
        ({"num_hidden_layers": 10**6}, "at most 1,000. Received: num_hidden_layers=1000000."),
        ({"num_hidden_layers": [0] * 10**6}, r"Received: num_hidden_layers=\[0, 0, 0, 0, 0, 0, ...\]."),
        ({"num_hidden_layers": True}, "positive integer, at most .* Received: num_hidden_layers=True."),
        ({"num_hidden_layers": 0}, "positive integer, at most .* Received: num_hidden_layers=0."),
        ({"intermediate_size": 1.5}, "positive integer, at most .* Received: intermediate_size=1.5."),
        ({"max_position_embeddings": -1}, "positive integer, at most .* Received: max_position_embeddings=-1."),
        ({"type_vocab_size": None}, "integer of at least 0, at most .* Received: type_vocab_size=None."),
        ({"type_vocab_size": -1}, "integer of at least 0, at most .* Received: type_vocab_size=-1."),
        ({"num_attention_heads": 5}, "multiple of `num_attention_heads`.*hidden_size=8, num_attention_heads=5."),
        ({"hidden_act": "gelu_10"}, "one of gelu, .*tanh. Received: hidden_act='gelu_10'.*HuggingFaceEncoder"),
        ({"hidden_act": ["gelu"]}, r"Received: hidden_act=\['gelu'\]"),
        ({"hidden_dropout_prob": 1.0}, "from 0 to below 1.*Received: hidden_dropout_prob=1.0."),
        ({"attention_probs_dropout_prob": -0.1}, "Received: attention_probs_dropout_prob=-0.1."),
        ({"attention_probs_dropout_prob": None}, "Received: attention_probs_dropout_prob=None."),
        ({"hidden_dropout_prob": float("nan")}, "Received: hidden_dropout_prob=nan."),
        ({"initializer_range": -1}, "at least 0, a standard deviation. Received: initializer_range=-1."),
        ({"initializer_range": 10**400}, "at least 0, a standard deviation. Received: initializer_range=1000.*0000"),
        ({"layer_norm_eps": 10**400}, "above 0. Received: layer_norm_eps=1000.*0000"),
        ({"layer_norm_eps": float("inf")}, "above 0. Received: layer_norm_eps=inf"),
        ({"layer_norm_eps": 0}, "above 0. Received: layer_norm_eps=0."),
        ({"layer_norm_eps": "1e-12"}, "above 0. Received: layer_norm_eps='1e-12'."),
        ({"pad_token_id": 30}, "from 0 to 29. Received: pad_token_id=30."),
        ({"pad_token_id": -1}, "from 0 to 29. Received: pad_token_id=-1."),
    ],
)
def test_wrong_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        BertConfig(**(SIZES | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"model_type": "modernbert"},
            "Received: model_type='modernbert'. Take a checkpoint of one of these types",
        ),
        (
            {"model_type": "deberta"},
            "model_type that is read here is expected: bert, .* Received: model_type='deberta'. HuggingFaceEncoder",
        ),
        ({"model_type": None}, "Received: model_type=None."),
        ({"model_type": [[[[[[[[[[]]]]]]]]]]}, "Received: model_type=.*\\.\\.\\."),
        ({"position_embedding_type": "relative_key"}, "absolute.*Received: position_embedding_type='relative_key'."),
        ({"is_decoder": True}, "Only an encoder.*Received: is_decoder=True."),
        ({"add_cross_attention": True}, "without cross-attention. Received: add_cross_attention=True."),
        ({"embedding_size": 4}, "hidden_size=8.*Received: embedding_size=4."),
        ({"pruned_heads": {"0": [1]}}, "same number of attention heads.*Received: pruned_heads="),
    ],
)
def test_what_cannot_run_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        BertConfig.from_dict(SIZES | values)


@pytest.mark.parametrize(
    "key", ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"]
)
def test_a_missing_size_is_not_guessed(tmp_path, key):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({name: value for name, value in SIZES.items() if name != key}))
    with pytest.raises(ValueError, match=f"{re.escape(str(file))} cannot be used.*Missing: {key}. Received: keys="):
        BertConfig.from_file(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON file, and it could not be read.*Copy or download it again"),
        ("[]", "expected to hold a JSON object. Received: a list."),
        ('{"model_type": "deberta"}', "cannot be used.*model_type='deberta'"),
        ("version https://git-lfs.github.com/spec/v1\n", "Received: a Git LFS pointer.*git lfs pull"),
    ],
)
def test_an_unusable_file_is_named(tmp_path, content, message):
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(file))}.*{message}"):
        BertConfig.from_file(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nothing.json is expected to be a file. Received: no such file. Check"
    ):
        BertConfig.from_file(tmp_path / "nothing.json")
    (tmp_path / "vocab.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"config.json or bert_config.json. Received: .* vocab.txt. Give"):
        BertConfig.from_file(tmp_path)


ALBERT = {"model_type": "albert"}
MPNET = {"model_type": "mpnet"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"embedding_size": 4},
            "left out, but for models of type electra or albert. Received: embedding_size=4, model",
        ),
        ({"num_hidden_groups": True}, "left out, but for models of type albert. Received: num_hidden_groups=True"),
        (ALBERT | {"embedding_size": 0}, "positive integer, at most .* Received: embedding_size=0"),
        (ALBERT | {"embedding_size": "8"}, "positive integer, at most .* Received: embedding_size='8'"),
        (ALBERT | {"num_hidden_groups": 4}, "at most 3, or left out. Received: num_hidden_groups=4"),
        (MPNET | {"relative_attention_num_buckets": 10}, "multiple of 4.* Received: relative_attention_num_buckets=10"),
        (MPNET | {"relative_attention_num_buckets": 2**40}, "at most 256, or left out. Received: relative_att"),
        (MPNET | {"position_offset": 16}, "at most 15, or left out. Received: position_offset=16"),
        (MPNET | {"position_offset": -1}, "integer of at least 0, .* Received: position_offset=-1"),
    ],
)
def test_wrong_options_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        BertConfig(**(SIZES | values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # What is not the architecture's own changes nothing in its models, and is left out.
        ({"num_hidden_groups": 1, "relative_attention_num_buckets": 32, "position_offset": 2}, {}),
        ({"model_type": "distilbert"}, {"type_vocab_size": 0}),
        ({"model_type": "electra"}, {"embedding_size": 128}),
        ({"model_type": "electra", "embedding_size": 8}, {}),
        (
            {"model_type": "albert", "embedding_size": 8, "hidden_act": "relu"},
            {
                "embedding_size": 8,
                "num_hidden_groups": 1,
                "hidden_act": "relu",
                "hidden_dropout_prob": 0.0,
                "attention_probs_dropout_prob": 0.0,
            },
        ),
        ({"model_type": "xlm-roberta", "pad_token_id": 3}, {"position_offset": 4, "pad_token_id": 3}),
        ({"model_type": "roberta"}, {"position_offset": 2, "pad_token_id": 1}),
        (MPNET, {"position_offset": 2, "pad_token_id": 1, "relative_attention_num_buckets": 32, "type_vocab_size": 0}),
    ],
)
def test_options_of_other_architectures(values, expected):
    config = BertConfig.from_dict(SIZES | values)
    assert config == BertConfig(**{**SIZES, "model_type": config.model_type, **expected})
    assert BertConfig.from_dict(config.to_dict()) == config
