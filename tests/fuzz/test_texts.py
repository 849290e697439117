"""Texts, and what is none, through `BertPreprocessor`."""

import os
from typing import Any

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import keras_bert_layers as kbl

from .made_files import VOCABULARY

pytestmark = pytest.mark.fuzz
SCALE = float(os.environ.get("KERAS_BERT_LAYERS_FUZZ_SCALE", "1"))
SETTINGS: dict[str, Any] = {
    "derandomize": True,
    "deadline": None,
    "database": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
    "print_blob": False,
}
LENGTH = 12
CHARACTERS = st.one_of(
    st.sampled_from("abcdefghijs ,é[]SEP#"), st.characters(), st.characters(categories=["Cs", "Cf", "Cc", "Co"])
)
TEXT = st.text(CHARACTERS, max_size=20)
NO_TEXT = st.one_of(
    st.none(),
    st.floats(),
    st.integers(),
    st.booleans(),
    st.just({}),
    st.just(()),
    st.just(object),
    st.binary(max_size=4),
)
ANYTHING = st.recursive(
    st.one_of(TEXT, NO_TEXT),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(lambda items: np.fromiter(items, object, len(items))),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def preprocessor() -> kbl.BertPreprocessor:
    return kbl.BertPreprocessor(VOCABULARY, sequence_length=LENGTH)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Any:
    """Hugging Face's tokenizer of the same vocabulary."""
    transformers = pytest.importorskip("transformers")
    file = tmp_path_factory.mktemp("reference") / "vocab.txt"
    file.write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    return transformers.BertTokenizerFast(str(file), split_special_tokens=True)


def has_surrogate(text: str) -> bool:
    return any(0xD800 <= ord(character) < 0xE000 for character in text)


def test_lists_of_texts(preprocessor, reference):
    """Ids, mask and type ids are Hugging Face's, or a text is refused that is no Unicode."""

    @hypothesis.settings(max_examples=max(1, int(2000 * SCALE)), **SETTINGS)
    @hypothesis.given(st.lists(TEXT, min_size=1, max_size=4), st.booleans())
    def run(texts: list[str], pairs: bool) -> None:
        inputs = (texts, texts[::-1]) if pairs else texts
        if any(map(has_surrogate, texts)):
            with pytest.raises(ValueError, match="BertPreprocessor|surrogate"):
                preprocessor(inputs)
            return
        expected = reference(
            *((texts, texts[::-1]) if pairs else (texts,)), padding="max_length", truncation=True, max_length=LENGTH
        )
        found = preprocessor(inputs)
        np.testing.assert_array_equal(found["input_word_ids"], expected["input_ids"])
        np.testing.assert_array_equal(found["input_mask"], expected["attention_mask"])
        np.testing.assert_array_equal(found["input_type_ids"], expected["token_type_ids"])

    run()


def test_anything(preprocessor):
    """Answered with rows of the right length, or refused by name; and never in over 5 seconds."""

    @hypothesis.settings(max_examples=max(1, int(2000 * SCALE)), **{**SETTINGS, "deadline": 5000})
    @hypothesis.given(ANYTHING)
    def run(inputs: Any) -> None:
        refused = None
        try:
            found = preprocessor(inputs)
        except (ValueError, TypeError) as error:
            refused = str(error)
        if refused is not None:
            assert "BertPreprocessor" in refused
            return
        ids = found["input_word_ids"].numpy()
        assert ids.ndim == 2
        assert ids.shape[1] == LENGTH
        assert ((ids >= 0) & (ids < len(VOCABULARY))).all()
        # Nothing is answered for what is no text.
        assert all(isinstance(leaf, (str, bytes)) for leaf in leaves(inputs))

    run()


def test_tensors_of_bytes(preprocessor):
    """Any bytes, valid UTF-8 or not, and in a graph as outside of one."""
    graph = tf.function(lambda texts: preprocessor(texts), input_signature=[tf.TensorSpec([None], tf.string)])

    @hypothesis.settings(max_examples=max(1, int(1000 * SCALE)), **SETTINGS)
    @hypothesis.given(st.lists(st.binary(max_size=30), max_size=4))
    def run(texts: list[bytes]) -> None:
        tensor = tf.constant(texts, tf.string)
        found, compiled = preprocessor(tensor), graph(tensor)
        for name, value in found.items():
            np.testing.assert_array_equal(value, compiled[name])
        assert found["input_word_ids"].shape == (len(texts), LENGTH)

    run()


def leaves(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple, np.ndarray)):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]
