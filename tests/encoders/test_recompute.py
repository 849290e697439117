"""What training keeps: `recompute=True`, and layers below the lowest trained one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_bert_layers as kbl

CONFIG = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.3,
}
MASK = tf.sequence_mask([5, 9, 2, 2, 1], dtype=tf.int32)
IDS = {"input_word_ids": MASK * tf.constant([[4, 8, 15, 16, 23, 42, 3, 1, 7]]), "input_mask": MASK}


def make(**options):
    keras.utils.set_random_seed(0)
    encoder = kbl.BertEncoder(CONFIG, pooler=False, combine=None, **options)
    encoder.build()
    return encoder


def gradients(encoder):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder(IDS, training=True)["sequence_output"] ** 3)
    variables = [variable.value for variable in encoder.trainable_variables]
    return [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]


@pytest.mark.parametrize(("rate", "graph"), [(0.0, False), (0.4, False), (0.4, True)])
def test_recompute_gives_the_same_gradients(rate, graph):
    results = []
    for recompute in (False, True):
        encoder = make(num_hidden_layers=2, hidden_dropout=rate, attention_dropout=rate, recompute=recompute)
        run = tf.function(gradients) if graph else gradients
        results.append(run(encoder))
    for plain, recomputed in zip(*results, strict=True):
        np.testing.assert_allclose(recomputed, plain, rtol=2e-4, atol=2e-4)


def test_recompute_runs_each_layer_a_second_time():
    def softmaxes(recompute):
        graph = tf.function(gradients).get_concrete_function(make(recompute=recompute)).graph.as_graph_def()
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        return sum(node.op == "Softmax" for node in nodes)

    assert softmaxes(True) == softmaxes(False) + 4


def test_recompute_survives_saving(tmp_path):
    encoder = make(recompute=True)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in IDS}
    keras.Model(inputs, encoder(inputs)["sequence_output"]).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.recompute for layer in loaded.layers if isinstance(layer, kbl.BertEncoder)] == [True]


def test_layers_below_the_lowest_trained_one_run_as_inference():
    encoder = make(hidden_dropout=0.5, attention_dropout=0.5)
    for layer in (encoder.embeddings, *encoder.transformer_layers[:2]):
        layer.trainable = False
    inference = encoder(IDS)["encoder_outputs"]
    training = encoder(IDS, training=True)["encoder_outputs"]
    for number, (one, other) in enumerate(zip(inference, training, strict=True), start=1):
        assert np.allclose(one, other, atol=1e-5) == (number <= 2)
    assert all(np.any(gradient != 0) for gradient in gradients(encoder)[:4])


def test_nothing_is_kept_of_frozen_layers():
    """No gradient flows into them, also for what is not asked for."""
    encoder = make(hidden_dropout=0.0, attention_dropout=0.0)
    for layer in (encoder.embeddings, *encoder.transformer_layers[:2]):
        layer.trainable = False
    frozen = encoder.transformer_layers[1].feed_forward.output_dense.kernel.value
    with tf.GradientTape() as tape:
        tape.watch(frozen)
        loss = tf.reduce_sum(encoder(IDS, training=True)["sequence_output"] ** 3)
    assert tape.gradient(loss, frozen) is None


def test_a_mix_learns_above_a_frozen_encoder():
    encoder = kbl.BertEncoder(CONFIG, combine="weighted", trainable=False, pooler=False)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder(IDS, training=True)["encoder_outputs"] ** 3)
    assert np.any(tape.gradient(loss, encoder.combination.w.value) != 0)
