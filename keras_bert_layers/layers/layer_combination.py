import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_bert_layers.keras_compatibility import check_saved_dtype, refuse_legacy_tensors
from keras_bert_layers.layers.combine_modes import MODES, CombineMode, Weighted

COMBINE_MODES = tuple(MODES)


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
        TypeError: for a `layer_norm` that is not a bool.

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
        *,
        layer_norm: bool = False,
        dropout: float = 0.0,
        initial_weights: list[float] | None = None,
        temperature: float = 1.0,
        **kwargs: Any,
    ):
        # Keras casts inputs before `call`: with a 16-bit policy the states would be rounded first.
        super().__init__(autocast=False, **kwargs)
        if mode not in COMBINE_MODES:
            raise ValueError(f"Expected `mode` to be one of {', '.join(COMBINE_MODES)}. Received: mode={mode!r}.")
        options = Weighted.check_options(layer_norm, dropout, initial_weights, temperature)
        given = [f"{option}={value!r}" for option, value in options.items() if value != Weighted.options[option]]
        if given and not MODES[mode].options:
            raise ValueError(
                f"Expected mode={mode!r} without options: {', '.join(Weighted.options)} belong to mode "
                f'"weighted" alone. Received: mode={mode!r}, {", ".join(given)}. Leave them out.'
            )
        self.mode = mode
        self.layer_norm: bool = options["layer_norm"]
        self.dropout: float = options["dropout"]
        self.initial_weights: list[float] | None = options["initial_weights"]
        self.temperature: float = options["temperature"]
        self.supports_masking = True
        if self.dropout:
            self.seed_generator = keras.random.SeedGenerator()

    @property
    def has_sequence_axis(self) -> bool:
        """Whether axis 1 of the output is the sequence, as it is in the states; that of `"stack"` is the layer."""
        return MODES[self.mode].has_sequence_axis

    def build(self, input_shape: Any) -> None:
        MODES[self.mode].build(self, [tuple(shape) for shape in input_shape])

    def build_from_config(self, config: Any) -> None:
        shapes = config.get("input_shape") if isinstance(config, dict) else None
        if not isinstance(shapes, (list, tuple)) or not all(isinstance(shape, (list, tuple)) for shape in shapes):
            raise ValueError(
                "Expected the saved configuration of a LayerCombination to hold the shapes that it was built for. "
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
        MODES[self.mode].check_count(self, count)

    def start(self, count: int, training: bool = False) -> CombineMode:
        """Returns what combines `count` states in one call, for those who have the states one by one; when built."""
        return MODES[self.mode](self, count, training)

    def call(self, inputs: Any, training: bool = False) -> Any:
        mode = self.start(len(inputs), training)
        terms: Any = [mode.term(position, ops.cast(state, "float32")) for position, state in enumerate(inputs)]
        if mode.reduce is not None:
            terms = functools.reduce(mode.reduce, terms)
        return ops.cast(mode.finish(terms), self.compute_dtype)

    @property
    def layer_weights(self) -> np.ndarray:
        """The K weights of mode `"weighted"`, `[K]` float32 that sum to 1: `softmax(w / temperature)`."""
        if not hasattr(self, "w"):
            raise AttributeError(
                'Expected a LayerCombination("weighted") that was built, since no other has `layer_weights`. '
                f"Received: mode={self.mode!r}, built={self.built}."
            )
        w = ops.convert_to_numpy(self.w) / self.temperature
        w = np.exp(w - w.max())
        return w / w.sum()

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        if not self.has_sequence_axis:
            return None
        return next((mask for mask in previous_mask or () if mask is not None), None)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return MODES[self.mode].output_shape(input_shape)

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
