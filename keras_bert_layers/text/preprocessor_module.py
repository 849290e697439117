from typing import Any, Protocol

import tensorflow as tf

from keras_bert_layers.text.tokenizer import Tokenizer
from keras_bert_layers.token_inputs import TFHUB_NAMES


class _Preprocessor(Protocol):
    tokenizer: Tokenizer

    def call(self, inputs: Any) -> dict[str, Any]: ...

    def pack_segments(
        self, segments: list[dict[str, tf.RaggedTensor]], sequence_length: int | tf.Tensor
    ) -> dict[str, tf.Tensor]: ...


class PreprocessorModule(tf.Module):
    """What `BertPreprocessor.export` saves: TF Hub's contract for text preprocessors.

    Args:
        preprocessor: the `BertPreprocessor`.
        pairs: whether it is called on pairs.
    """

    def __init__(self, preprocessor: _Preprocessor, pairs: bool):
        super().__init__()
        # Kept out of TensorFlow's tracking of attributes, or the Keras layer would be traced and saved once more.
        object.__setattr__(self, "_preprocessor", preprocessor)
        self.resource = preprocessor.tokenizer.resource
        self.tokenize = _Tokenize(preprocessor.tokenizer)
        texts = tf.TensorSpec([None], tf.string, "sentences")
        self.tokenize_with_offsets = tf.function(self._tokenize_with_offsets, input_signature=[texts], autograph=False)
        self.bert_pack_inputs = tf.function(self._pack, autograph=False)
        for ragged_rank in (1, 2):
            segment = tf.RaggedTensorSpec([None] * (ragged_rank + 1), tf.int32, ragged_rank)
            for count in (1, 2):
                self.bert_pack_inputs.get_concrete_function(
                    [segment] * count, seq_length=tf.TensorSpec([], tf.int32, "seq_length")
                )
        names = ["text_a", "text_b"] if pairs else ["text"]
        specs = {name: tf.TensorSpec([None], tf.string, name) for name in names}
        self.__call__ = tf.function(self._call, autograph=False)
        self.__call__.get_concrete_function(tuple(specs.values()) if pairs else texts)
        self.serve = tf.function(
            lambda **texts: self._call([texts[name] for name in names]), autograph=False
        ).get_concrete_function(**specs)

    def _call(self, inputs: tf.Tensor | tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        return self._preprocessor.call(inputs)

    def _tokenize_with_offsets(self, sentences: tf.Tensor) -> tuple[tf.RaggedTensor, ...]:
        tokenizer = self._preprocessor.tokenizer
        ids, starts, ends = tokenizer.tokenize_with_offsets(sentences)
        by_words = [by_word(tokenizer, ids, values) for values in (ids, starts, ends)]
        return (by_words[0], *(tf.cast(offsets, tf.int64) for offsets in by_words[1:]))

    def _pack(self, inputs: list[tf.RaggedTensor], seq_length: tf.Tensor) -> dict[str, tf.Tensor]:
        ids = [segment.merge_dims(1, 2) if segment.ragged_rank == 2 else segment for segment in inputs]
        zeros = [segment.with_values(tf.zeros_like(segment.values)) for segment in ids]
        segments = [
            {"ids": segment, "starts": zero, "ends": zero, "word_ids": self._preprocessor.tokenizer.word_ids(segment)}
            for segment, zero in zip(ids, zeros, strict=True)
        ]
        packed = self._preprocessor.pack_segments(segments, seq_length)
        return {name: packed[name] for name in TFHUB_NAMES}


class _Tokenize(tf.Module):
    """`tokenize`, which can be called and has a method."""

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        self._tokenizer = tokenizer
        self.__call__ = tf.function(
            self._call, input_signature=[tf.TensorSpec([None], tf.string, "sentences")], autograph=False
        )
        self.get_special_tokens_dict = tf.function(self._special_tokens, input_signature=[], autograph=False)

    def _call(self, sentences: tf.Tensor) -> tf.RaggedTensor:
        ids = self._tokenizer.tokenize(sentences)
        return by_word(self._tokenizer, ids, ids)

    def _special_tokens(self) -> dict[str, tf.Tensor]:
        tokenizer = self._tokenizer
        special_tokens = {
            "vocab_size": tokenizer.vocabulary_size,
            "start_of_sequence_id": tokenizer.cls_token_id,
            "end_of_segment_id": tokenizer.sep_token_id,
            "padding_id": tokenizer.pad_token_id,
        }
        if tokenizer.mask_token_id is not None:
            special_tokens["mask_id"] = tokenizer.mask_token_id
        return {name: tf.constant(value, tf.int32) for name, value in special_tokens.items()}


def by_word(tokenizer: Tokenizer, ids: tf.RaggedTensor, values: tf.RaggedTensor) -> tf.RaggedTensor:
    """Groups what belongs to word pieces by words: `[batch, (word pieces)]` -> `[batch, (words), (word pieces)]`."""
    word_ids = tokenizer.word_ids(ids)
    words = tf.reduce_max(tf.concat([word_ids, tf.fill([ids.nrows(), 1], -1)], axis=1), axis=1) + 1
    words_before = tf.cumsum(words, exclusive=True)
    word = word_ids.values + tf.gather(words_before, ids.value_rowids())
    pieces = tf.RaggedTensor.from_value_rowids(
        values.values, tf.cast(word, tf.int64), nrows=tf.cast(tf.reduce_sum(words), tf.int64)
    )
    return tf.RaggedTensor.from_row_lengths(pieces, tf.cast(words, tf.int64))
