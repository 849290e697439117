import math
from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.encoders.padding_removal import remove_padding, restore_padding


def _gelu_tanh(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


# Hugging Face's names. Its "gelu" is the exact one, with the error function; the others are Keras's own names.
ACTIVATIONS = {"gelu_new": _gelu_tanh, "gelu_fast": _gelu_tanh, "gelu_pytorch_tanh": _gelu_tanh}


def dense(units: int, config: BertConfig, name: str, dtype: Any, activation: Any = None) -> keras.layers.Dense:
    """A Dense layer that starts as BERT's do: truncated normal of `initializer_range`, bias zero."""
    # An initializer of its own for each layer: one instance draws the same values every time.
    start = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
    return keras.layers.Dense(units, activation=activation, kernel_initializer=start, dtype=dtype, name=name)


class SelfAttention(keras.layers.Layer):
    r"""Multi-head self-attention with its residual: \(\mathrm{LayerNorm}(x + W_O \, \mathrm{concat}_h(A_h V_h))\).

    \(A_h = \mathrm{softmax}(Q_h K_h^T / \sqrt{d_h})\) over the real tokens of the same row (Vaswani et al. 2017,
    section 3.2; post-normalisation as in Devlin et al. 2019).

    Call arguments:
        tokens: `[tokens, hidden]`.
        layout: of `padding_removal.token_layout`.

    Returns:
        `[tokens, hidden]` and, with `scores=True`, the softmax `[batch, heads, sequence, sequence]`, else None.
    """

    def __init__(self, config: BertConfig, hidden_dropout: float, attention_dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.num_heads = config.num_attention_heads
        self.head_size = config.hidden_size // config.num_attention_heads
        self.query = dense(config.hidden_size, config, "query", policy)
        self.key = dense(config.hidden_size, config, "key", policy)
        self.value = dense(config.hidden_size, config, "value", policy)
        self.attention_dropout = keras.layers.Dropout(attention_dropout, dtype=policy, name="attention_dropout")
        self.output_dense = dense(config.hidden_size, config, "output", policy)
        self.hidden_dropout = keras.layers.Dropout(hidden_dropout, dtype=policy, name="hidden_dropout")
        self.layer_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, dtype=policy, name="layer_norm"
        )

    def build(self, input_shape: Any) -> None:
        for layer in (self.query, self.key, self.value, self.output_dense, self.layer_norm):
            layer.build(input_shape)

    def call(self, tokens: Any, layout: dict[str, Any], training: bool = False, scores: bool = False) -> Any:
        query = self._heads(self.query(tokens) * (1 / math.sqrt(self.head_size)), layout)
        key = self._heads(self.key(tokens), layout)
        value = self._heads(self.value(tokens), layout)
        logits = tf.cast(tf.matmul(query, key, transpose_b=True), "float32")
        logits += tf.where(layout["mask"], 0.0, -1e9)[:, None, None, :]
        weights = tf.cast(tf.nn.softmax(logits), self.compute_dtype)
        context = tf.matmul(self.attention_dropout(weights, training=training), value)
        context = remove_padding(tf.transpose(context, [0, 2, 1, 3]), layout)
        context = tf.reshape(context, [-1, self.num_heads * self.head_size])
        output = self.hidden_dropout(self.output_dense(context), training=training)
        return self.layer_norm(output + tokens), weights if scores else None

    def _heads(self, tokens: Any, layout: dict[str, Any]) -> Any:
        """`[tokens, hidden]` -> `[batch, heads, sequence, head_size]`."""
        padded = restore_padding(tokens, layout)
        batch, sequence = tf.unstack(tf.shape(layout["mask"]))
        return tf.transpose(tf.reshape(padded, [batch, sequence, self.num_heads, self.head_size]), [0, 2, 1, 3])


class FeedForward(keras.layers.Layer):
    r"""The two dense layers of a block with their residual: \(\mathrm{LayerNorm}(x + W_2 \, f(W_1 x))\).

    Call arguments:
        tokens: `[tokens, hidden]`.

    Returns:
        `[tokens, hidden]`.
    """

    def __init__(self, config: BertConfig, hidden_dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        activation = ACTIVATIONS.get(config.hidden_act, config.hidden_act)
        self.intermediate = dense(config.intermediate_size, config, "intermediate", policy, activation)
        self.output_dense = dense(config.hidden_size, config, "output", policy)
        self.hidden_dropout = keras.layers.Dropout(hidden_dropout, dtype=policy, name="hidden_dropout")
        self.layer_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, dtype=policy, name="layer_norm"
        )

    def build(self, input_shape: Any) -> None:
        self.intermediate.build(input_shape)
        self.output_dense.build((None, self.intermediate.units))
        self.layer_norm.build(input_shape)

    def call(self, tokens: Any, training: bool = False) -> Any:
        output = self.output_dense(self.intermediate(tokens))
        return self.layer_norm(self.hidden_dropout(output, training=training) + tokens)


class TransformerBlock(keras.layers.Layer):
    """One encoder layer of BERT: self-attention, then feed-forward (Devlin et al. 2019; Vaswani et al. 2017).

    Args:
        config: the sizes, the activation and the epsilon.
        hidden_dropout: rate after each of the two parts.
        attention_dropout: rate on the attention's softmax.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Call arguments:
        tokens: float `[tokens, hidden]`, where tokens are the real ones of the batch, or all.
        layout: of `padding_removal.token_layout`: where these tokens stand in `[batch, sequence]`.
        training: bool, for dropout.
        scores: bool, whether the attention scores are wanted.

    Returns:
        `[tokens, hidden]`, and the scores `[batch, heads, sequence, sequence]` or None.
    """

    def __init__(self, config: BertConfig, hidden_dropout: float, attention_dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.hidden_size = config.hidden_size
        self.attention = SelfAttention(
            config, hidden_dropout, attention_dropout, dtype=self.dtype_policy, name="attention"
        )
        self.feed_forward = FeedForward(config, hidden_dropout, dtype=self.dtype_policy, name="feed_forward")

    def build(self, input_shape: Any) -> None:
        self.attention.build((None, self.hidden_size))
        self.feed_forward.build((None, self.hidden_size))

    def call(self, tokens: Any, layout: dict[str, Any], training: bool = False, scores: bool = False) -> Any:
        tokens, weights = self.attention(tokens, layout=layout, training=training, scores=scores)
        return self.feed_forward(tokens, training=training), weights
