"""One encoder layer of BERT: `TransformerBlock`, made of `SelfAttention` and `FeedForward`."""

import math
from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.encoders.attention_rows import PackedRows, PaddedRows
from keras_bert_layers.encoders.execution import fused_by_onednn
from keras_bert_layers.encoders.layer_normalization import LayerNormalization
from keras_bert_layers.encoders.lora import Dense


def _gelu(x: Any) -> Any:
    r"""The exact GELU, \(x \, \Phi(x)\) (Hendrycks & Gimpel 2016)."""
    if fused_by_onednn():
        # In the form that oneDNN fuses with the matmul before it.
        return keras.activations.gelu(x, approximate=False)
    # In as few operations as there are.
    return x * tf.math.erfc(x * -math.sqrt(0.5)) * 0.5


def _gelu_tanh(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


# Hugging Face's names. Its "gelu" is the exact one, with the error function; the others are Keras's own names.
ACTIVATIONS = {"gelu": _gelu, "gelu_new": _gelu_tanh, "gelu_fast": _gelu_tanh, "gelu_pytorch_tanh": _gelu_tanh}


def dense(units: int, config: BertConfig, name: str, dtype: Any, activation: Any = None) -> Dense:
    """A Dense layer that starts as BERT's do: truncated normal of `initializer_range`, bias zero."""
    return Dense(units, activation=activation, kernel_initializer=weight_initializer(config), dtype=dtype, name=name)


def weight_initializer(config: BertConfig) -> Any:
    """A new initializer: every weight needs its own, since a Keras initializer draws the same values every time."""
    # The range is 0 in `from_pretrained`, whose weights are overwritten.
    return keras.initializers.TruncatedNormal(stddev=config.initializer_range) if config.initializer_range else "zeros"


class SelfAttention(keras.layers.Layer):
    r"""Multi-head self-attention with its residual: \(\mathrm{LayerNorm}(x + W_O \, \mathrm{concat}_h(A_h V_h))\).

    \(A_h = \mathrm{softmax}(Q_h K_h^T / \sqrt{d_h})\) over the real tokens of the same row (Vaswani et al. 2017,
    section 3.2; post-normalisation as in Devlin et al. 2019).

    Call arguments:
        tokens: `[tokens, hidden]`.
        rows: the `PaddedRows` or `PackedRows` in which these tokens see each other.
        bias: float, added to the logits, broadcastable to `[rows, heads, length, length]`, or None.
        training: bool, for dropout.

    Returns:
        `[tokens, hidden]`, and the attention scores `[rows, heads, length, length]`: the softmax, before dropout.
    """

    def __init__(self, config: BertConfig, hidden_dropout: float, attention_dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.head_size = config.hidden_size // config.num_attention_heads
        self.query = dense(config.hidden_size, config, "query", policy)
        self.key = dense(config.hidden_size, config, "key", policy)
        self.value = dense(config.hidden_size, config, "value", policy)
        self.attention_dropout = keras.layers.Dropout(attention_dropout, dtype=policy, name="attention_dropout")
        self.output_dense = dense(config.hidden_size, config, "output", policy)
        self.hidden_dropout = keras.layers.Dropout(hidden_dropout, dtype=policy, name="hidden_dropout")
        self.layer_norm = LayerNormalization(epsilon=config.layer_norm_eps, dtype=policy, name="layer_norm")

    def build(self, input_shape: Any) -> None:
        for layer in (self.query, self.key, self.value, self.output_dense, self.layer_norm):
            layer.build(input_shape)

    def call(
        self, tokens: Any, rows: PaddedRows | PackedRows, bias: Any = None, training: bool = False
    ) -> tuple[Any, Any]:
        query, key, value = (rows.split(projection(tokens)) for projection in (self.query, self.key, self.value))
        logits = tf.matmul(query, key, transpose_b=True) * (1 / math.sqrt(self.head_size))
        if bias is not None:
            logits += bias
        # In float32, for -1e9 would overflow float16.
        scores = tf.nn.softmax(tf.cast(logits, "float32") + tf.where(rows.visible, 0.0, -1e9))
        scores = tf.cast(scores, self.compute_dtype)
        context = rows.join(tf.matmul(self.attention_dropout(scores, training=training), value))
        output = self.hidden_dropout(self.output_dense(context), training=training)
        return self.layer_norm(output + tokens, training=training), scores


class FeedForward(keras.layers.Layer):
    r"""The two dense layers of a block with their residual: \(\mathrm{LayerNorm}(x + W_2 \, f(W_1 x))\).

    Call arguments:
        tokens: `[tokens, hidden]`.
        training: bool, for dropout.

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
        self.layer_norm = LayerNormalization(epsilon=config.layer_norm_eps, dtype=policy, name="layer_norm")

    def build(self, input_shape: Any) -> None:
        self.intermediate.build(input_shape)
        self.output_dense.build((None, self.intermediate.units))
        self.layer_norm.build(input_shape)

    def call(self, tokens: Any, training: bool = False) -> Any:
        output = self.hidden_dropout(self.output_dense(self.intermediate(tokens)), training=training)
        return self.layer_norm(output + tokens, training=training)


class TransformerBlock(keras.layers.Layer):
    """One encoder layer of BERT: self-attention, then feed-forward (Devlin et al. 2019; Vaswani et al. 2017).

    Args:
        config: the sizes, the activation and the epsilon.
        hidden_dropout: rate after each of the two parts.
        attention_dropout: rate on the attention's softmax.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Call arguments:
        tokens: float `[tokens, hidden]`, where tokens are the real ones of the batch, or all.
        rows: the `PaddedRows` or `PackedRows` in which these tokens see each other.
        bias: as in `SelfAttention`.
        training: bool, for dropout.

    Returns:
        `[tokens, hidden]`, and the attention scores `[rows, heads, length, length]`.
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

    def call(
        self, tokens: Any, rows: PaddedRows | PackedRows, bias: Any = None, training: bool = False
    ) -> tuple[Any, Any]:
        tokens, scores = self.attention(tokens, rows=rows, bias=bias, training=training)
        return self.feed_forward(tokens, training=training), scores
