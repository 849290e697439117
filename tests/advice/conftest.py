import json
import pathlib
import shutil

import pytest

import keras_bert_layers as kbl

from ..encoders.tiny_encoders import EncoderFactory, write_tfhub_encoder


@pytest.fixture(scope="session")
def encoder_factory(tmp_path_factory) -> EncoderFactory:
    return EncoderFactory(write_tfhub_encoder(tmp_path_factory.mktemp("tfhub") / "encoder"))


@pytest.fixture(scope="module")
def preprocessor(vocabulary) -> kbl.BertPreprocessor:
    return kbl.BertPreprocessor(vocabulary, sequence_length=12)


@pytest.fixture(scope="session")
def config(vocabulary) -> kbl.BertConfig:
    return kbl.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )


@pytest.fixture(scope="module")
def encoder(config) -> kbl.BertEncoder:
    return kbl.BertEncoder(config, combine="mean")


@pytest.fixture(scope="session")
def saved_tokenizer(vocabulary, tmp_path_factory) -> pathlib.Path:
    """What transformers writes for a tokenizer with an added token."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("saved")
    (path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(str(path / "vocab.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["[E11]"]})
    tokenizer.save_pretrained(path)
    (path / "added_tokens.json").write_text(json.dumps(tokenizer.get_added_vocab()))
    configuration = {"model_type": "bert", "vocab_size": len(tokenizer), "max_position_embeddings": 512}
    (path / "config.json").write_text(json.dumps(configuration))
    return path


@pytest.fixture
def tokenizer_directory(saved_tokenizer, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(saved_tokenizer, tmp_path / "tokenizer"))
