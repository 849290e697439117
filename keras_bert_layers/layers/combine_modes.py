"""The modes of `LayerCombination`: how the states of K layers become one tensor. One class each, and their table."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops


class CombineMode:
    """Combines the states of K layers in one call; a subclass is one mode.

    Each state becomes a term, and the terms become the output, all in float32:

    ```python
    mode = MODES["mean"](combination, len(states), training=False)
    terms = [mode.term(position, state) for position, state in enumerate(states)]
    output = mode.finish(terms if mode.reduce is None else functools.reduce(mode.reduce, terms))
    ```

    The terms may be made in any order, and an encoder makes each as its layer comes.

    Args:
        combination: the `LayerCombination`, built. It holds the options and the weights.
        count: K.
        training: bool. What is random is drawn here, once per call.

    Attributes:
        reduce: makes one term of two, in any order; None where `finish` takes the list of all terms.
        has_sequence_axis: whether the output has its tokens where the states have theirs, so that Keras's implicit
            mask fits it and it can be made of tokens without their padding.
        is_learned: whether it has weights.
        options: the arguments of `LayerCombination` that are for this mode, and their defaults.
    """

    reduce: Callable[[Any, Any], Any] | None = None
    has_sequence_axis = True
    is_learned = False
    options: Mapping[str, Any] = {}

    def __init__(self, combination: Any, count: int, training: bool):
        self.combination = combination
        self.count = count

    @staticmethod
    def build(combination: Any, shapes: list[tuple[int | None, ...]]) -> None:
        """Adds the mode's weights to the `LayerCombination`, for states of these shapes."""

    @staticmethod
    def check_count(combination: Any, count: int) -> None:
        """Refuses `count` layers where the built `LayerCombination` is for another number."""

    @staticmethod
    def output_shape(shapes: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        """Returns the shape of the output for states of these shapes."""
        return tuple(shapes[0])

    def term(self, position: int, state: Any) -> Any:
        """Returns what the state at `position` in the list of layers contributes, `[batch, ..., hidden]` float32."""
        return state

    def finish(self, terms: Any) -> Any:
        """Returns the output: of the reduced terms, or of the list of them in the order of their positions."""
        return terms


class Stack(CombineMode):
    """The states along a new axis 1."""

    has_sequence_axis = False

    @staticmethod
    def output_shape(shapes: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        return (shapes[0][0], len(shapes), *shapes[0][1:])

    def finish(self, terms: Any) -> Any:
        return ops.stack(terms, axis=1)


class Concat(CombineMode):
    """The states side by side."""

    @staticmethod
    def output_shape(shapes: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        *leading, hidden = shapes[0]
        return (*leading, None if hidden is None else len(shapes) * hidden)

    def finish(self, terms: Any) -> Any:
        return ops.concatenate(terms, axis=-1)


class Sum(CombineMode):
    """The sum of the states."""

    reduce = staticmethod(ops.add)


class Mean(Sum):
    """The mean of the states."""

    def finish(self, terms: Any) -> Any:
        return terms / self.count


class Max(CombineMode):
    """The largest value of each dimension."""

    reduce = staticmethod(ops.maximum)


class Last(CombineMode):
    """The state of the last layer in the list, alone."""

    def term(self, position: int, state: Any) -> Any:
        return state if position == self.count - 1 else None

    def finish(self, terms: Any) -> Any:
        return terms[-1]


class Weighted(Sum):
    """A learned scalar mix: `gamma * sum_k softmax(w / temperature)_k * state_k`."""

    is_learned = True
    options: Mapping[str, Any] = {"layer_norm": False, "dropout": 0.0, "initial_weights": None, "temperature": 1.0}

    def __init__(self, combination: Any, count: int, training: bool):
        super().__init__(combination, count, training)
        w = ops.cast(combination.w, "float32") / combination.temperature
        if training and combination.dropout:
            kept = keras.random.uniform(w.shape, seed=combination.seed_generator) >= combination.dropout
            # Finite, so that a draw that drops every layer gives equal weights in place of NaN.
            w = ops.where(kept, w, -1e20)
        # TensorFlow's softmax, for that of Keras warns of a single layer.
        self.weights = ops.unstack(tf.nn.softmax(w) * ops.cast(combination.gamma, "float32"), num=count)

    @staticmethod
    def check_options(layer_norm: Any, dropout: Any, initial_weights: Any, temperature: Any) -> dict[str, Any]:
        """Checks the options and returns them as plain Python values.

        Raises:
            TypeError: if `layer_norm` is not a bool.
            ValueError: for the others.
        """
        if not isinstance(layer_norm, bool):
            raise TypeError(f"Expected `layer_norm` to be True or False. Received: layer_norm={layer_norm!r}.")
        if not isinstance(dropout, (int, float, np.number)) or not 0 <= dropout < 1:
            raise ValueError(f"Expected `dropout` to be at least 0 and below 1. Received: dropout={dropout!r}.")
        if initial_weights is not None:
            initial_weights = _positive_floats(initial_weights)
        if not isinstance(temperature, (int, float, np.number)) or not 0 < temperature < math.inf:
            raise ValueError(f"Expected `temperature` to be positive. Received: temperature={temperature!r}.")
        return {
            "layer_norm": layer_norm,
            "dropout": float(dropout),
            "initial_weights": initial_weights,
            "temperature": float(temperature),
        }

    @staticmethod
    def build(combination: Any, shapes: list[tuple[int | None, ...]]) -> None:
        initial = combination.initial_weights
        if initial is not None and len(initial) != len(shapes):
            raise ValueError(
                f"Expected one initial weight for each of the {len(shapes)} layers. "
                f"Received: initial_weights={initial!r}."
            )
        start = np.ones(len(shapes)) if initial is None else np.array(initial)
        start = combination.temperature * np.log(start / start.sum())
        combination.w = combination.add_weight(
            name="w",
            shape=(len(shapes),),
            initializer=lambda shape, dtype: ops.convert_to_tensor(start, dtype=dtype),
        )
        combination.gamma = combination.add_weight(name="gamma", shape=(), initializer="ones")

    @staticmethod
    def check_count(combination: Any, count: int) -> None:
        if count != combination.w.shape[0]:
            raise ValueError(
                f"Expected as many layers as this LayerCombination was built for: it has a weight for each of "
                f"{combination.w.shape[0]} layers. Received: {count} layers. Make another LayerCombination for them."
            )

    def term(self, position: int, state: Any) -> Any:
        if self.combination.layer_norm:
            mean, variance = ops.moments(state, axes=[-1], keepdims=True)
            state = (state - mean) * ops.rsqrt(variance + 1e-12)
        return self.weights[position] * state


class Attention(CombineMode):
    """Each token's own weighted mean: of the softmax over the layers of a learned query on each state."""

    is_learned = True

    @staticmethod
    def build(combination: Any, shapes: list[tuple[int | None, ...]]) -> None:
        combination.query = combination.add_weight(name="query", shape=(shapes[0][-1],), initializer="zeros")

    def finish(self, terms: Any) -> Any:
        stacked = ops.stack(terms, axis=-2)
        query = ops.cast(self.combination.query, "float32")
        scores = ops.matmul(stacked, query) / math.sqrt(stacked.shape[-1])
        return ops.squeeze(ops.matmul(ops.expand_dims(tf.nn.softmax(scores), -2), stacked), -2)


MODES: dict[str, type[CombineMode]] = {
    "stack": Stack,
    "concat": Concat,
    "sum": Sum,
    "mean": Mean,
    "max": Max,
    "last": Last,
    "weighted": Weighted,
    "attention": Attention,
}


def _positive_floats(weights: Any) -> list[float]:
    try:
        values = [] if isinstance(weights, str) else [float(weight) for weight in weights]
    except (TypeError, ValueError):
        values = []
    if not values or not all(0 < value < math.inf for value in values):
        raise ValueError(
            "Expected `initial_weights` to be positive numbers, one for each layer. "
            f"Received: initial_weights={weights!r}. To leave a layer out, do not select it."
        )
    return values
