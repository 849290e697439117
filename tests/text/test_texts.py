"""Texts as they come out of files and tables, among them what is no text."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl
from keras_bert_layers.text.texts import check_texts, plain_texts

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def preprocessor(vocabulary):
    return kbl.BertPreprocessor(vocabulary, sequence_length=8)


@pytest.mark.parametrize(
    "texts",
    [
        pandas.Series(["a film", "why?"]),
        pandas.Series(["a film", "why?"], index=[7, 3], dtype=object),
        pandas.Series(["a film", "why?"]).astype("category"),
        pandas.Series([None, "a film", "why?"]).dropna(),
        pandas.array(["a film", "why?"], dtype="string"),
        pandas.Index(["a film", "why?"]),
        np.ma.array(["a film", "why?"], mask=[False, False]),
        np.array([b"a film", "why?"], dtype=object),
        [np.str_("a film"), np.bytes_(b"why?")],
    ],
    ids=lambda texts: type(texts).__name__,
)
def test_columns_and_arrays_work(preprocessor, texts):
    expected = preprocessor(["a film", "why?"])["input_word_ids"]
    np.testing.assert_array_equal(preprocessor(texts)["input_word_ids"], expected)


def test_columns_of_pairs_and_of_words(preprocessor):
    table = pandas.DataFrame({"question": ["why", "how"], "context": ["a film", "a book"]})
    pairs = preprocessor((table["question"], table["context"]))["input_word_ids"]
    np.testing.assert_array_equal(pairs, preprocessor((["why", "how"], ["a film", "a book"]))["input_word_ids"])
    expected = preprocessor([["a", "film"], ["why"]])["input_word_ids"]
    for words in (pandas.Series([["a", "film"], ["why"]]), np.array([["a", "film"], ["why"]], dtype=object)):
        np.testing.assert_array_equal(preprocessor(words)["input_word_ids"], expected)


MISSING = [None, float("nan"), np.float32("nan"), pandas.NA, pandas.NaT]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_a_missing_text_is_an_error_that_says_where(preprocessor, missing):
    forms = {
        "inputs[1]": [["a", missing], np.array(["a", missing], dtype=object), pandas.Series(["a", missing])],
        "inputs[1][1]": [[["a"], ["b", missing]], (["a", "b"], ["c", missing])],
        "inputs[0]": [(missing, "a")],
    }
    for place, inputs in forms.items():
        for texts in inputs:
            with pytest.raises(TypeError, match="expects") as caught:
                preprocessor(texts)
            assert f"Received: {place}" in str(caught.value)


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_the_ways_out_of_a_missing_text(preprocessor, missing):
    values = ["a", missing]
    with pytest.raises(TypeError, match=r"\[value if isinstance\(value, str\) else '' for value in values\]"):
        preprocessor(values)
    expected = preprocessor(["a", ""])["input_word_ids"]
    for filled in ([value if isinstance(value, str) else "" for value in values], pandas.Series(values).fillna("")):
        np.testing.assert_array_equal(preprocessor(filled)["input_word_ids"], expected)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (pandas.DataFrame({"text": ["a"]}), TypeError, r"of type DataFrame with shape \(1, 1\). Choose the column"),
        (pandas.Series([1.5]), TypeError, r"inputs\[0\] of type float64. Make texts of numbers: \[str\(value\)"),
        (["a", 3], TypeError, r"inputs\[1\] of type int. Make texts of numbers"),
        (range(3), TypeError, r"inputs\[0\] of type int"),
        (["a", tf.constant("b")], TypeError, r"inputs\[1\] of type EagerTensor. Give str or bytes"),
        ([np.array("a")], TypeError, r"inputs\[0\] of type ndarray"),
        (np.ma.array(["a", "b"], mask=[0, 1]), TypeError, r"inputs\[1\]=None, a missing value"),
        (np.array("a"), ValueError, r"Received: inputs.shape=\(\). Give a str"),
        (np.array(None), ValueError, r"Received: inputs.shape=\(\)"),
        (["a", ["b"]], ValueError, r"the list inputs\[1\] and the str inputs\[0\]"),
        ([np.array([], dtype=object), "a"], ValueError, r"the list inputs\[0\] and the str inputs\[1\]"),
        (np.array(["a", np.array([])], dtype=object), ValueError, r"the list inputs\[1\] and the str inputs\[0\]"),
        ([["a"], "b"], ValueError, r"the list inputs\[0\] and the str inputs\[1\]"),
        ([["a"], [["b"]]], ValueError, r"inputs\[1\] with a list of its own in it"),
        ([("a", "b")], ValueError, r"the tuple inputs\[0\] in a list. .*: tuple\(map\(list, zip\(\*pairs\)\)\)"),
        ((["a"], [("b",)]), ValueError, r"the tuple inputs\[1\]\[0\] in a list"),
        (tf.sparse.from_dense([["a", ""]]), TypeError, r"SparseTensor. Make it dense: tf.sparse.to_dense\(texts, d"),
        (["a", "b \ud83d"], ValueError, r"inputs\[1\] with the lone surrogate U\+D83D at character 2"),
        (np.array(["\udc00"]), ValueError, r"inputs\[0\] with the lone surrogate U\+DC00 at character 0"),
        ([["a"], ["b", "\ud800"]], ValueError, r"inputs\[1\]\[1\] with the lone surrogate"),
    ],
)
def test_what_is_no_text(preprocessor, inputs, error, message):
    with pytest.raises(error, match=message):
        preprocessor(inputs)


def test_the_other_ways_out(preprocessor):
    for texts in (
        [str(value) for value in [1.5, 3]],
        "b \ud83d".encode("utf-8", "replace").decode(),
        tuple(map(list, zip(*[("a", "b"), ("c", "d")], strict=True))),
        tf.sparse.to_dense(tf.sparse.from_dense([["a", ""]]), default_value=""),
        pandas.DataFrame({"text": ["a"]})["text"],
    ):
        assert preprocessor(texts)["input_mask"].numpy().any()


def test_a_sparse_input_of_a_model(preprocessor):
    with pytest.raises(TypeError, match=r"KerasTensor. Leave out sparse=True"):
        preprocessor(keras.Input((3,), sparse=True, dtype="string"))


def test_errors_do_not_repeat_texts():
    """So that the client may use them."""
    for texts in (["secret", None], ["secret \ud800"], [["secret", 3]], [("secret", b"secret", float("nan"))]):
        with pytest.raises((TypeError, ValueError)) as caught:
            check_texts(texts, "texts", "Client")
        assert "secret" not in str(caught.value)


def test_texts_are_counted_from_the_first():
    with pytest.raises(TypeError, match=r"texts\[1025\]=None"):
        check_texts(["a", None], "texts", "The analysis", first=1024)


def test_tensors_pass():
    texts = tf.constant(["a"])
    assert plain_texts(texts, "inputs", "Layer") is texts
