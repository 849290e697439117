import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_bert_layers.keras_compatibility import check_saved_dtype, refuse_legacy_tensors

COMBINE_MODES = ("stack", "concat", "sum", "mean", "max", "last", "weighted", "attention")


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class LayerCombination(keras.layers.Layer):
    r"""Combines the hidden states of several layers into one tensor.

    For the states \(h_1 \dots h_K\) of K layers:

    | mode | output |
    |---|---|
    | `"stack"` | the K states along a new axis 1 |
    | `"concat"` | the K states side by side along the last axis |
    | `"sum"`, `"mean"`, `"max"` | over the K states, element by element |
    | `"last"` | \(h_K\) |
    | `"weighted"` | \(\gamma \sum_k \mathrm{softmax}(w / T)_k \, h_k\) with learned \(w\) and \(\gamma\): the scalar mix of ELMo (Peters et al. 2018, equation 1) as in AllenNLP's `ScalarMix` |
    | `"attention"` | per token \(\sum_k \mathrm{softmax}_k(q \cdot h_k / \sqrt{d}) \, h_k\) with a learned query \(q\), at first zero, which is the mean |

    It computes in float32 whatever the policy, and casts once at the end. What comes out for a token depends on the
    states of that token alone. It takes any list of tensors of one shape and so works outside the encoders too.

    Args:
        mode: one of the modes above.
        layer_norm: with `"weighted"`: normalise each token's state of each layer to mean 0 and variance 1 first.
            (AllenNLP takes mean and variance over the whole batch instead.)
        dropout: with `"weighted"`: the probability with which a layer is left out of the softmax, in training.
        initial_weights: with `"weighted"`: K positive numbers, normalised to sum 1, that the layers start with. The
            default is 1 / K each. With `trainable=False` the layer is then a fixed weighted mean.
        temperature: with `"weighted"`: the T above, positive. A high one keeps the weights of the layers alike.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Call arguments:
        inputs: a list of K tensors of one shape `[batch, ..., hidden]`, float.
        training: bool, for `dropout`.

    Returns:
        One tensor in the compute dtype: `[batch, K, ..., hidden]` for `"stack"`, `[batch, ..., K * hidden]` for
        `"concat"`, else `[batch, ..., hidden]`.

    Raises:
        ValueError: for an unknown mode, for options of another mode, and for tensors of different shapes.
        TypeError: for a `layer_norm` that is no bool.

    Example:

    >>> states = [keras.ops.ones((2, 5, 8)), 3 * keras.ops.ones((2, 5, 8))]
    >>> LayerCombination("mean")(states).shape
    TensorShape([2, 5, 8])
    >>> LayerCombination("concat")(states).shape
    TensorShape([2, 5, 16])
    >>> mix = LayerCombination("weighted", initial_weights=[3, 1])
    >>> float(mix(states)[0, 0, 0])
    1.5
    """  # noqa: E501

    def __init__(
        self,
        mode: str,
        layer_norm: bool = False,
        dropout: float = 0.0,
        initial_weights: list[float] | None = None,
        temperature: float = 1.0,
        **kwargs: Any,
    ):
        # Without Keras's own casting, which comes before `call`: a 16-bit policy would cast the states first.
        super().__init__(autocast=False, **kwargs)
        if mode not in COMBINE_MODES:
            raise ValueError(f"Expected `mode` to be one of {', '.join(COMBINE_MODES)}. Received: mode={mode!r}.")
        if not isinstance(layer_norm, bool):
            raise TypeError(f"Expected `layer_norm` to be True or False. Received: layer_norm={layer_norm!r}.")
        if initial_weights is not None:
            initial_weights = _floats(initial_weights)
        defaults = {"layer_norm": False, "dropout": 0.0, "initial_weights": None, "temperature": 1.0}
        options = {
            "layer_norm": layer_norm,
            "dropout": dropout,
            "initial_weights": initial_weights,
            "temperature": temperature,
        }
        given = [f"{option}={value!r}" for option, value in options.items() if value != defaults[option]]
        if mode != "weighted" and given:
            raise ValueError(
                f'These options belong to mode "weighted" alone. Received: mode={mode!r}, {", ".join(given)}. '
                "Leave them out."
            )
        if not isinstance(dropout, (int, float, np.number)) or not 0 <= dropout < 1:
            raise ValueError(f"Expected `dropout` to be at least 0 and below 1. Received: dropout={dropout!r}.")
        if not isinstance(temperature, (int, float, np.number)) or not 0 < temperature < math.inf:
            raise ValueError(f"Expected `temperature` to be positive. Received: temperature={temperature!r}.")
        self.mode = mode
        self.layer_norm = layer_norm
        self.dropout = float(dropout)
        self.initial_weights = initial_weights
        self.temperature = float(temperature)
        self.supports_masking = True
        if dropout:
            self.seed_generator = keras.random.SeedGenerator()

    def build(self, input_shape: Any) -> None:
        shapes = [tuple(shape) for shape in input_shape]
        if self.mode == "weighted":
            if self.initial_weights is not None and len(self.initial_weights) != len(shapes):
                raise ValueError(
                    f"Expected one initial weight for each of the {len(shapes)} layers. "
                    f"Received: initial_weights={self.initial_weights!r}."
                )
            start = np.ones(len(shapes)) if self.initial_weights is None else np.array(self.initial_weights)
            start = self.temperature * np.log(start / start.sum())
            self.w = self.add_weight(
                name="w",
                shape=(len(shapes),),
                initializer=lambda shape, dtype: ops.convert_to_tensor(start, dtype=dtype),
            )
            self.gamma = self.add_weight(name="gamma", shape=(), initializer="ones")
        elif self.mode == "attention":
            self.query = self.add_weight(name="query", shape=(shapes[0][-1],), initializer="zeros")

    def build_from_config(self, config: Any) -> None:
        shapes = config.get("input_shape") if isinstance(config, dict) else None
        if not isinstance(shapes, (list, tuple)) or not all(isinstance(shape, (list, tuple)) for shape in shapes):
            raise ValueError(
                "The saved configuration of a LayerCombination is expected to hold the shapes that it was built for. "
                f"Received: build_config={str(config)[:200]}. The file is damaged or of another version."
            )
        super().build_from_config(config)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_legacy_tensors(self, inputs)
        if not isinstance(inputs, (list, tuple)) or not inputs:
            raise ValueError(
                "LayerCombination expects a list of at least one tensor, one for each layer. "
                f"Received: inputs={inputs!r}."
            )
        others = [value for value in inputs if not hasattr(value, "shape")]
        if others:
            raise ValueError(
                "LayerCombination expects a list of tensors or arrays, one for each layer. "
                f"Received: a list with {others[0]!r} of type {type(others[0]).__name__} in it."
            )
        shapes = [tuple(value.shape) for value in inputs]
        if any(
            len(shape) != len(shapes[0])
            or any(None not in sizes and len(set(sizes)) > 1 for sizes in zip(shape, shapes[0], strict=True))
            for shape in shapes
        ):
            raise ValueError(f"LayerCombination expects tensors of one shape. Received: shapes={shapes}.")
        if self.built:
            self.check_count(len(inputs))
        return super().__call__(list(inputs), *args, **kwargs)

    def check_count(self, count: int) -> None:
        """Refuses another number of layers than the layer was built for."""
        if self.mode == "weighted" and count != self.w.shape[0]:
            raise ValueError(
                f"This LayerCombination has a weight for each of {self.w.shape[0]} layers. "
                f"Received: {count} layers. Make another LayerCombination for them."
            )

    def call(self, inputs: Any, training: bool = False) -> Any:
        accumulator = self.accumulator(len(inputs), training)
        for position, state in enumerate(inputs):
            accumulator.add(position, state)
        return accumulator.result()

    def accumulator(self, count: int, training: bool = False) -> "Accumulator":
        """Returns what takes the `count` states one by one, so that they need not all be held; for a built layer."""
        return Accumulator(self, count, training)

    def _mixing_weights(self, count: int, training: bool) -> list[Any]:
        w = ops.cast(self.w, "float32") / self.temperature
        if training and self.dropout:
            kept = keras.random.uniform(w.shape, seed=self.seed_generator) >= self.dropout
            # Finite, so that a draw that drops every layer gives equal weights in place of NaN.
            w = ops.where(kept, w, -1e20)
        # TensorFlow's softmax, for that of Keras warns of a single layer.
        return ops.unstack(tf.nn.softmax(w) * ops.cast(self.gamma, "float32"), num=count)

    @property
    def layer_weights(self) -> np.ndarray:
        """The K weights of mode `"weighted"`, `[K]` float32 that sum to 1: `softmax(w / temperature)`."""
        if self.mode != "weighted" or not self.built:
            raise AttributeError(
                'Only a LayerCombination("weighted") that was built has `layer_weights`. '
                f"Received: mode={self.mode!r}, built={self.built}."
            )
        w = ops.convert_to_numpy(self.w) / self.temperature
        w = np.exp(w - w.max())
        return w / w.sum()

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if self.mode == "stack":
            return None
        return next((mask for mask in previous_mask or () if mask is not None), None)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        batch, *middle, hidden = input_shape[0]
        if self.mode == "stack":
            return (batch, len(input_shape), *middle, hidden)
        if self.mode == "concat":
            return (batch, *middle, len(input_shape) * hidden)
        return (batch, *middle, hidden)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LayerCombination":
        check_saved_dtype(cls.__name__, config)
        return super().from_config(config)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mode": self.mode,
            "layer_norm": self.layer_norm,
            "dropout": self.dropout,
            "initial_weights": self.initial_weights,
            "temperature": self.temperature,
        }


class Accumulator:
    """Combines states as they come. `"stack"`, `"concat"` and `"attention"` need all of them, the other modes one."""

    def __init__(self, combination: LayerCombination, count: int, training: bool):
        self._combination = combination
        self._states: list[Any] = [None] * count
        self._weights = combination._mixing_weights(count, training) if combination.mode == "weighted" else None
        self._output: Any = None

    def add(self, position: int, state: Any) -> Any:
        """Takes the state of the layer at `position` in the list of layers; each position once, in any order.

        Returns:
            `state`, for the next layer.
        """
        given, state = state, ops.cast(state, "float32")
        mode, last = self._combination.mode, len(self._states) - 1
        if mode in ("stack", "concat", "attention"):
            self._states[position] = state
        elif mode == "last":
            self._output = state if position == last else self._output
        else:
            self._accumulate(position, state)
            # The next layer waits: an executor that has enough to do puts the sums off, and holds all the states.
            with tf.control_dependencies([self._output]):
                return tf.identity(given)
        return given

    def _accumulate(self, position: int, state: Any) -> None:
        if self._combination.mode == "max":
            self._output = state if self._output is None else ops.maximum(self._output, state)
        else:
            if self._weights is not None:
                if self._combination.layer_norm:
                    mean, variance = ops.moments(state, axes=[-1], keepdims=True)
                    state = (state - mean) * ops.rsqrt(variance + 1e-12)
                state = self._weights[position] * state
            # Subtracted: of additions the graph optimiser makes one that holds all the states until the last has come.
            self._output = -state if self._output is None else self._output - state

    def result(self) -> Any:
        """Returns the combined states, in the compute dtype of the combination."""
        mode, states = self._combination.mode, self._states
        if mode == "attention":
            stacked = ops.stack(states, axis=-2)
            query = ops.cast(self._combination.query, "float32")
            scores = ops.matmul(stacked, query) / math.sqrt(stacked.shape[-1])
            output = ops.squeeze(ops.matmul(ops.expand_dims(tf.nn.softmax(scores), -2), stacked), -2)
        elif mode == "stack":
            output = ops.stack(states, axis=1)
        elif mode == "concat":
            output = ops.concatenate(states, axis=-1)
        elif mode in ("max", "last"):
            output = self._output
        else:
            output = -self._output / len(states) if mode == "mean" else -self._output
        return ops.cast(output, self._combination.compute_dtype)


def _floats(weights: Any) -> list[float]:
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
