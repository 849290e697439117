"""align_labels against loops over Hugging Face's `word_ids()`, and there and back again."""

import pathlib

import numpy as np
import pandas
import pytest
import tensorflow as tf

from keras_bert_layers.layers.word_pooling import WordPooling
from keras_bert_layers.text.align_labels import align_labels
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor
from tests.word_reference import encode, load_tokenizer, read_wnut17

# The first row is cut in its word 4, before word 5. Word 1 of the second has no piece. The third has no word.
WORD_IDS = np.array([[-1, 0, 1, 1, 1, 2, 3, 4], [-1, 0, 2, 2, -1, -1, -1, -1], [-1] * 8], "int32")
LABELS = [[3, 1, 0, 2, 5, 4], [7, 8, 9], []]
EXPECTED = {
    "words": [[3, 1, 0, 2, 5, None, None, None], [7, None, 9] + [None] * 5, [None] * 8],
    "first_tokens": [[None, 3, 1, None, None, 0, 2, 5], [None, 7, 9] + [None] * 5, [None] * 8],
    "tokens": [[None, 3, 1, 1, 1, 0, 2, 5], [None, 7, 9, 9] + [None] * 4, [None] * 8],
}


def without_weight_as_none(aligned: tuple[tf.Tensor, tf.Tensor]) -> list[list[int | None]]:
    labels, weights = (value.numpy() for value in aligned)
    assert labels.dtype == np.int32
    assert weights.dtype == np.float32
    assert labels.shape == weights.shape
    assert set(np.unique(weights)) <= {0.0, 1.0}
    assert not labels[weights == 0].any()
    return [
        [label if weight else None for label, weight in zip(*row, strict=True)]
        for row in zip(labels.tolist(), weights, strict=True)
    ]


@pytest.mark.parametrize("to", EXPECTED)
@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        tf.ragged.constant(LABELS, "int64"),
        tf.ragged.constant(LABELS, "uint8").with_row_splits_dtype("int32"),
        np.array([[3, 1, 0, 2, 5, 4], [7, 8, 9, -100, -100, -100], [-100] * 6]),
        tf.ragged.constant(LABELS).to_tensor(6),
    ],
    ids=["list", "ragged", "ragged_uint8", "dense", "dense_padded_with_a_label"],
)
def test_labels_in_every_form(labels, to: str):
    assert without_weight_as_none(align_labels(labels, WORD_IDS, to)) == EXPECTED[to]
    assert without_weight_as_none(align_labels(labels, WORD_IDS.astype("int64"), to)) == EXPECTED[to]


def test_words_are_the_default_and_weights_are_the_word_mask():
    labels, weights = align_labels(LABELS, WORD_IDS)
    assert without_weight_as_none((labels, weights)) == EXPECTED["words"]
    word_mask = WordPooling("first")(np.zeros((3, 8, 1), "float32"), WORD_IDS)["word_mask"]
    np.testing.assert_array_equal(weights, word_mask)


def test_a_negative_label_stands_for_none():
    labels, weights = align_labels([[4, -100, 0]], [[-1, 0, 1, 1, 2, -1]], to="tokens")
    assert labels.numpy().tolist() == [[0, 4, 0, 0, 0, 0]]
    assert weights.numpy().tolist() == [[0, 1, 0, 0, 1, 0]]
    assert align_labels([[4, -100, 0]], [[-1, 0, 1, 1, 2, -1]])[1].numpy().tolist() == [[1, 0, 1, 0, 0, 0]]


def test_rows_without_special_tokens():
    word_ids = [[0, 0, 1], [0, 1, 1]]
    assert without_weight_as_none(align_labels([[4, 5]] * 2, word_ids, "first_tokens")) == [[4, None, 5], [4, 5, None]]


@pytest.mark.parametrize("labels", [[[], []], np.zeros((2, 0), "int32"), tf.ragged.constant([[], []], "int32")])
def test_rows_without_words(labels):
    for to in EXPECTED:
        assert without_weight_as_none(align_labels(labels, [[-1, -1, -1]] * 2, to)) == [[None] * 3] * 2


def test_an_empty_batch():
    aligned = align_labels(tf.zeros([0, 5], "int32"), tf.zeros([0, 7], "int32"))
    assert [value.shape for value in aligned] == [(0, 7), (0, 7)]


def test_words_past_the_sequence_length_have_no_place():
    labels = np.arange(11)[None]
    assert without_weight_as_none(align_labels(labels, [[-1, 0, 10, -1]])) == [[0, None, None, None]]
    assert without_weight_as_none(align_labels(labels, [[-1, 0, 10, -1]], "tokens")) == [[None, 0, 10, None]]


@pytest.mark.parametrize("labels", [[[1, 2, 3], [1]], [[1], [1, 2, 3]], np.array([[1], [2]])])
def test_fewer_labels_than_words(labels):
    word_ids = np.array([[-1, 0, 1, -1], [-1, 0, 1, -1]], "int32")
    for to in EXPECTED:
        with pytest.raises(tf.errors.InvalidArgumentError, match="fewer labels than words"):
            align_labels(labels, word_ids, to)
    dataset = tf.data.Dataset.from_tensors(labels if isinstance(labels, np.ndarray) else tf.ragged.constant(labels))
    with pytest.raises(tf.errors.InvalidArgumentError, match="fewer labels than words"):
        list(dataset.map(lambda labels: align_labels(labels, word_ids)))


@pytest.mark.parametrize(
    ("labels", "word_ids", "to", "message"),
    [
        ([[1]], [[0]], "word", "Expected `to` to be one of words, first_tokens, tokens. Received: to='word'"),
        ([[1.0]], [[0]], "words", "Received: labels of dtype float32"),
        (np.array([1]), [[0]], "words", r"Received: labels of dtype int64 and shape \(1,\)"),
        ([[1]], [[0.0]], "words", "Received: word_ids of dtype float32"),
        ([[1, 2], [3, None]], [[0], [0]], "words", r"Received: None in labels\[1\]. Give -100 to a word without"),
        (pandas.Series([[1], None]), [[0], [0]], "words", r"Received: None in labels\[1\]"),
        ([[1], [2]], [[0]], "words", "Received: 2 of labels and 1 of word ids"),
        ([[1]], [0], "words", r"Received: word_ids of dtype int32 and shape \(1,\)"),
    ],
)
def test_errors_say_what_was_given(labels, word_ids, to: str, message: str):
    with pytest.raises(ValueError, match=message):
        align_labels(labels, word_ids, to)


def test_in_a_dataset_with_the_preprocessor(vocabulary: list[str]):
    preprocessor = BertPreprocessor(vocabulary, sequence_length=10, return_word_ids=True)
    words = tf.ragged.constant([["The", "bookish", "film", "!"], ["why"], [], ["plot", "twist", "a", "b", "c"]])
    labels = tf.ragged.constant([[1, 2, 3, 4], [5], [], [6, 7, 8, 9, 3]])

    def prepare(words, labels):
        ids = preprocessor(words)
        return ids, *align_labels(labels, ids["word_ids"])

    dataset = tf.data.Dataset.from_tensor_slices((words, labels)).ragged_batch(3).map(prepare)
    assert [tuple(spec.shape) for spec in dataset.element_spec[1:]] == [(None, 10), (None, 10)]
    rows = [row for _, *aligned in dataset for row in without_weight_as_none(aligned)]
    assert [[label for label in row if label is not None] for row in rows] == [[1, 2, 3, 4], [5], [], [6, 7, 8, 9]]


@pytest.mark.parametrize("length", [24, 128])
def test_wnut17_there_and_back(data_directory: pathlib.Path, length: int):
    pytest.importorskip("transformers")
    sentences, tags = read_wnut17(data_directory, 1000)
    assert len(sentences) == 1000
    # Sentences with words of which nothing is left.
    sentences += [["\u0301", "word", "\u200b", "\ufe0f"], [" ", "word"]]
    tags += [[1, 2, 3, 4], [5, 6]]
    tokenizer = load_tokenizer(data_directory / "vocabularies" / "bert-base-uncased.vocab.txt")
    word_ids = encode(tokenizer, sentences, length)["word_ids"]
    ragged = tf.ragged.constant(tags)
    lost = 0

    on_words, word_weights = (value.numpy() for value in align_labels(ragged, word_ids))
    for to in ("first_tokens", "tokens"):
        on_tokens, token_weights = (value.numpy() for value in align_labels(ragged, word_ids, to))
        for row, labels in enumerate(tags):
            seen = set()
            for position, word in enumerate(word_ids[row].tolist()):
                is_first = word not in seen
                seen.add(word)
                expected = word >= 0 and (is_first or to == "tokens")
                assert token_weights[row, position] == expected
                assert on_tokens[row, position] == (labels[word] if expected else 0)
            seen.discard(-1)
            assert np.flatnonzero(word_weights[row]).tolist() == sorted(seen)
            assert on_words[row][word_weights[row] > 0].tolist() == [labels[word] for word in sorted(seen)]
            if len(seen) == len(labels):
                assert on_words[row, : len(labels)].tolist() == labels
            lost += len(labels) - len(seen)
        # What a tagger on tokens says becomes what it says of words.
        back = WordPooling("first")(on_tokens[:, :, None].astype("float32"), word_ids)
        np.testing.assert_array_equal(back["word_outputs"][:, :, 0], on_words)
        np.testing.assert_array_equal(back["word_mask"], word_weights)
    assert lost > 1000 if length == 24 else lost < 100
