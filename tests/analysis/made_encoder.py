"""An encoder whose states are known: each layer looks them up in a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_layers.encoders.layerwise_encoder import EncoderStates, LayerwiseEncoder
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor


class MadeEncoder(LayerwiseEncoder):
    """The state of a token in layer k is `tables[k, id] + places[k, place]`.

    Its attention scores are the softmax of `logits[k, head, id, other id]` over the text. It counts the texts that it
    runs on.

    Args:
        tables: `[layers + 1, vocabulary, hidden]`.
        places: `[layers + 1, positions, hidden]`, or None for zeros.
    """

    has_pooler = False

    def __init__(self, tables: np.ndarray, places: np.ndarray | None = None, num_heads: int = 2, **arguments: Any):
        super().__init__()
        random = np.random.default_rng(5)
        self.tables = tables.astype("float32")
        self.places = (np.zeros((len(tables), 64, tables.shape[2])) if places is None else places).astype("float32")
        self.logits = random.normal(size=(len(tables), num_heads, tables.shape[1], tables.shape[1])).astype("float32")
        self.num_layers, self.hidden_size, self.num_heads = len(tables) - 1, tables.shape[2], num_heads
        self.texts_seen = tf.Variable(0, trainable=False)
        self.finish_init(arguments.get("layers", "all"), arguments.get("combine"), True, False)

    @property
    def pretrained_layers(self) -> list:
        return []

    def run(self, token_ids, mask, segment_ids, collector, training) -> EncoderStates:
        self.texts_seen.assign_add(tf.shape(token_ids)[0])
        length = tf.shape(token_ids)[1]
        states = {
            layer: tf.gather(table, token_ids) + tf.constant(places)[:length]
            for layer, (table, places) in enumerate(zip(self.tables, self.places, strict=True))
        }
        attention = {}
        scores = collector.keep_scores
        if scores:
            batch, heads = tf.shape(token_ids)[0], tf.range(self.num_heads)
            shape = tf.stack([batch, self.num_heads, length, length])
            indices = [
                tf.broadcast_to(heads[None, :, None, None], shape),
                tf.broadcast_to(token_ids[:, None, :, None], shape),
                tf.broadcast_to(token_ids[:, None, None, :], shape),
            ]
            for layer in scores:
                logits = tf.gather_nd(self.logits[layer], tf.stack(indices, axis=-1))
                attention[layer] = tf.nn.softmax(tf.where(mask[:, None, None, :], logits, -1e9))
        collection = collector.start()
        for layer, state in states.items():
            collection.take(layer, tf.where(mask[..., None], state, 0), attention.get(layer))
        return EncoderStates(*collection.result(), pooled_output=None)


class Reference:
    """What a `MadeEncoder` gives for each text by itself, in NumPy."""

    def __init__(self, encoder: MadeEncoder, preprocessor: BertPreprocessor, texts: Any):
        ids = preprocessor(texts)
        rows = zip(ids["input_word_ids"].numpy(), ids["input_mask"].numpy(), strict=True)
        self.ids = [row[mask == 1] for row, mask in rows]
        tables, places = encoder.tables.astype("float64"), encoder.places.astype("float64")
        # For each text [layers + 1, tokens, hidden].
        self.states = [tables[:, ids] + places[:, : len(ids)] for ids in self.ids]
        # For each text [layers + 1, heads, tokens, tokens].
        self.scores = []
        for ids in self.ids:
            weights = np.exp(encoder.logits.astype("float64")[:, :, ids][..., ids])
            self.scores.append(weights / weights.sum(-1, keepdims=True))

    def tokens(self, layer: int) -> np.ndarray:
        return np.concatenate([states[layer] for states in self.states])

    def means(self, layer: int) -> np.ndarray:
        return np.stack([states[layer].mean(0) for states in self.states])
