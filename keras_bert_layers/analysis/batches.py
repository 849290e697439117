"""Texts -> the states of every layer, batch by batch: one pass of the encoder, however many measures look at it."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_layers.analysis.arguments import check_preprocessor
from keras_bert_layers.analysis.encoder_run import EncoderRun, States, Wanted
from keras_bert_layers.analysis.progress_bar import progress_bar
from keras_bert_layers.analysis.texts import count_texts, read_texts, to_batch
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor
from keras_bert_layers.token_inputs import TFHUB_NAMES

# Texts that are sorted by length together. Within them all batches are made before the next texts are read.
WINDOW = 1024
TOKENS_PER_BATCH = 2048
# Attention scores grow with the square of the length: at most so many numbers of them in a batch.
SCORES_PER_BATCH = 2**24


@dataclasses.dataclass
class Batch:
    """Texts of similar length and what the encoder gave for them.

    Attributes:
        texts: the texts as they came.
        numbers: `[batch]`, the place of each in the input.
        ids: what the preprocessor made of them, each `[batch, sequence]` and cut to the longest.
        mask: bool `[batch, sequence]`, true on real tokens.
        special: bool `[batch, sequence]`, true on [CLS] and [SEP].
        word_rows, word_numbers: `[words]`, where each word of `states.words` stands: text of the batch, word of it.
        states: of the encoder.
        other: of the second encoder, if there is one.
        ends_window: whether all texts up to here have come.
    """

    texts: list[Any]
    numbers: np.ndarray
    ids: dict[str, np.ndarray]
    mask: np.ndarray
    special: np.ndarray
    word_rows: np.ndarray
    word_numbers: np.ndarray
    states: States
    other: States | None
    ends_window: bool


def run_batches(
    encoder: Any,
    preprocessor: Any,
    texts: Any,
    layers: Sequence[int],
    wanted: Wanted,
    other: Any = None,
    argument: str = "texts",
) -> Iterator[Batch]:
    """Runs texts through an encoder, each once.

    Of up to 1,024 texts at a time those of similar length come together, so that little of a batch is padding; then the
    next ones are read. A batch has up to 2,048 tokens, or one text.

    Args:
        encoder: as `chosen_layers` allows it.
        preprocessor: a `BertPreprocessor` or a `TFHubPreprocessor`.
        texts: as `read_texts` takes them.
        layers: numbers of layers.
        wanted: what is needed of each batch.
        other: a second encoder, which gets the same ids.
        argument: what the user calls the texts.

    Raises:
        TypeError, ValueError: for texts that the preprocessor does not take, and for no text at all.
    """
    check_preprocessor(preprocessor, words=wanted.words)
    preprocessor = _detailed(preprocessor)
    run = EncoderRun(encoder, layers, wanted)
    run_other = EncoderRun(other, layers, wanted) if other is not None else None
    random = np.random.default_rng(0)
    with progress_bar(count_texts(texts), "text") as bar:
        for first, window in _windows(texts, argument):
            columns = to_batch(window, first)
            if isinstance(columns, tuple) and preprocessor.separators > 1:
                raise ValueError(
                    "Expected pairs whose texts have type ids of their own, which say what is of which. Received: "
                    f"{argument} as pairs, and a tokenizer with pair_format='roberta', which gives both type 0. "
                    "Analyse the two apart."
                )
            ids = {name: np.asarray(value) for name, value in preprocessor(columns).items()}
            for one in (encoder, other):
                _check_ids(ids, one)
            lengths = ids["input_mask"].sum(axis=1)
            parts = _split_by_length(lengths, encoder, layers, wanted)
            # In random order, so that no measure sees all short texts first.
            for place, part in enumerate(random.permutation(len(parts))):
                rows = parts[part]
                cut = {name: value[rows, : lengths[rows].max()] for name, value in ids.items()}
                yield _make_batch(
                    [window[row] for row in rows], first + rows, cut, run, run_other, place == len(parts) - 1
                )
                bar.update(len(rows))


def token_strings(preprocessor: Any, token_ids: np.ndarray) -> list[str]:
    """Ids -> the vocabulary's tokens; of a preprocessor that has no list of them, the numbers as text."""
    if isinstance(preprocessor, BertPreprocessor):
        return [preprocessor.tokenizer.id_to_token(int(token)) for token in token_ids]
    return [str(token) for token in token_ids]


def _windows(texts: Any, argument: str) -> Iterator[tuple[int, list[Any]]]:
    """The number of the first text, and the texts, of each window."""
    stream, first = read_texts(texts, argument), 0
    while window := list(itertools.islice(stream, WINDOW)):
        yield first, window
        first += len(window)
    if not first:
        raise ValueError(f"Expected at least one text. Received: {argument} without any.")


def _detailed(preprocessor: Any) -> Any:
    """The preprocessor, made to say all it knows of a token."""
    if not isinstance(preprocessor, BertPreprocessor):
        return preprocessor
    return preprocessor.with_arguments(
        padding="longest",
        pad_to_multiple_of=None,
        sequence_buckets=None,
        return_word_ids=True,
        return_offsets="characters",
    )


def _check_ids(ids: dict[str, np.ndarray], encoder: Any) -> None:
    """Refuses ids that the encoder has no embeddings for: another checkpoint's, or those of a third segment."""
    if encoder is None:
        return
    token, segments = int(ids["input_word_ids"].max()), int(ids["input_type_ids"].max()) + 1
    if encoder.vocab_size is not None and token >= encoder.vocab_size:
        raise ValueError(
            f"Expected the preprocessor to give ids below {encoder.vocab_size}, the size of the encoder's vocabulary. "
            f"Received: the id {token}. BertPreprocessor.from_pretrained(...) makes the one that belongs to a "
            "checkpoint."
        )
    if encoder.type_vocab_size is not None and segments > encoder.type_vocab_size:
        raise ValueError(
            f"Expected texts of at most {encoder.type_vocab_size} segments, as the encoder was trained on them. "
            f"Received: texts of {segments} segments. Join some of them, as in (firsts, [' '.join(pair) for pair in "
            "zip(seconds, thirds)])."
        )


def _split_by_length(lengths: np.ndarray, encoder: Any, layers: Sequence[int], wanted: Wanted) -> list[np.ndarray]:
    """Cuts the texts, sorted by length, into batches; returns the rows of each."""
    parts: list[list[int]] = [[]]
    for row in np.argsort(-lengths, kind="stable"):
        # The longest comes first and gives the batch its length.
        length = int(lengths[parts[-1][0]]) if parts[-1] else 0
        size = (len(parts[-1]) + 1) * length
        too_many = size > TOKENS_PER_BATCH
        if wanted.scores:
            too_many |= size * length * encoder.num_heads * len(layers) > SCORES_PER_BATCH
        if too_many and parts[-1]:
            parts.append([])
        parts[-1].append(int(row))
    return [np.array(part) for part in parts]


def _make_batch(
    texts: list[Any], numbers: np.ndarray, ids: dict[str, np.ndarray], run: Any, run_other: Any, ends_window: bool
) -> Batch:
    mask, types = ids["input_mask"].astype(bool), ids["input_type_ids"]
    # [CLS] is the first token, a [SEP] the last one of each segment.
    following = np.where(mask, types, -1)
    special = mask & (following != np.pad(following[:, 1:], ((0, 0), (0, 1)), constant_values=-1))
    special[:, 0] = True
    if "word_ids" in ids:
        ids["word_ids"] = _number_words(ids["word_ids"], types)
    word_ids = ids.get("word_ids", np.full_like(types, -1))
    inputs = {name: tf.constant(ids[name]) for name in TFHUB_NAMES}
    inputs["special_tokens_mask"] = tf.constant((special | ~mask).astype("int32"))
    inputs["word_ids"] = tf.constant(word_ids)
    word_rows, word_numbers = _words_of(word_ids)
    return Batch(
        texts=texts,
        numbers=numbers,
        ids=ids,
        mask=mask,
        special=special,
        word_rows=word_rows,
        word_numbers=word_numbers,
        states=run(inputs),
        other=None if run_other is None else run_other(inputs),
        ends_window=ends_window,
    )


def _number_words(word_ids: np.ndarray, types: np.ndarray) -> np.ndarray:
    """The words of both texts of a pair count from 0: lets those of the second go on from the first."""
    in_first = np.where(types == 0, word_ids, -1).max(axis=1, keepdims=True) + 1
    return np.where((word_ids >= 0) & (types > 0), word_ids + in_first, word_ids)


def _words_of(word_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The row and the number of each word, in the order in which `WordPooling` has them."""
    exists = np.zeros(word_ids.shape, bool)
    rows, columns = np.nonzero((word_ids >= 0) & (word_ids < word_ids.shape[1]))
    exists[rows, word_ids[rows, columns]] = True
    rows, numbers = np.nonzero(exists)
    return rows, numbers
