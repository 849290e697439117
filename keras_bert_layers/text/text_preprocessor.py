import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.keras_compatibility import called_on_placeholders, check_saved_dtype, refuse_legacy_tensors
from keras_bert_layers.text.packing import check_room
from keras_bert_layers.text.texts import plain_texts
from keras_bert_layers.token_inputs import TFHUB_NAMES

TYPES_OF_CHECKPOINTS = 2


class TextPreprocessor(keras.layers.Layer):
    """What the preprocessors share: they take texts in any form and stay on the host, outside XLA.

    A subclass says which ids the segments get (`call`), and whether it takes texts that are split into words.

    Args:
        sequence_length: the longest row, at least 3.
        export_inputs: what an export takes: `"text"`, `"pair"` or `"words"`. A call takes all of them.
        **kwargs: `name` of `keras.layers.Layer`.
    """

    takes_words = False
    # How many [SEP] stand between two segments. Where there are two, all segments have the type 0.
    separators = 1

    def __init__(self, *, sequence_length: int, export_inputs: str, **kwargs: Any):
        super().__init__(**kwargs)
        # String operations have no XLA kernels.
        self.supports_jit = False
        self.sequence_length = check_sequence_length(sequence_length)
        forms = ("text", "pair", "words") if self.takes_words else ("text", "pair")
        if export_inputs not in forms:
            raise ValueError(
                f"Expected `export_inputs` to be one of {', '.join(forms)}. Received: export_inputs={export_inputs!r}."
            )
        self.export_inputs = export_inputs

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_legacy_tensors(self, inputs)
        segments = self._segments(inputs)
        texts = segments if isinstance(segments, tuple) else (segments,)
        check_room(len(texts), self.sequence_length, self.separators)
        if len(texts) > TYPES_OF_CHECKPOINTS and self.separators == 1:
            warnings.warn(
                f"{len(texts)} segments get the type ids 0 to {len(texts) - 1}. BERT's checkpoints have "
                f"{TYPES_OF_CHECKPOINTS} types and fail on others: join texts, or lower the ids before the encoder, "
                "ids['input_type_ids'] = keras.ops.minimum(ids['input_type_ids'], 1).",
                stacklevel=2,
            )
        return super().__call__(segments, *args, **kwargs)

    def _segments(self, inputs: Any) -> Any:
        """Texts in any form -> a string tensor, or a tuple of them, one for each segment."""
        is_tuple = isinstance(inputs, tuple) or (
            isinstance(inputs, list) and bool(inputs) and all(_is_tensor(value) for value in inputs)
        )
        if not is_tuple:
            return self._texts(inputs)
        segments = tuple(self._texts(value, f"inputs[{number}]") for number, value in enumerate(inputs))
        batches = [segment.shape[0] for segment in segments]
        if not segments or len(set(batches) - {None}) > 1:
            raise ValueError(
                f"{type(self).__name__} expects a tuple to hold the segments of texts, as many second texts as first "
                f"ones. Received: a tuple with {' and '.join(map(str, batches)) or 'no'} texts. "
                "A batch of texts is a list of str."
            )
        return segments if len(segments) > 1 else segments[0]

    def _texts(self, texts: Any, name: str = "inputs") -> Any:
        owner = type(self).__name__
        texts = plain_texts(texts, name, owner)
        if isinstance(texts, (list, np.ndarray)):
            texts = self._tensor(texts, name)
        if not _is_tensor(texts) or _is_sparse(texts):
            dense = ""
            if _is_sparse(texts):
                is_symbolic = isinstance(texts, KerasTensor)
                dense = (
                    " Leave out sparse=True."
                    if is_symbolic
                    else " Make it dense: tf.sparse.to_dense(texts, default_value='')."
                )
            raise TypeError(
                f"{owner} expects a str, a list of str, an array, a column of pandas or a tensor of strings, or a "
                f"tuple of two of them for pairs. Received: {name} of type {type(texts).__name__}.{dense}"
            )
        if keras.backend.standardize_dtype(texts.dtype) != "string" and called_on_placeholders():
            texts = tf.strings.as_string(texts)
        if keras.backend.standardize_dtype(texts.dtype) != "string":
            raise TypeError(
                f"{owner} expects strings. Received: {name}.dtype={texts.dtype}. "
                "In a functional model: keras.Input(shape=(), dtype='string')."
            )
        if len(texts.shape) not in ((1, 2) if self.takes_words else (1,)):
            words = " or of words [batch, words]" if self.takes_words else ""
            raise ValueError(
                f"{owner} expects a batch of texts [batch]{words}. "
                f"Received: {name}.shape={tuple(texts.shape)}. "
                "Use keras.Input(shape=(), dtype='string') in a model, and dataset.batch(...) before dataset.map(...)."
            )
        return texts

    def _tensor(self, texts: list | np.ndarray, name: str) -> tf.Tensor | tf.RaggedTensor:
        owner, split = type(self).__name__, "texts that are split into words as a list of lists"
        if isinstance(texts, np.ndarray):
            return tf.constant(texts.astype(object), dtype="string")
        kinds = [type(text) if isinstance(text, (list, tuple)) else str for text in texts]
        if tuple in kinds:
            words = f", and {split}" if self.takes_words else ""
            raise ValueError(
                f"{owner} expects pairs as a tuple of two lists, ([first texts], [second texts]){words}. "
                f"Received: the tuple {name}[{kinds.index(tuple)}] in a list. "
                "To turn pairs into columns: tuple(map(list, zip(*pairs)))."
            )
        if list not in kinds:
            return tf.constant(np.asarray(texts, dtype=object), dtype="string")
        if str in kinds or not self.takes_words:
            raise ValueError(
                f"{owner} expects texts as a list of str{f', or {split}' if self.takes_words else ''}. Received: the "
                f"list {name}[{kinds.index(list)}]{f' and the str {name}[{kinds.index(str)}]' if str in kinds else ''}."
            )
        for number, words in enumerate(texts):
            if any(isinstance(word, (list, tuple, np.ndarray)) for word in words):
                raise ValueError(
                    f"{owner} expects {split} of str. Received: {name}[{number}] with a list of its own in it."
                )
        return tf.ragged.constant(texts, dtype="string", ragged_rank=1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "sequence_length": self.sequence_length,
            "export_inputs": self.export_inputs,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TextPreprocessor":
        check_saved_dtype(cls.__name__, config)
        return super().from_config(config)

    def compute_output_spec(self, inputs: Any) -> dict[str, KerasTensor]:
        batch = keras.tree.flatten(inputs)[0].shape[0]
        return {name: KerasTensor((batch, self.sequence_length), "int32") for name in TFHUB_NAMES}


def _is_tensor(value: Any) -> bool:
    return isinstance(value, KerasTensor) or tf.is_tensor(value)


def _is_sparse(value: Any) -> bool:
    return isinstance(value, tf.SparseTensor) or getattr(value, "sparse", False)


def check_sequence_length(sequence_length: Any, limit: int | None = None, name: str = "sequence_length") -> int:
    """Checks that a sequence can hold [CLS], a word piece and [SEP], and is no longer than the model's limit."""
    upper = "" if limit is None else f" to {limit}, the number of positions of the checkpoint"
    if isinstance(sequence_length, bool) or not isinstance(sequence_length, (int, np.integer)):
        raise TypeError(f"Expected `{name}` to be an int from 3{upper}. Received: {name}={sequence_length!r}.")
    if sequence_length < 3 or (limit is not None and sequence_length > limit):
        too_long = sequence_length >= 3
        windows = " For longer documents: long_documents=True and a WindowedEncoder." if too_long else ""
        raise ValueError(
            f"Expected `{name}` to be at least 3, for [CLS], a word piece and [SEP]{upper and ', and at most'}"
            f"{upper.removeprefix(' to')}. Received: {name}={sequence_length}.{windows}"
        )
    return int(sequence_length)
