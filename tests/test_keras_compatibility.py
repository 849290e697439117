"""What is not public in Keras and TensorFlow does what it is used for.

`check_keras` is tested in test_public_interface.py, `onednn_is_on` in encoders/test_optimized_graph.py.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers.keras_compatibility import (
    called_on_placeholders,
    functional_model,
    functional_nodes,
    implicit_mask,
    is_alias,
    is_autocast,
    is_stateful,
    layers_inside,
    operation_of,
    set_implicit_mask,
    split_at_spaces,
)


def test_implicit_mask_is_what_keras_attaches():
    states = keras.layers.Embedding(3, 2, mask_zero=True)(np.array([[1, 2, 0]]))
    np.testing.assert_array_equal(implicit_mask(states), [[True, True, False]])
    assert implicit_mask(tf.ones((1, 3, 2))) is None


def test_a_mask_that_was_set_reaches_the_layers_of_keras():
    states = tf.constant([[[1.0], [3.0], [100.0]]])
    set_implicit_mask(states, tf.constant([[True, True, False]]))
    assert keras.layers.GlobalAveragePooling1D()(states).numpy().tolist() == [[2.0]]


def test_is_alias():
    variable = tf.Variable([1.0, 2.0])
    own = keras.Variable(initializer=variable, dtype="float32")
    assert is_alias(own, variable)
    own.assign([3.0, 4.0])
    assert variable.numpy().tolist() == [3.0, 4.0]
    # Keras cannot store it in another dtype without a copy.
    assert not is_alias(keras.Variable(initializer=variable, dtype="float16"), variable)


def test_placeholders_are_told_from_a_users_call():
    seen = []

    class Outer(keras.layers.Layer):
        def call(self, inputs):
            seen.append(called_on_placeholders())
            return inputs

    layer = Outer()
    layer(np.ones((1, 2)))
    layer(keras.Input((2,)))
    assert seen == [False, True]


@pytest.fixture
def model() -> keras.Model:
    numbers = keras.Input((2,), name="numbers")
    hidden = keras.layers.Dense(3, name="hidden")(numbers)
    return keras.Model(numbers, keras.layers.Add(name="sum")([hidden, 2.0 * hidden]), name="inner")


def test_functional_nodes_run_in_their_order(model):
    values = {id(model.inputs[0]): keras.ops.ones((1, 2))}
    nodes = functional_nodes(model)
    for node in nodes:
        arguments, keyword_arguments = node.arguments.fill_in(values)
        assert all(id(tensor) in values for tensor in node.input_tensors)
        for tensor, value in zip(
            node.outputs, keras.tree.flatten(node.operation(*arguments, **keyword_arguments)), strict=True
        ):
            values[id(tensor)] = value
    assert [node.operation.name for node in nodes if "multiply" not in node.operation.name] == ["hidden", "sum"]
    np.testing.assert_array_equal(values[id(model.outputs[0])], model(np.ones((1, 2))))


def test_functional_models_are_told_from_their_subclasses(model):
    class Doubling(keras.Model):
        def call(self, inputs):
            return 2 * super().call(inputs)

    sequential = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    assert functional_model(model) is model
    assert functional_model(sequential).inputs == sequential.inputs
    assert len(functional_nodes(sequential)) == 1
    for other in (Doubling(model.inputs, model.outputs), keras.Sequential([keras.layers.Dense(3)]), model.layers[1]):
        assert functional_model(other) is None


def test_the_operation_of_a_tensor(model):
    assert operation_of(model.outputs[0]).name == "sum"


def test_layers_inside_a_layer_inside(model):
    outer = keras.Sequential([keras.Input((2,)), model])
    assert {"inner", "hidden", "sum"} <= {layer.name for layer in layers_inside(outer)}
    assert outer not in layers_inside(outer)


def test_weights_without_autocast():
    layer = keras.layers.Layer()
    assert is_autocast(layer.add_weight(shape=()))
    assert not is_autocast(layer.add_weight(shape=(), autocast=False))


def test_operations_with_a_state():
    assert is_stateful("WriteFile")
    assert is_stateful("MatMul") is False
    assert is_stateful("NoSuchOperation") is None


def test_texts_are_split_at_spaces_alone():
    texts = ["a film", "", "  new\nline \u3000 tab\there\u00a0", "né  中"]
    words, starts, ends = split_at_spaces(tf.constant(texts))
    assert [[word.decode() for word in row] for row in words.to_list()] == [
        [word for word in text.split(" ") if word] for text in texts
    ]
    rows = [texts[row].encode() for row in words.value_rowids()]
    cut = [row[start:end] for row, start, end in zip(rows, starts.numpy(), ends.numpy(), strict=True)]
    np.testing.assert_array_equal(cut, words.values.numpy())
