from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_layers.checkpoints.bert_config import BertConfig

# From this distance on all are alike.
_FARTHEST = 128


class RelativePositionEmbeddings(keras.layers.Layer):
    """A bias for every head by the distance between two tokens, in ranges that grow with it (Raffel et al. 2020).

    Half of the ranges are for what stands before a token and half for what follows; of each half, half are for one
    distance each, and the others grow up to 128.

    Args:
        config: the number of ranges and of heads.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Call arguments:
        columns: int32 `[rows, length]`, where the tokens of a row of attention stand in their own text.

    Returns:
        `[rows, heads, length, length]`: of the token in the third axis, looking at that in the fourth.
    """

    def __init__(self, config: BertConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_ranges: int = config.relative_attention_num_buckets or 0
        self.num_heads = config.num_attention_heads
        self.initializer_range = config.initializer_range
        distances = np.arange(_FARTHEST + 1)
        single = self.num_ranges // 4
        growth = np.log(np.maximum(distances, 1) / single) / np.log(_FARTHEST / single)
        grown = np.minimum(single + (growth * single).astype("int32"), 2 * single - 1)
        self.range_of_distance = np.where(distances < single, distances, grown).astype("int32")

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.TruncatedNormal(stddev=self.initializer_range) if self.initializer_range else "zeros"
        self.embeddings = self.add_weight(name="embeddings", shape=(self.num_ranges, self.num_heads), initializer=start)

    def call(self, columns: Any) -> Any:
        distances = columns[:, None, :] - columns[:, :, None]
        ranges = tf.gather(self.range_of_distance, tf.minimum(tf.abs(distances), _FARTHEST))
        ranges += tf.where(distances > 0, self.num_ranges // 2, 0)
        return tf.transpose(tf.gather(self.embeddings, ranges), [0, 3, 1, 2])
