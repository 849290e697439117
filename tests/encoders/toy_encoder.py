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
        self.image = keras.layers.Dense(16, name="image")
        self.set_layers(layers, combine, trainable, return_attention_scores)

    @property
    def pretrained_layers(self):
        return [self.image]

    def run(self, token_ids, mask, segment_ids, collect, scores, training):
        ids = tf.cast(token_ids + segment_ids, self.compute_dtype) / 32
        states = self.image(tf.repeat(ids[..., None], 16, axis=-1))
        for number in range(4):
            collect(number, [states * (number + 1)])
        everywhere = tf.cast(mask[:, None, None] & mask[:, None, :, None], self.compute_dtype)
        attention = dict.fromkeys(scores, tf.repeat(everywhere, self.num_heads, axis=1))
        last, pooled_output = [states * 4], states[:, 0]
        return EncoderStates(last, lambda parts: tf.where(mask[..., None], parts[0], 0), pooled_output, attention)

    def get_config(self):
        return {**super().get_config(), "pooler": self.has_pooler}
