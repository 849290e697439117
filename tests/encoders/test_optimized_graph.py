"""What TensorFlow's graph optimiser makes of the encoder: a later change must not undo the fusions unseen."""

import collections
import functools
import json
import platform
import re

import pytest
import tensorflow as tf
from tensorflow.python.eager import context

import keras_bert_layers as kbl

from ..fresh_process import run_in_fresh_process

NUM_LAYERS = 3
# Two halves of the batch go through the layers.
BLOCKS = 2 * NUM_LAYERS
CONFIG = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "layer_norm_eps": 1e-12,
}


# An argument, for the optimiser would compute with a constant beforehand.
MASK = tf.sequence_mask([5, 9, 2, 2], dtype=tf.int32)


def optimized_nodes(function):
    """All nodes of the graphs that TensorFlow really runs for the first call of `function(MASK)`."""
    context.context().enable_run_metadata()
    try:
        function(MASK)
        metadata = context.context().export_run_metadata()
    finally:
        context.context().disable_run_metadata()
    return [node for graphs in metadata.function_graphs for node in graphs.post_optimization_graph.node]


# Prints what TensorFlow makes of the encoder of `CONFIG` in a process of its own.
COUNT_OPERATIONS = f"""
import collections, json
import tensorflow as tf
from tensorflow.python.eager import context
import keras_bert_layers as kbl
from keras_bert_layers.keras_compatibility import onednn_is_on

encoder = kbl.BertEncoder({CONFIG}, layers="all+embeddings", combine="mean")
mask = tf.sequence_mask([5, 9, 2, 2], dtype=tf.int32)

@tf.function
def run(mask):
    outputs = encoder({{"input_word_ids": mask, "input_mask": mask}})
    return outputs["encoder_outputs"], outputs["pooled_output"]

encoder.build()
context.context().enable_run_metadata()
run(mask)
graphs = context.context().export_run_metadata().function_graphs
nodes = [node for graph in graphs for node in graph.post_optimization_graph.node]
fused = [
    "+".join(name.decode() for name in node.attr["fused_ops"].list.s)
    for node in nodes
    if node.op in ("_FusedMatMul", "_MklNativeFusedMatMul")
]
print(json.dumps({{
    "onednn": onednn_is_on(),
    "fused": collections.Counter(fused),
    "operations": collections.Counter(node.op.replace("_Mkl", "_").replace("Native", "") for node in nodes),
    "epsilons": [node.attr["epsilon"].f for node in nodes if node.op == "_MklLayerNorm"],
}}))
"""


def operations_of_a_process(setting, folder):
    result = run_in_fresh_process(COUNT_OPERATIONS, cwd=folder, variables={"TF_ENABLE_ONEDNN_OPTS": setting})
    found = json.loads(result.stdout)
    return found, collections.Counter(found["fused"]), collections.Counter(found["operations"])


only_on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorFlow has oneDNN's fusions on x86 alone")


@only_on_x86
def test_with_onednn_every_dense_layer_and_normalisation_is_one_operation(tmp_path):
    found, fused, counts = operations_of_a_process("1", tmp_path)
    assert found["onednn"] is True
    assert fused == {
        # Query, key, value and attention's output, whose residual is also an output of the encoder: it would be copied.
        "BiasAdd": 4 * BLOCKS,
        "BiasAdd+Add": BLOCKS,  # the feed-forward output with its residual
        "BiasAdd+GeluExact": BLOCKS,
        "BiasAdd+Tanh": 1,  # the pooler
    }
    assert counts["MatMul"] == counts["BiasAdd"] == counts["Erf"] == 0
    # Scale and mask within the product of queries and keys; the product with the values.
    assert counts["_FusedBatchMatMulV2"] == BLOCKS
    assert counts["BatchMatMulV2"] + counts["_BatchMatMulV2"] == BLOCKS
    assert counts["Transpose"] + counts["_Transpose"] == 0
    assert found["epsilons"] == pytest.approx([1e-12] * (2 * BLOCKS + 1))


@only_on_x86
def test_without_onednn_dense_layers_have_their_bias_and_the_rest_is_in_few_operations(tmp_path):
    found, fused, counts = operations_of_a_process("0", tmp_path)
    assert found["onednn"] is False
    assert fused == {"BiasAdd": 6 * BLOCKS + 1}
    assert counts["MatMul"] == counts["BiasAdd"] == 0
    # Without oneDNN a batch normalisation would transpose, and a GELU with `Erf` is an operation more.
    assert counts["FusedBatchNormV3"] == counts["_FusedBatchNormEx"] == counts["Transpose"] == counts["Erf"] == 0
    assert counts["Erfc"] == BLOCKS
    normalisations = 2 * BLOCKS + 1
    assert counts["Mean"] == counts["Rsqrt"] == normalisations
    # The two products of attention, and that of each row with itself.
    assert counts["BatchMatMulV2"] == 2 * BLOCKS + normalisations


@functools.cache
def combining_nodes(combine):
    encoder = kbl.BertEncoder(CONFIG, layers="all+embeddings", combine=combine, pooler=False, name="encoder")
    encoder.build()
    run = tf.function(lambda mask: encoder({"input_word_ids": mask, "input_mask": mask})["encoder_outputs"])
    return optimized_nodes(run)


@pytest.mark.parametrize("combine", ["sum", "mean", "max", "weighted"])
def test_no_operation_waits_for_the_states_of_all_layers(combine):
    nodes = combining_nodes(combine)
    assert [node for node in nodes if "Softmax" in node.op]
    # That of the embeddings adds words, positions and segments.
    assert [node.name for node in nodes if node.op == "AddN" and "embeddings" not in node.name] == []


@pytest.mark.parametrize("combine", ["sum", "mean", "max", "weighted"])
def test_each_layer_waits_until_the_state_before_it_is_combined(combine):
    def operations_before_the_last_layer(combine):
        nodes = {node.name: node for node in combining_nodes(combine)}
        found = []
        for name in nodes:
            if f"layer_{NUM_LAYERS}" in name and "Softmax" in nodes[name].op:
                before, unseen = set(), [name]
                while unseen:
                    inputs = {source.lstrip("^").split(":")[0] for source in nodes[unseen.pop()].input}
                    unseen += inputs - before
                    before |= inputs
                found.append(sum(nodes[source].op in ("Sub", "Maximum") for source in before))
        return found

    without = operations_before_the_last_layer("last")
    assert len(without) == 2  # of each half
    # One for every layer below but the first of all, which begins the sum.
    expected = [count + NUM_LAYERS - 1 for count in without]
    assert operations_before_the_last_layer(combine) == expected


def test_layers_above_those_in_use_are_not_computed():
    encoder = kbl.BertEncoder(CONFIG, layers=[1], combine="last")
    encoder.build()
    run = tf.function(lambda mask: encoder({"input_word_ids": mask, "input_mask": mask})["encoder_outputs"])
    nodes = optimized_nodes(run)
    assert sum("Softmax" in node.op for node in nodes) == 2  # of each half
    computed = [node.name for node in nodes if re.search("MatMul|Softmax|Norm", node.op)]
    assert [name for name in computed if "layer_1" in name]
    assert not [name for name in computed if "layer_2" in name or "pooler" in name]


def test_training_goes_through_each_layer_once():
    """Two halves would give each weight two gradients to be added, and a batch normalisation a slower gradient."""
    encoder = kbl.BertEncoder(CONFIG, combine="mean", pooler=False)
    encoder.build()
    run = tf.function(
        lambda mask: encoder({"input_word_ids": mask, "input_mask": mask}, training=True)["encoder_outputs"]
    )
    operations = [node.op.replace("_Mkl", "").replace("Native", "").lstrip("_") for node in optimized_nodes(run)]
    assert operations.count("Softmax") == NUM_LAYERS
    assert not [operation for operation in operations if "BatchNorm" in operation or "LayerNorm" in operation]
