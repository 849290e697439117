import re
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_bert_layers.keras_compatibility import is_alias


class AdoptedVariables(keras.layers.Layer):
    """Makes the variables of a foreign TensorFlow object a Keras 3 layer's weights: the same objects, no copies.

    Args:
        variables: `tf.Variable` objects.
        outputs: a function that runs the foreign object and returns the outputs that are used. Trainable variables
            that have no gradient from them (a head, an unused pooler) are frozen, or every `fit` would warn of them.
        **kwargs: `name` of `keras.layers.Layer`.
    """

    def __init__(self, variables: Iterable[tf.Variable], outputs: Callable[[], list[tf.Tensor]], **kwargs: Any):
        super().__init__(**kwargs)
        variables = list(variables)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            trainable = [variable for variable in variables if variable.trainable]
            tape.watch(trainable)
            # Random weights, for the plain sum over a normalised state is the same whatever the variables are.
            total = tf.add_n(
                [
                    tf.reduce_sum(tf.random.stateless_normal(tf.shape(output), (0, 1)) * tf.cast(output, "float32"))
                    for output in outputs()
                ]
            )
        gradients = tape.gradient(total, trainable)
        # Through the nested functions of a SavedModel what is not connected has a gradient, of zeros.
        used = {
            id(variable)
            for variable, gradient in zip(trainable, gradients, strict=True)
            if gradient is not None and np.any(tf.convert_to_tensor(gradient))
        }
        self.adopted = [
            keras.Variable(
                initializer=variable,
                trainable=id(variable) in used,
                dtype=variable.dtype.name,
                name=variable.name.split(":")[0].replace("/", "."),
            )
            for variable in variables
        ]
        for own, variable in zip(self.adopted, variables, strict=True):
            # Where Keras cannot alias, it makes a copy and does not say so.
            if not is_alias(own, variable):
                raise RuntimeError(
                    f"Expected Keras to use the variable {variable.name} itself, which needs Keras 3.10 or later. "
                    f"Received: a copy, by Keras {keras.__version__}."
                )
        self.built = True

    def rows(self, table: str) -> int | None:
        """Returns the number of rows of a table of embeddings, or None where no variable is named so.

        Args:
            table: a pattern for the last part of its name, as implementations of BERT call it alike.
        """
        found = {
            int(variable.shape[0])
            for variable in self.adopted
            if re.search(rf"(^|\.)({table})\.embeddings$", variable.name) and len(variable.shape) == 2
        }
        return found.pop() if len(found) == 1 else None
