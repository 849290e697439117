import math
from typing import Any

import keras
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
        `[rows, heads, length, length]`: from the token in the third axis to that in the fourth.
    """

    def __init__(self, config: BertConfig, **kwargs: Any):
        super().__init__(**kwargs)
        self.table_shape = (config.relative_attention_num_buckets, config.num_attention_heads)
        self.initializer_range = config.initializer_range

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.TruncatedNormal(stddev=self.initializer_range) if self.initializer_range else "zeros"
        self.embeddings = self.add_weight(name="embeddings", shape=self.table_shape, initializer=start)

    def call(self, columns: Any) -> Any:
        distance = columns[:, None, :] - columns[:, :, None]
        ranges = self.table_shape[0] // 2
        single = ranges // 2
        far = tf.abs(distance)
        growth = tf.math.log(tf.cast(tf.maximum(far, 1), "float32") / single) / math.log(_FARTHEST / single)
        grown = tf.minimum(single + tf.cast(growth * (ranges - single), "int32"), ranges - 1)
        bucket = tf.where(far < single, far, grown) + tf.where(distance > 0, ranges, 0)
        return tf.transpose(tf.gather(self.embeddings, bucket), [0, 3, 1, 2])
