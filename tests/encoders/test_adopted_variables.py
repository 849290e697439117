import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers.encoders.adopted_variables import AdoptedVariables


def test_are_the_same_objects():
    variable, counter = tf.Variable([1.0, 2.0]), tf.Variable(3, trainable=False)
    layer = AdoptedVariables([variable, counter], lambda: [2 * variable])
    assert [own._value for own in layer.weights] == [variable, counter]
    layer.weights[0].assign([5.0, 6.0])
    np.testing.assert_array_equal(variable, [5, 6])
    variable.assign([7.0, 8.0])
    np.testing.assert_array_equal(layer.get_weights()[0], [7, 8])


def test_freezes_what_no_output_uses():
    used, unused = tf.Variable([1.0]), tf.Variable([1.0])
    frozen = tf.Variable([1.0], trainable=False)
    layer = AdoptedVariables([used, unused, frozen], lambda: [used * frozen])
    assert [own._value is used for own in layer.trainable_weights] == [True]
    layer.trainable = False
    layer.trainable = True
    assert len(layer.trainable_weights) == 1
    assert len(layer.non_trainable_weights) == 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_in_their_own_dtype(dtype):
    variable = tf.Variable([1.0], dtype=dtype)
    layer = AdoptedVariables([variable], lambda: [variable * 2], dtype="mixed_float16")
    assert layer.weights[0]._value is variable
    assert layer.weights[0].dtype == dtype


def test_says_where_keras_makes_a_copy(monkeypatch):
    import keras

    original = keras.Variable

    def copying(initializer, **kwargs):
        return original(initializer=initializer.numpy(), **kwargs)

    monkeypatch.setattr(keras, "Variable", copying)
    variable = tf.Variable([1.0], name="kernel")
    with pytest.raises(RuntimeError, match=r"use the variable kernel.*itself.*3\.10.*Received: a copy"):
        AdoptedVariables([variable], lambda: [variable * 2])


def test_freezes_what_has_a_gradient_of_zeros():
    """As through the nested functions of a SavedModel, where nothing is unconnected."""
    used, unused = tf.Variable([1.0, 2.0]), tf.Variable([1.0, 2.0])
    layer = AdoptedVariables([used, unused], lambda: [used + 0 * unused])
    assert [own._value is used for own in layer.trainable_weights] == [True]


@pytest.mark.thorough
def test_freezes_the_unused_pooler_of_a_real_hub_encoder(data_directory):
    from keras_bert_layers import TFHubEncoder

    directory = data_directory / "checkpoints" / "tfhub_bert_tiny" / "encoder"
    frozen = [
        [weight.name for weight in TFHubEncoder(directory, pooler=pooler).weights if not weight.trainable]
        for pooler in (True, False)
    ]
    assert frozen == [["Variable"], ["pooler_transform.kernel", "pooler_transform.bias", "Variable"]]
