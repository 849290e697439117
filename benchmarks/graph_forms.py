"""Which form of a graph is the fastest? The forms that were tried for the encoder's parts, on rank-2 tokens.

    python benchmarks/graph_forms.py

BERT-base shape, float32, 1,024 tokens (8 rows of 128), and the 684 tokens of 32 sentences for attention. The answer
depends on whether oneDNN is on: run it with `TF_ENABLE_ONEDNN_OPTS=0` too.
"""

import statistics

import keras
import tensorflow as tf
from forward import MIXED
from measure import report, seconds_in_turns

import keras_bert_layers as kbl
from keras_bert_layers.encoders import bert_encoder
from keras_bert_layers.encoders.attention_rows import PackedRows
from keras_bert_layers.encoders.layer_normalization import fused, in_few_operations
from keras_bert_layers.encoders.token_layout import PackedLayout

TIMES = 12
SHAPE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def median_ms(forms, *inputs, repeats=TIMES):
    """Milliseconds of each form, run `repeats` times in one graph, each on what the one before gave."""
    functions = {}
    for name, form in forms.items():
        # The number of tokens is never known beforehand; where it is, the optimiser does other things.
        shapes = [tf.TensorSpec([None, *value.shape[1:]], value.dtype) for value in inputs]
        if len(inputs) == 2:
            shapes[1] = tf.TensorSpec([None, None], tf.bool)

        @tf.function(input_signature=shapes, autograph=False)
        def run(tokens, *rest, form=form):
            for _ in range(repeats):
                tokens = form(tokens, *rest)
            return tokens

        functions[name] = lambda run=run: run(*inputs)
    times = seconds_in_turns(functions, 5)
    return {name: 1e3 * statistics.median(seconds) / repeats for name, seconds in times.items()}


def normalisation_forms():
    keras_own = keras.layers.LayerNormalization(epsilon=1e-12)
    keras_own.build((None, 768))
    gamma, beta = keras_own.gamma, keras_own.beta

    def centred(tokens):
        tokens -= tf.reduce_mean(tokens, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(tokens), -1, keepdims=True)
        return tokens * tf.math.rsqrt(variance + 1e-12) * gamma + beta

    return {
        "Keras's LayerNormalization: 8 operations": keras_own,
        "centred once, by hand": centred,
        "the same, variance as a product (without oneDNN)": lambda x: in_few_operations(x, 1e-12) * gamma + beta,
        "as batch normalisation (_MklLayerNorm with oneDNN)": lambda x: fused(x, 1e-12) * gamma + beta,
    }


def feed_forward_forms():
    # Small enough that nothing grows over the repetitions.
    up, down = (tf.Variable(tf.random.normal(shape) * 0.02) for shape in ((768, 3072), (3072, 768)))
    bias_up, bias_down = tf.Variable(tf.zeros(3072)), tf.Variable(tf.zeros(768))

    def rank_3(tokens):
        inner = tf.tensordot(tf.reshape(tokens, [8, 128, 768]), up, 1)
        inner = tf.nn.gelu(tf.nn.bias_add(inner, bias_up))
        return tf.reshape(tf.nn.bias_add(tf.tensordot(inner, down, 1), bias_down), [-1, 768])

    def rank_2(tokens, gelu=tf.nn.gelu):
        inner = gelu(tf.nn.bias_add(tf.matmul(tokens, up), bias_up))
        return tf.nn.bias_add(tf.matmul(inner, down), bias_down)

    def with_erfc(tokens):
        return rank_2(tokens, lambda x: x * tf.math.erfc(x * -(0.5**0.5)) * 0.5)

    def plus(tokens):
        inner = tf.nn.gelu(tf.matmul(tokens, up) + bias_up)
        return tf.matmul(inner, down) + bias_down

    def transposed(tokens):
        inner = tf.nn.gelu(tf.nn.bias_add(tf.matmul(tokens, down, transpose_b=True), bias_up))
        return tf.nn.bias_add(tf.matmul(inner, up, transpose_b=True), bias_down)

    return {
        "dense on rank 3 (tensordot)": rank_3,
        "dense on rank 2, bias by `+`": plus,
        "dense on rank 2, weights stored transposed": transposed,
        "dense on rank 2, bias by BiasAdd, GELU by erfc (without oneDNN)": with_erfc,
        "dense on rank 2, bias by BiasAdd (with oneDNN fused, GELU too)": rank_2,
    }


def attention_forms():
    def padded_rows(tokens, mask):
        layout = PackedLayout(mask)
        batch, sequence = tf.unstack(tf.shape(mask))
        heads = tf.gather(tokens, layout.token_numbers)
        heads = tf.transpose(tf.reshape(heads, [batch, sequence, 12, 64]), [0, 2, 1, 3])
        weights = tf.matmul(heads * 0.125, heads, transpose_b=True)
        weights = tf.nn.softmax(weights + tf.where(mask, 0.0, -1e9)[:, None, None])
        context = tf.transpose(tf.matmul(weights, heads), [0, 2, 1, 3])
        return tf.reshape(tf.gather_nd(context, layout.positions), [-1, 768])

    def with_gathers(one_text_each):
        def form(tokens, mask):
            rows = PackedRows(mask, PackedLayout(mask).positions, 12, one_text_each)
            heads = rows.split(tokens)
            weights = tf.matmul(heads, heads, transpose_b=True) * 0.125
            weights = tf.nn.softmax(weights + tf.where(rows.visible, 0.0, -1e9))
            return rows.join(tf.matmul(weights, heads))

        return form

    return {
        "rows gathered, heads transposed, padded to the longest": padded_rows,
        "heads gathered at once, padded to the longest": with_gathers(True),
        "heads gathered at once, short texts share rows": with_gathers(False),
    }


def encoder_forms():
    encoder = kbl.BertEncoder(kbl.BertConfig(vocab_size=1000, **SHAPE), combine="last", pooler=False)

    def run(tokens, mask):
        numbers = tf.cast(mask, "int32")
        return encoder({"input_word_ids": numbers * 7, "input_mask": numbers})["encoder_outputs"]

    def whole(tokens, mask):
        choose_layout = bert_encoder.choose_layout
        bert_encoder.choose_layout = lambda mask, training, one_text_each: PackedLayout(mask)
        try:
            return run(tokens, mask)
        finally:
            bert_encoder.choose_layout = choose_layout

    return {"the whole batch": whole, "two halves side by side": run}


def main():
    rows = []
    tokens = tf.random.normal((1024, 768))
    mixed = tf.random.normal((sum(MIXED), 768)), tf.sequence_mask(MIXED)
    for part, times in {
        "normalisation, 1,024 tokens": median_ms(normalisation_forms(), tokens),
        "normalisation, 32 tokens": median_ms(normalisation_forms(), tokens[:32]),
        "feed-forward, 1,024 tokens": median_ms(feed_forward_forms(), tokens),
        "attention, 8 x 128": median_ms(attention_forms(), tokens, tf.sequence_mask([128] * 8)),
        "attention, 32 texts of 10 to 69 tokens": median_ms(attention_forms(), *mixed),
        "encoder, 8 x 128": median_ms(encoder_forms(), tokens, tf.sequence_mask([128] * 8), repeats=1),
        "encoder, 32 texts of 10 to 69 tokens": median_ms(encoder_forms(), *mixed, repeats=1),
        "encoder, one text of 32 tokens": median_ms(encoder_forms(), tokens[:32], tf.sequence_mask([32]), repeats=1),
    }.items():
        rows += [{"part": part, "form": name, "ms": milliseconds} for name, milliseconds in times.items()]
    report("graph_forms", rows)


if __name__ == "__main__":
    main()
