import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_bert_layers.keras_compatibility import seed_generators


def layer_calls(layers: Sequence[keras.layers.Layer], training: bool, recompute: bool) -> list[Callable[..., Any]]:
    """Returns functions to call in place of the layers, which spare training what no gradient needs.

    The layers below the lowest one that is trained run as in inference: without dropout, and nothing of them is kept.

    Args:
        layers: embeddings and encoder layers, from the lowest.
        training: whether this is training.
        recompute: whether encoder layers keep only their input and are computed again for the gradient, which takes
            less memory and more time (Chen et al. 2016).

    Returns:
        For each layer a function, which takes the arguments of its call except `training`.
    """
    # Not `trainable_variables`, which are none where a layer is frozen and one inside it is not.
    is_trained = [any(variable.trainable for variable in layer.variables) for layer in layers]
    lowest_trained = is_trained.index(True) if any(is_trained) else len(layers)

    def call_of(number: int, layer: keras.layers.Layer) -> Callable[..., Any]:
        if training and number < lowest_trained:
            return lambda *inputs, **others: tf.nest.map_structure(
                tf.stop_gradient, layer(*inputs, **others, training=False)
            )
        # Not the embeddings, which keep nothing but ids anyway.
        if training and recompute and number > 0:
            return _recomputed(layer)
        return functools.partial(layer, training=training)

    return [call_of(number, layer) for number, layer in enumerate(layers)]


def _recomputed(block: keras.layers.Layer) -> Callable[..., Any]:
    def call(tokens: Any, rows: Any, bias: Any = None) -> tuple[Any, None]:
        # What each dropout inside draws next, so that both times the same is dropped.
        seeds = [(generator.state, generator.next()) for generator in seed_generators(block)]

        @tf.recompute_grad
        def run(tokens: Any, bias: Any = None) -> Any:
            with keras.StatelessScope(state_mapping=seeds):
                tokens, _ = block(tokens, rows=rows, bias=bias, training=True)
                return tokens

        # None for the attention scores: to return them is to keep them.
        return run(tokens) if bias is None else run(tokens, bias), None

    return call
