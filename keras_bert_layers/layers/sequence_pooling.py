import math
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_bert_layers.keras_compatibility import check_saved_dtype, implicit_mask, refuse_legacy_tensors

POOLING_MODES = ("cls", "mean", "max", "mean_sqrt_length", "weighted_mean", "last_token", "attention")


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class SequencePooling(keras.layers.Layer):
    r"""Pools the states of a sequence's tokens into one vector.

    For the states \(h_1 \dots h_n\) of the n tokens that the mask keeps:

    | mode | output |
    |---|---|
    | `"cls"` | the state of the first position, where [CLS] is (Devlin et al. 2019) |
    | `"mean"` | \(\frac1n \sum_t h_t\) (Reimers and Gurevych 2019) |
    | `"max"` | the largest value of each dimension |
    | `"mean_sqrt_length"` | \(\frac1{\sqrt n} \sum_t h_t\), as `pooling_mode_mean_sqrt_len_tokens` of sentence-transformers |
    | `"weighted_mean"` | \(\sum_t p_t h_t / \sum_t p_t\) with the place \(p_t\) of the token in its row, from 1 (Muennighoff 2022) |
    | `"last_token"` | the state of the last token |
    | `"attention"` | \(\sum_t \mathrm{softmax}_t(q \cdot h_t / \sqrt{d}) \, h_t\) with a learned query \(q\), at first zero, which is the mean |

    A sequence without any token gives zeros. It computes in float32 whatever the policy, and casts once at the end.

    Args:
        mode: one of the modes above.
        exclude_special_tokens: leave [CLS], [SEP] and the like out; the call then takes `special_tokens_mask`, which
            `BertPreprocessor(..., return_special_tokens_mask=True)` makes. Not for `"cls"`.
        normalize: divide the vector by its Euclidean length.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.

    Call arguments:
        inputs: float tensor `[batch, sequence, hidden]`, or `[batch, K, sequence, hidden]` as `combine="stack"` gives.
        mask: bool or integer tensor `[batch, sequence]`, true on the tokens to pool. The default is Keras's implicit
            mask, which the encoders attach to their outputs.
        special_tokens_mask: bool or integer tensor `[batch, sequence]`, true on special tokens.

    Returns:
        A tensor `[batch, hidden]` (or `[batch, K, hidden]`) in the compute dtype, without a mask.

    Raises:
        ValueError: for an unknown mode, and where neither `mask` nor an implicit mask says which tokens are real.
        TypeError: for flags that are not bools.

    Example:

    >>> states = keras.ops.reshape(keras.ops.arange(6.0), (1, 3, 2))
    >>> SequencePooling("mean")(states, mask=[[True, True, False]])
    <tf.Tensor: shape=(1, 2), dtype=float32, numpy=array([[1., 2.]], dtype=float32)>
    """  # noqa: E501

    def __init__(self, mode: str, *, exclude_special_tokens: bool = False, normalize: bool = False, **kwargs: Any):
        # Keras casts inputs before `call`: with a 16-bit policy the states would be rounded first.
        super().__init__(autocast=False, **kwargs)
        if mode not in POOLING_MODES:
            raise ValueError(f"Expected `mode` to be one of {', '.join(POOLING_MODES)}. Received: mode={mode!r}.")
        for name, flag in (("exclude_special_tokens", exclude_special_tokens), ("normalize", normalize)):
            if not isinstance(flag, bool):
                raise TypeError(f"Expected `{name}` to be True or False. Received: {name}={flag!r}.")
        if mode == "cls" and exclude_special_tokens:
            raise ValueError(
                'Expected another mode with exclude_special_tokens=True: "cls" pools the special token [CLS] and '
                "cannot exclude it. Received: mode='cls', exclude_special_tokens=True. Choose another mode."
            )
        self.mode = mode
        self.exclude_special_tokens = exclude_special_tokens
        self.normalize = normalize
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if self.mode == "attention":
            self.query = self.add_weight(name="query", shape=(input_shape[-1],), initializer="zeros")

    def __call__(self, inputs: Any, mask: Any = None, special_tokens_mask: Any = None, **kwargs: Any) -> Any:
        refuse_legacy_tensors(self, inputs)
        if not hasattr(inputs, "shape"):
            raise ValueError(
                "SequencePooling expects one tensor [batch, sequence, hidden]. "
                f"Received: inputs of type {type(inputs).__name__}. "
                "Give it features['encoder_outputs'] of an encoder with `combine=`, or one tensor of the list."
            )
        if len(inputs.shape) not in (3, 4):
            raise ValueError(
                "SequencePooling expects a tensor [batch, sequence, hidden], or [batch, K, sequence, hidden] for K "
                f"stacked layers. Received: inputs.shape={tuple(inputs.shape)}."
            )
        implied = implicit_mask(inputs)
        if mask is None and implied is None:
            raise ValueError(
                "SequencePooling expects `mask`, or inputs that carry Keras's implicit mask, since it must know which "
                "tokens are real. Received: mask=None, and inputs without a mask. Pass mask=features['mask'] of the "
                "encoder."
            )
        if self.exclude_special_tokens != (special_tokens_mask is not None):
            raise ValueError(
                "SequencePooling expects `special_tokens_mask` with exclude_special_tokens=True, and only then. "
                f"Received: exclude_special_tokens={self.exclude_special_tokens}, "
                f"special_tokens_mask={special_tokens_mask!r}. "
                "BertPreprocessor(..., return_special_tokens_mask=True) makes it."
            )
        masks = {"mask": mask, "special_tokens_mask": special_tokens_mask}
        for name, value in masks.items():
            if isinstance(value, (list, tuple)):
                masks[name] = value = ops.convert_to_tensor(value)
            self._check_mask(name, implied if name == "mask" and value is None else value, inputs)
        return super().__call__(inputs, **masks, **kwargs)

    def _check_mask(self, name: str, mask: Any, inputs: Any) -> None:
        if mask is None:
            return
        expected, received = (inputs.shape[0], inputs.shape[-2]), tuple(mask.shape)
        if len(received) != 2 or any(
            None not in sizes and sizes[0] != sizes[1] for sizes in zip(expected, received, strict=True)
        ):
            raise ValueError(
                f"SequencePooling expects `{name}` to be [batch, sequence]. Received: {name}.shape={received} for "
                f"inputs.shape={tuple(inputs.shape)}."
            )

    def call(self, inputs: Any, mask: Any = None, special_tokens_mask: Any = None) -> Any:
        # Keras fills in the implicit mask by itself only where `inputs` is the one tensor of the call.
        kept = ops.cast(implicit_mask(inputs) if mask is None else mask, "bool")
        if special_tokens_mask is not None:
            kept = ops.logical_and(kept, ops.logical_not(ops.cast(special_tokens_mask, "bool")))
        if len(inputs.shape) == 4:
            kept = ops.expand_dims(kept, 1)
        kept = ops.expand_dims(kept, -1)
        states = ops.where(kept, ops.cast(inputs, "float32"), 0.0)
        count = ops.sum(ops.cast(kept, "float32"), axis=-2)
        if self.mode == "cls":
            pooled = states[..., 0, :]
        elif self.mode == "max":
            pooled = ops.max(ops.where(kept, states, -math.inf), axis=-2)
            pooled = ops.where(count > 0, pooled, 0.0)
        elif self.mode in ("weighted_mean", "last_token"):
            places = ops.cumsum(ops.ones_like(kept, "float32"), axis=-2)
            weights = ops.where(kept, places, 0.0)
            if self.mode == "last_token":
                weights = ops.cast(weights == ops.max(weights, axis=-2, keepdims=True), "float32")
            # Of a row without tokens the sum is 0.
            total = ops.maximum(ops.sum(weights, axis=-2), 1.0)
            pooled = ops.sum(weights * states, axis=-2) / total
        elif self.mode == "attention":
            scores = ops.matmul(states, ops.cast(self.query, "float32")) / math.sqrt(states.shape[-1])
            # TensorFlow's softmax, for that of Keras warns of a sequence of one token.
            weights = tf.nn.softmax(ops.where(kept, ops.expand_dims(scores, -1), -1e9), axis=-2)
            pooled = ops.sum(weights * states, axis=-2)
        else:
            pooled = ops.sum(states, axis=-2)
            count = ops.maximum(count, 1.0)
            pooled = pooled / (ops.sqrt(count) if self.mode == "mean_sqrt_length" else count)
        if self.normalize:
            squared = ops.sum(ops.square(pooled), axis=-1, keepdims=True)
            # A small number added under the root would give a vector of zeros a gradient of 1e12.
            pooled = ops.where(squared > 1e-24, pooled * ops.rsqrt(ops.maximum(squared, 1e-24)), 0.0)
        return ops.cast(pooled, self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (*input_shape[:-2], input_shape[-1])

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SequencePooling":
        check_saved_dtype(cls.__name__, config)
        return super().from_config(config)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "mode": self.mode,
            "exclude_special_tokens": self.exclude_special_tokens,
            "normalize": self.normalize,
        }
