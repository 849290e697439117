import math
from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.encoders.dropout import Dropout
from keras_bert_layers.encoders.layer_normalization import LayerNormalization
from keras_bert_layers.encoders.lora import Dense
from keras_bert_layers.encoders.padding_removal import join_heads, run_with_onednn, split_heads


def _gelu(x: Any) -> Any:
    r"""The exact GELU, \(x \, \Phi(x)\) (Hendrycks & Gimpel 2016)."""
    if run_with_onednn():
        # In the form that is fused with the matmul before it.
        return keras.activations.gelu(x, approximate=False)
    return x * tf.math.erfc(x * -math.sqrt(0.5)) * 0.5


def _gelu_tanh(x: Any) -> Any:
    return keras.activations.gelu(x, approximate=True)


# Hugging Face's names. Its "gelu" is the exact one, with the error function; the others are Keras's own names.
ACTIVATIONS = {"gelu": _gelu, "gelu_new": _gelu_tanh, "gelu_fast": _gelu_tanh, "gelu_pytorch_tanh": _gelu_tanh}


def dense(units: int, config: BertConfig, name: str, dtype: Any, activation: Any = None) -> Dense:
    """A Dense layer that starts as BERT's do: truncated normal of `initializer_range`, bias zero."""
    return Dense(units, activation=activation, kernel_initializer=random_start(config), dtype=dtype, name=name)


def random_start(config: BertConfig) -> Any:
    """What a layer's weights start with; an initializer of its own for each: one draws the same values every time."""
    # Those that a checkpoint overwrites are not drawn, which takes a second for BERT-base.
    return keras.initializers.TruncatedNormal(stddev=config.initializer_range) if config.initializer_range else "zeros"


class SelfAttention(keras.layers.Layer):
    r"""Multi-head self-attention with its residual: \(\mathrm{LayerNorm}(x + W_O \, \mathrm{concat}_h(A_h V_h))\).

    \(A_h = \mathrm{softmax}(Q_h K_h^T / \sqrt{d_h})\) over the real tokens of the same row (Vaswani et al. 2017,
    section 3.2; post-normalisation as in Devlin et al. 2019).

    Call arguments:
        tokens: `[tokens, hidden]`.
        layout: of `padding_removal.attention_layout`.
        seeds: for the dropout of the scores and of the output; None draws them.

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
        self.attention_dropout = Dropout(attention_dropout, dtype=policy, name="attention_dropout")
        self.output_dense = dense(config.hidden_size, config, "output", policy)
        self.hidden_dropout = Dropout(hidden_dropout, dtype=policy, name="hidden_dropout")
        self.layer_norm = LayerNormalization(epsilon=config.layer_norm_eps, dtype=policy, name="layer_norm")

    def build(self, input_shape: Any) -> None:
        for layer in (self.query, self.key, self.value, self.output_dense, self.layer_norm):
            layer.build(input_shape)

    def call(
        self,
        tokens: Any,
        layout: dict[str, Any],
        seeds: Any = (None, None),
        training: bool = False,
        scores: bool = False,
    ) -> Any:
        query, key, value = (
            split_heads(projection(tokens), layout, self.num_heads) for projection in (self.query, self.key, self.value)
        )
        logits = tf.matmul(query, key, transpose_b=True) * (1 / math.sqrt(self.head_size))
        # The layout holds booleans, for Keras would cast numbers to 16 bit at each sublayer.
        logits = tf.cast(logits, "float32") + tf.where(layout["visible"], 0.0, -1e9)
        weights = tf.cast(tf.nn.softmax(logits), self.compute_dtype)
        context = tf.matmul(self.attention_dropout(weights, seed=seeds[0], training=training), value)
        context = tf.reshape(join_heads(context, layout), [-1, self.num_heads * self.head_size])
        output = self.output_dense(context)
        output = self.hidden_dropout(output, seed=seeds[1], training=training)
        return self.layer_norm(output + tokens, training=training), weights if scores else None

    def draw_seeds(self) -> tuple[Any, Any]:
        """Returns the next `seeds`."""
        return self.attention_dropout.draw_seed(), self.hidden_dropout.draw_seed()


class FeedForward(keras.layers.Layer):
    r"""The two dense layers of a block with their residual: \(\mathrm{LayerNorm}(x + W_2 \, f(W_1 x))\).

    Call arguments:
        tokens: `[tokens, hidden]`.
        seed: for the dropout; None draws one.

    Returns:
        `[tokens, hidden]`.
    """

    def __init__(self, config: BertConfig, hidden_dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        activation = ACTIVATIONS.get(config.hidden_act, config.hidden_act)
        self.intermediate = dense(config.intermediate_size, config, "intermediate", policy, activation)
        self.output_dense = dense(config.hidden_size, config, "output", policy)
        self.hidden_dropout = Dropout(hidden_dropout, dtype=policy, name="hidden_dropout")
        self.layer_norm = LayerNormalization(epsilon=config.layer_norm_eps, dtype=policy, name="layer_norm")

    def build(self, input_shape: Any) -> None:
        self.intermediate.build(input_shape)
        self.output_dense.build((None, self.intermediate.units))
        self.layer_norm.build(input_shape)

    def call(self, tokens: Any, seed: Any = None, training: bool = False) -> Any:
        output = self.output_dense(self.intermediate(tokens))
        output = self.hidden_dropout(output, seed=seed, training=training)
        return self.layer_norm(output + tokens, training=training)


class TransformerBlock(keras.layers.Layer):
    """One encoder layer of BERT: self-attention, then feed-forward (Devlin et al. 2019; Vaswani et al. 2017).

    Args:
        config: the sizes, the activation and the epsilon.
        hidden_dropout: rate after each of the two parts.
        attention_dropout: rate on the attention's softmax.
        recompute: whether training keeps only the input and computes the rest again for the gradient (Chen et al.
            2016), which takes less memory and more time.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Call arguments:
        tokens: float `[tokens, hidden]`, where tokens are the real ones of the batch, or all.
        layout: of `padding_removal.attention_layout`: where these tokens stand in `[batch, sequence]`.
        training: bool, for dropout.
        scores: bool, whether the attention scores are wanted.

    Returns:
        `[tokens, hidden]`, and the scores `[batch, heads, sequence, sequence]` or None.
    """

    def __init__(
        self,
        config: BertConfig,
        hidden_dropout: float,
        attention_dropout: float,
        recompute: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.recompute = recompute
        self.hidden_size = config.hidden_size
        self.attention = SelfAttention(
            config, hidden_dropout, attention_dropout, dtype=self.dtype_policy, name="attention"
        )
        self.feed_forward = FeedForward(config, hidden_dropout, dtype=self.dtype_policy, name="feed_forward")

    def build(self, input_shape: Any) -> None:
        self.attention.build((None, self.hidden_size))
        self.feed_forward.build((None, self.hidden_size))

    def call(self, tokens: Any, layout: dict[str, Any], training: bool = False, scores: bool = False) -> Any:
        if not (self.recompute and training) or scores:
            tokens, weights = self.attention(tokens, layout=layout, training=training, scores=scores)
            return self.feed_forward(tokens, training=training), weights
        attention_seeds = self.attention.draw_seeds()
        feed_forward_seed = self.feed_forward.hidden_dropout.draw_seed()

        @tf.recompute_grad
        def run(tokens: Any) -> Any:
            tokens, _ = self.attention(tokens, layout=layout, seeds=attention_seeds, training=True)
            return self.feed_forward(tokens, seed=feed_forward_seed, training=True)

        return run(tokens), None
