import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_bert_layers.encoders.layer_collector import LayerCollector
from keras_bert_layers.encoders.layerwise_encoder import LayerwiseEncoder
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.layers.sequence_pooling import SequencePooling
from keras_bert_layers.layers.word_pooling import WordPooling
from keras_bert_layers.token_inputs import TFHUB_NAMES


class Wanted(NamedTuple):
    """What is taken from an encoder's run.

    Attributes:
        tokens: the states of all real tokens.
        pooling: makes one vector of each text; None for none.
        words: the mean of the pieces of each word.
        scores: the attention scores.
        combinations: further "layers": pairs of a `LayerCombination` and the layers that it combines.
    """

    tokens: bool = False
    pooling: SequencePooling | None = None
    words: bool = False
    scores: bool = False
    combinations: Sequence[tuple[LayerCombination, list[int]]] = ()


class States(NamedTuple):
    """What an encoder gave for a batch: a float32 array for each layer, and after them for each combination.

    Attributes:
        tokens: `[tokens, hidden]`, the real tokens of all texts one after the other.
        vectors: `[batch, hidden]`, the pooled texts.
        words: `[words, hidden]`, the words of all texts one after the other.
        scores: `[batch, heads, sequence, sequence]` for each layer but the embeddings.
    """

    tokens: list[np.ndarray]
    vectors: list[np.ndarray]
    words: list[np.ndarray]
    scores: list[np.ndarray]


class EncoderRun:
    """An encoder's run as one graph for all shapes, from ids to `States`.

    Args:
        encoder: a `LayerwiseEncoder`.
        layers: numbers of layers.
        wanted: what is taken of each.

    Call arguments:
        ids: int32 `[batch, sequence]` each: TF Hub's three, `special_tokens_mask` and `word_ids`.
    """

    def __init__(self, encoder: LayerwiseEncoder, layers: Sequence[int], wanted: Wanted):
        self.encoder = encoder
        self.layers = layers
        self.wanted = wanted
        self._word_pooling = WordPooling("mean", dtype="float32")

    @functools.cached_property
    def _graph(self) -> Any:
        names = (*TFHUB_NAMES, "special_tokens_mask", "word_ids")
        specs = {name: tf.TensorSpec((None, None), tf.int32, name) for name in names}
        return tf.function(self._outputs).get_concrete_function(specs)

    def __call__(self, ids: dict[str, tf.Tensor]) -> States:
        # Inside the graph the length is open, so the encoder cannot refuse one that it has no positions for.
        self.encoder._check_sequence_length(ids["input_mask"].shape[1])
        return States(**tf.nest.map_structure(lambda value: value.numpy(), self._graph(ids)))

    def _outputs(self, ids: dict[str, tf.Tensor]) -> dict[str, list[tf.Tensor]]:
        mask = tf.cast(ids["input_mask"], "bool")
        states, scores = self._run(ids, mask)
        return {
            "tokens": [tf.boolean_mask(state, mask) for state in states] if self.wanted.tokens else [],
            "vectors": [self._pool(state, mask, ids) for state in states] if self.wanted.pooling is not None else [],
            "words": [self._pool_words(state, ids) for state in states] if self.wanted.words else [],
            "scores": scores,
        }

    def _run(self, ids: dict[str, tf.Tensor], mask: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        with_scores = [layer for layer in self.layers if layer > 0] if self.wanted.scores else []
        collector = LayerCollector(self.encoder.num_layers, self.layers, self.wanted.combinations, with_scores)
        given = self.encoder.run(ids["input_word_ids"], mask, ids["input_type_ids"], collector, training=False)
        states = [*(given.states[layer] for layer in self.layers), *given.combined]
        scores = [tf.cast(collector.attention_scores[layer], "float32") for layer in with_scores]
        return [tf.cast(state, "float32") for state in states], scores

    def _pool(self, state: tf.Tensor, mask: tf.Tensor, ids: dict[str, tf.Tensor]) -> tf.Tensor:
        pooling: Any = self.wanted.pooling
        excluded = ids["special_tokens_mask"] if pooling.exclude_special_tokens else None
        return tf.cast(pooling(state, mask=mask, special_tokens_mask=excluded), "float32")

    def _pool_words(self, state: tf.Tensor, ids: dict[str, tf.Tensor]) -> tf.Tensor:
        words = self._word_pooling(state, ids["word_ids"])
        return tf.boolean_mask(words["word_outputs"], words["word_mask"])
