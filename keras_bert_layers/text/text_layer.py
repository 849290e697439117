from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.keras_compatibility import refuse_legacy_tensors

OUTPUT_NAMES = ("input_word_ids", "input_mask", "input_type_ids")


class TextLayer(keras.layers.Layer):
    """What the preprocessors share: they take texts in any form and stay on the host, outside XLA.

    A subclass sets `sequence_length` and says which ids the segments get (`call`).
    """

    sequence_length: int
    # 2: texts that are split into words.
    ranks: tuple[int, ...] = (1,)

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        # String operations have no XLA kernels.
        self.supports_jit = False

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_legacy_tensors(self, inputs)
        return super().__call__(self._segments(inputs), *args, **kwargs)

    def _segments(self, inputs: Any) -> Any:
        """Texts in any form -> a string tensor, or a tuple of them, one for each segment."""
        is_tuple = isinstance(inputs, tuple) or (
            isinstance(inputs, list) and bool(inputs) and all(_is_tensor(value) for value in inputs)
        )
        if not is_tuple:
            return self._texts(inputs)
        segments = tuple(self._texts(value) for value in inputs)
        batches = [segment.shape[0] for segment in segments]
        if not segments or len(set(batches) - {None}) > 1:
            raise ValueError(
                f"{type(self).__name__} expects a tuple to hold the segments of texts, as many second texts as first "
                f"ones. Received: a tuple with {' and '.join(map(str, batches)) or 'no'} texts. "
                "A batch of texts is a list of str."
            )
        return segments if len(segments) > 1 else segments[0]

    def _texts(self, texts: Any) -> Any:
        if isinstance(texts, (str, bytes)):
            texts = [texts]
        if isinstance(texts, (list, np.ndarray)):
            wrong = next((text for text in _leaves(texts) if not isinstance(text, (str, bytes))), None)
            if wrong is not None:
                raise TypeError(
                    f"{type(self).__name__} expects texts, as str. "
                    f"Received: {wrong!r} of type {type(wrong).__name__} among them."
                )
            pair = next((text for text in texts if isinstance(text, tuple)), None)
            if pair is not None:
                words = ", and texts that are split into words as a list of lists" if 2 in self.ranks else ""
                raise ValueError(
                    f"{type(self).__name__} expects pairs as a tuple of two lists, ([first texts], [second texts])"
                    f"{words}. Received: a list with the tuple {pair!r} in it."
                )
            if any(isinstance(text, list) for text in texts):
                texts = tf.ragged.constant(texts, dtype="string", ragged_rank=1)
            else:
                texts = tf.constant(np.asarray(texts, dtype=object), dtype="string")
        if not _is_tensor(texts):
            raise TypeError(
                f"{type(self).__name__} expects a str, a list of str, an array or a tensor of strings, or a tuple of "
                f"two of them for pairs. Received: inputs of type {type(texts).__name__}."
            )
        if keras.backend.standardize_dtype(texts.dtype) != "string":
            raise TypeError(
                f"{type(self).__name__} expects strings. Received: inputs.dtype={texts.dtype}. "
                "In a functional model: keras.Input(shape=(), dtype='string')."
            )
        if len(texts.shape) not in self.ranks:
            words = " or of words [batch, words]" if 2 in self.ranks else ""
            raise ValueError(
                f"{type(self).__name__} expects a batch of texts [batch]{words}. "
                f"Received: inputs.shape={tuple(texts.shape)}. "
                "Use keras.Input(shape=(), dtype='string') in a model, and dataset.batch(...) before dataset.map(...)."
            )
        return texts

    def compute_output_spec(self, inputs: Any) -> dict[str, KerasTensor]:
        batch = keras.tree.flatten(inputs)[0].shape[0]
        return {name: KerasTensor((batch, self.sequence_length), "int32") for name in OUTPUT_NAMES}


def _leaves(texts: Any) -> Iterator[Any]:
    for text in texts:
        if isinstance(text, (list, tuple, np.ndarray)):
            yield from _leaves(text)
        else:
            yield text


def _is_tensor(value: Any) -> bool:
    return isinstance(value, KerasTensor) or tf.is_tensor(value)


def check_sequence_length(sequence_length: Any, limit: int | None = None) -> int:
    """Checks that a sequence can hold [CLS], a word piece and [SEP], and is no longer than the model's limit."""
    upper = "" if limit is None else f" to {limit}, the number of positions of the checkpoint"
    if isinstance(sequence_length, bool) or not isinstance(sequence_length, (int, np.integer)):
        raise TypeError(
            f"Expected `sequence_length` to be an int from 3{upper}. Received: sequence_length={sequence_length!r}."
        )
    if sequence_length < 3 or (limit is not None and sequence_length > limit):
        too_long = sequence_length >= 3
        windows = " For longer documents: long_documents=True and a WindowedEncoder." if too_long else ""
        raise ValueError(
            f"Expected `sequence_length` to be at least 3, for [CLS], a word piece and [SEP]{upper and ', and at most'}"
            f"{upper.removeprefix(' to')}. Received: sequence_length={sequence_length}.{windows}"
        )
    return int(sequence_length)
