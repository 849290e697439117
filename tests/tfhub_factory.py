"""SavedModels that keep the contracts of TF Hub's text encoders and preprocessors, made without Keras."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text


class _Encoder(tf.Module):
    # Lists that are saved under these names, as the contract wants, in place of tf.Module's properties.
    variables = trainable_variables = None

    def __init__(
        self,
        vocab_file: str,
        vocabulary_size: int,
        lowercase: bool,
        num_layers: int,
        hidden_size: int,
        num_heads: int,
        max_positions: int,
        dropout: float,
        encoder_outputs: bool,
        pooler: bool,
        training: bool,
    ):
        super().__init__()
        self.vocab_file = tf.saved_model.Asset(vocab_file)
        self.do_lower_case = tf.Variable(lowercase, trainable=False, name="do_lower_case")
        self._num_heads, self._dropout = num_heads, dropout
        self._gives_encoder_outputs, self._gives_pooled = encoder_outputs, pooler
        self._random, self._weights = np.random.default_rng(0), []
        self._embeddings = [
            self._weight(f"{name}/embeddings", rows, hidden_size, scale=1.0)
            for name, rows in (
                ("word_embeddings", vocabulary_size),
                ("position_embedding", max_positions),
                ("type_embeddings", 2),
            )
        ]
        self._embeddings_norm = self._layer_norm("embeddings/layer_norm", hidden_size)
        self._layers = []
        for number in range(num_layers):
            prefix = f"transformer/layer_{number}"
            layer = {
                part: self._dense(f"{prefix}/{part}", inputs, outputs)
                for part, inputs, outputs in (
                    ("query", hidden_size, hidden_size),
                    ("key", hidden_size, hidden_size),
                    ("value", hidden_size, hidden_size),
                    ("attention_output", hidden_size, hidden_size),
                    ("intermediate", hidden_size, 2 * hidden_size),
                    ("output", 2 * hidden_size, hidden_size),
                )
            }
            layer["attention_norm"] = self._layer_norm(f"{prefix}/self_attention_layer_norm", hidden_size)
            layer["output_norm"] = self._layer_norm(f"{prefix}/output_layer_norm", hidden_size)
            self._layers.append(layer)
        # A hub encoder keeps its pooler's weights whether or not anything uses them.
        self._pooler = self._dense("pooler_transform", hidden_size, hidden_size)
        self.trainable_variables = list(self._weights)
        self.variables = [*self._weights, self.do_lower_case]
        ids = {
            name: tf.TensorSpec((None, None), tf.int32, name)
            for name in ("input_word_ids", "input_mask", "input_type_ids")
        }
        if training:
            self.__call__ = tf.function(self._run)
            for mode in (True, False):
                self.__call__.get_concrete_function(ids, training=mode, mask=None)
        else:
            self.__call__ = tf.function(lambda inputs: self._run(inputs))
            self.__call__.get_concrete_function(ids)

    def _weight(self, name: str, *shape: int, scale: float = 0.2, mean: float = 0.0) -> tf.Variable:
        value = self._random.normal(mean, scale, shape).astype("float32")
        self._weights.append(tf.Variable(value, name=name))
        return self._weights[-1]

    def _dense(self, name: str, inputs: int, outputs: int) -> list[tf.Variable]:
        return [self._weight(f"{name}/kernel", inputs, outputs), self._weight(f"{name}/bias", outputs)]

    def _layer_norm(self, name: str, size: int) -> list[tf.Variable]:
        return [self._weight(f"{name}/gamma", size, mean=1.0), self._weight(f"{name}/beta", size)]

    def _run(self, inputs, training=False, mask=None):
        word_ids = inputs["input_word_ids"]
        batch, sequence = tf.unstack(tf.shape(word_ids))
        words, positions, types = self._embeddings
        state = tf.gather(words, word_ids) + tf.gather(types, inputs["input_type_ids"]) + positions[:sequence]
        state = self._drop(_normalize(state, *self._embeddings_norm), training)
        padding = -1e9 * (1.0 - tf.cast(inputs["input_mask"], tf.float32))[:, None, None, :]
        outputs = []
        for layer in self._layers:
            query, key, value = (
                tf.transpose(
                    tf.reshape(_dense(state, *layer[part]), [batch, sequence, self._num_heads, -1]), [0, 2, 1, 3]
                )
                for part in ("query", "key", "value")
            )
            scores = tf.matmul(query, key, transpose_b=True) / tf.sqrt(tf.cast(tf.shape(query)[-1], tf.float32))
            context = tf.matmul(tf.nn.softmax(scores + padding), value)
            context = tf.reshape(tf.transpose(context, [0, 2, 1, 3]), tf.shape(state))
            context = self._drop(_dense(context, *layer["attention_output"]), training)
            state = _normalize(state + context, *layer["attention_norm"])
            inner = tf.nn.gelu(_dense(state, *layer["intermediate"]))
            state = _normalize(state + self._drop(_dense(inner, *layer["output"]), training), *layer["output_norm"])
            outputs.append(state)
        result = {"sequence_output": state}
        if self._gives_encoder_outputs:
            result["encoder_outputs"] = outputs
        if self._gives_pooled:
            # No einsum with an ellipsis: in TensorFlow 2.17 and 2.19 that of a matrix is wrong from row 16 on.
            kernel, bias = self._pooler
            result["pooled_output"] = result["default"] = tf.tanh(tf.matmul(state[:, 0], kernel) + bias)
        return result

    def _drop(self, state: tf.Tensor, training: bool) -> tf.Tensor:
        return tf.nn.dropout(state, self._dropout) if training and self._dropout else state


def _dense(state: tf.Tensor, kernel: tf.Variable, bias: tf.Variable) -> tf.Tensor:
    return tf.einsum("...i,io->...o", state, kernel) + bias


def _normalize(state: tf.Tensor, gamma: tf.Variable, beta: tf.Variable) -> tf.Tensor:
    mean, variance = tf.nn.moments(state, [-1], keepdims=True)
    return (state - mean) * tf.math.rsqrt(variance + 1e-12) * gamma + beta


def make_tfhub_encoder(
    directory: str | os.PathLike[str],
    vocabulary: Sequence[str] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"),
    *,
    lowercase: bool = True,
    num_layers: int = 3,
    hidden_size: int = 16,
    num_heads: int = 2,
    max_positions: int = 128,
    dropout: float = 0.1,
    encoder_outputs: bool = True,
    pooler: bool = True,
    training: bool = True,
) -> pathlib.Path:
    """Writes a BERT-like encoder with random weights.

    Called on a dict of `input_word_ids`, `input_mask`, `input_type_ids` it returns `encoder_outputs`,
    `sequence_output`, `pooled_output` and `default`; it has `variables`, `trainable_variables`, the asset `vocab_file`
    and the variable `do_lower_case`. `directory` need not exist; the vocabulary's original is not left behind.

    Args:
        encoder_outputs, pooler: whether `encoder_outputs`, and `pooled_output` with `default`, are among the outputs.
        training: whether the call takes `training`.

    Returns:
        The directory, as a path.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    vocab_file = _write_vocabulary(directory, vocabulary)
    module = _Encoder(
        str(vocab_file),
        len(vocabulary),
        lowercase,
        num_layers,
        hidden_size,
        num_heads,
        max_positions,
        dropout,
        encoder_outputs,
        pooler,
        training,
    )
    tf.saved_model.save(module, str(directory))
    vocab_file.unlink()
    return directory


class _Preprocessor(tf.Module):
    def __init__(self, vocab_file: str, vocabulary: Sequence[str], lowercase: bool, sequence_length: int):
        super().__init__()
        self._tokenizer = tf_text.BertTokenizer(vocab_file, lower_case=lowercase, token_out_type=tf.int32)
        self._cls, self._sep = vocabulary.index("[CLS]"), vocabulary.index("[SEP]")
        self._sequence_length = sequence_length
        texts = tf.TensorSpec([None], tf.string, "sentences")
        self.tokenize = tf.function(self._tokenizer.tokenize, input_signature=[texts])
        self.bert_pack_inputs = tf.function(self._pack)
        for ragged_rank in (1, 2):
            segment = tf.RaggedTensorSpec([None] * (ragged_rank + 1), tf.int32, ragged_rank)
            for count in (1, 2):
                self.bert_pack_inputs.get_concrete_function([segment] * count, tf.TensorSpec([], tf.int32))
        self.__call__ = tf.function(self._preprocess, input_signature=[texts])

    def _preprocess(self, sentences):
        outputs = self._pack([self._tokenizer.tokenize(sentences)], self._sequence_length)
        return {name: tf.ensure_shape(ids, [None, self._sequence_length]) for name, ids in outputs.items()}

    def _pack(self, segments, seq_length):
        segments = [ids.merge_dims(1, -1) if ids.ragged_rank > 1 else ids for ids in segments]
        trimmer = tf_text.RoundRobinTrimmer(seq_length - 1 - len(segments))
        ids, types = tf_text.combine_segments(trimmer.trim(segments), self._cls, self._sep)
        ids, mask = tf_text.pad_model_inputs(ids, seq_length)
        types, _ = tf_text.pad_model_inputs(types, seq_length)
        return {"input_word_ids": ids, "input_mask": mask, "input_type_ids": types}


def make_tfhub_preprocessor(
    directory: str | os.PathLike[str],
    vocabulary: Sequence[str],
    *,
    lowercase: bool = True,
    sequence_length: int = 32,
) -> pathlib.Path:
    """Writes a BERT preprocessor.

    It has `tokenize` (strings -> ragged ids), `bert_pack_inputs` (a list of one or two segments and `seq_length` ->
    the encoder's dict) and a call that does both, at `sequence_length`. The vocabulary is an asset. `directory` need
    not exist.

    Returns:
        The directory, as a path.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    vocab_file = _write_vocabulary(directory, vocabulary)
    tf.saved_model.save(_Preprocessor(str(vocab_file), list(vocabulary), lowercase, sequence_length), str(directory))
    vocab_file.unlink()
    return directory


def _write_vocabulary(directory: pathlib.Path, vocabulary: Sequence[str]) -> pathlib.Path:
    path = directory / "vocab.txt"
    path.write_text("".join(f"{token}\n" for token in vocabulary), encoding="utf-8")
    return path
