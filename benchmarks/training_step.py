"""How long does a training step take? BERT-base, float32.

python benchmarks/training_step.py

TFBertModel and ours with the same weights, the same head on [CLS], SGD, dropout 0, and a batch of 32 texts of mixed
lengths.
"""

import statistics

import keras
import numpy as np
import tensorflow as tf
import transformers
from forward import MIXED
from measure import report, seconds_in_turns, spread
from peers import SHAPE, ids_and_mask

import keras_bert_layers as kbl

RATE = 1e-3


def step_of(outputs_of, variables_of):
    """Returns a training step on (ids, mask, labels) with a softmax head on [CLS], and SGD."""
    head = tf.Variable(tf.random.stateless_normal((768, 2), [0, 1]) * 0.02)

    @tf.function(autograph=False)
    def step(ids, mask, labels):
        with tf.GradientTape() as tape:
            logits = tf.matmul(outputs_of(ids, mask)[:, 0], head)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        variables = [*variables_of(), head]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(RATE * tf.convert_to_tensor(gradient))
        return loss

    return step


def step_with(encoder):
    return step_of(
        lambda ids, mask: encoder({"input_word_ids": ids, "input_mask": mask}, training=True)["sequence_output"],
        lambda: [variable.value for variable in encoder.trainable_variables],
    )


def our_step(source, **options):
    """A step with the weights of `source`, a TFBertModel, or with random ones where that is None."""
    options |= {"hidden_dropout": 0.0, "attention_dropout": 0.0, "pooler": False}
    if source is not None:
        return step_with(kbl.BertEncoder.from_pretrained(source, **options))
    encoder = kbl.BertEncoder(kbl.BertConfig(**SHAPE), **options)
    encoder.build()
    return step_with(encoder)


def peer_step(model):
    return step_of(
        lambda ids, mask: model(input_ids=ids, attention_mask=mask, training=True).last_hidden_state,
        lambda: model.trainable_variables,
    )


def new_peer():
    config = transformers.BertConfig(**SHAPE, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = transformers.TFBertModel(config, add_pooling_layer=False)
    model(tf.constant([[1]]))
    return model


def batch():
    """Returns ids, mask and labels of 32 texts of mixed lengths."""
    labels = np.random.default_rng(1).integers(0, 2, len(MIXED))
    return [tf.constant(array) for array in (*ids_and_mask(MIXED), labels)]


def main():
    model = new_peer()
    frozen = kbl.BertEncoder.from_pretrained(model, pooler=False, hidden_dropout=0.0, attention_dropout=0.0)
    for layer in (frozen.embeddings, *frozen.transformer_layers[:9]):
        layer.trainable = False
    steps = {
        "ours": our_step(model),
        "TFBertModel": peer_step(model),
        "ours, recompute=True": our_step(model, recompute=True),
        "ours, layers 10 to 12 trained": step_with(frozen),
    }
    inputs = batch()
    times = seconds_in_turns({name: lambda step=step: step(*inputs).numpy() for name, step in steps.items()}, 3)
    ours = statistics.median(times["ours"])
    rows = [
        {"step": name, "ms": spread(seconds), "x time of ours": f"{statistics.median(seconds) / ours:.2f}"}
        for name, seconds in times.items()
    ]
    report("training_step", rows)


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    main()
