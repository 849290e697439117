"""An encoder that costs nothing, for what the contract says whatever an encoder runs."""

import keras
import tensorflow as tf

from keras_bert_layers.encoders.layerwise_encoder import EncoderStates, LayerwiseEncoder


class ToyEncoder(LayerwiseEncoder):
    """Layers 0 to 3 of 16; the states of layer k are k + 1 times a learned image of the ids."""

    num_layers, hidden_size, num_heads = 3, 16, 2

    def __init__(
        self, layers="all", combine=None, pooler=True, trainable=True, return_attention_scores=False, **kwargs
    ):
        super().__init__(**kwargs)
        self.has_pooler = pooler
        self.image = keras.layers.Dense(16, dtype=self.dtype_policy, name="image")
        self.finish_init(layers, combine, trainable, return_attention_scores)

    @property
    def pretrained_layers(self):
        return [self.image]

    def run(self, token_ids, mask, segment_ids, collector, training):
        ids = tf.cast(token_ids + segment_ids, self.compute_dtype) / 32
        states = tf.where(mask[..., None], self.image(tf.repeat(ids[..., None], 16, axis=-1)), 0)
        attends = tf.cast(mask[:, None, :, None] & mask[:, None, None], self.compute_dtype)
        collected = collector.start()
        for number in range(self.num_layers + 1):
            collected.take(number, states * (number + 1), tf.repeat(attends, self.num_heads, axis=1))
        return EncoderStates(*collected.result(), pooled_output=states[:, 0])

    def get_config(self):
        return {**super().get_config(), "pooler": self.has_pooler}
