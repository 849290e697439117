"""A sentence model with XLM-R's tokenizer, whose prompts are counted in its pieces."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from tests.text.test_sentence_piece_tokenizer import (
    fast_tokenizer,  # noqa: F401 - fixtures
    saved,  # noqa: F401
)

from .sentence_models import HIDDEN, Module, expected_vector, write_sentence_model

transformers = pytest.importorskip("transformers", reason="the reference is transformers' model")

TEXTS = ["hello new newer good", "a", "AAa 中文 good good good good (xyz)"]


def test_prompts_of_sentence_pieces(saved, fast_tokenizer, tmp_path):  # noqa: F811
    config = transformers.XLMRobertaConfig(
        vocab_size=len(fast_tokenizer),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=34,
        type_vocab_size=1,
    )
    reference = transformers.TFXLMRobertaModel(config)
    reference(reference.dummy_inputs)
    bert = shutil.copytree(saved, tmp_path / "bert")
    reference.save_pretrained(bert, safe_serialization=True)
    chain = [Module("Pooling", {"pooling_mode": ["mean", "lasttoken"], "include_prompt": False})]
    settings = {"prompts": {"query": "hello newer: "}, "default_prompt_name": "query"}
    directory = write_sentence_model(tmp_path / "model", bert, chain, config_sentence_transformers=settings)
    model = kbl.tasks.from_pretrained(directory)
    # Without </s> at the end.
    length = len(fast_tokenizer("hello newer: ")["input_ids"]) - 1
    expected = []
    for text in TEXTS:
        ids = fast_tokenizer(f"hello newer: {text}", truncation=True, max_length=32, return_tensors="tf")
        state = reference(input_ids=ids["input_ids"]).last_hidden_state[0].numpy()
        expected.append(expected_vector(chain, [state], length))
    np.testing.assert_allclose(model(tf.constant(TEXTS)), expected, atol=1e-5)
