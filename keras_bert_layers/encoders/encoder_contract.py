import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.encoders.input_checks import check_ids, check_shapes, out_of_range
from keras_bert_layers.keras_compatibility import called_on_placeholders, compiled_by_xla, refuse_legacy_tensors
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.token_inputs import HUGGINGFACE_NAMES, TFHUB_NAMES, family_of, is_extra


class EncoderContract(keras.layers.Layer):
    """The contract of every encoder: names, shapes and masks of inputs and outputs, and errors.

    A subclass computes the outputs and sets the attributes that say which there are.

    Args:
        dtype: a dtype policy.
        name: name of the layer.

    Call arguments:
        inputs: a dict with the names of TF Hub (`input_word_ids`, `input_mask`, `input_type_ids`) or of Hugging Face
            (`input_ids`, `attention_mask`, `token_type_ids`), each an integer tensor `[batch, sequence]`. The mask (1
            on real tokens) and the type ids (0 and 1 for the segments of a pair) may be left out. Ids on real tokens
            must stand in the checkpoint's tables; those at padding `BertEncoder` does not look at, and wrapped models
            look them up.
        training: bool, for dropout.

    Returns:
        A dict:

        | key | shape | what |
        |---|---|---|
        | `encoder_outputs` | by `combine` | the selected layers, combined |
        | `sequence_output` | `[batch, sequence, hidden]` | the last layer that the encoder holds |
        | `pooled_output` | `[batch, hidden]` | tanh(dense([CLS])), where the checkpoint has a pooler |
        | `mask` | `[batch, sequence]` bool | true on real tokens |
        | `attention_scores` | `[batch, K, heads, sequence, sequence]` | with `return_attention_scores=True` |

        in the layer's compute dtype, zero at padding.

    Raises:
        ValueError: for inputs of other keys, types and shapes.
        tf.errors.InvalidArgumentError: for ids that are in no table, and where shapes are open, for rows that are too
            long or not of one shape. XLA cannot raise: there the outputs of a row with such an id are NaN.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    has_embeddings = True
    has_pooler: bool
    vocab_size: int | None = None
    type_vocab_size: int | None = None
    max_positions: int | None = None
    selected_layers: list[int]
    combination: LayerCombination | None
    return_attention_scores: bool

    @property
    def pretrained_layers(self) -> list[keras.layers.Layer]:
        """The sublayers whose weights are the pretrained ones: what `trainable=False` freezes."""
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "trainable":
            # TensorFlow skips an assignment that changes nothing, and `encoder.trainable = True` must reach the
            # pretrained layers that `trainable=False` froze while the encoder itself stayed trainable.
            keras.layers.Layer.trainable.fset(self, value)
        else:
            super().__setattr__(name, value)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(self._check_inputs(inputs), *args, **kwargs)

    def _check_inputs(self, inputs: Any) -> dict[str, Any]:
        refuse_legacy_tensors(self, inputs)
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"{type(self).__name__} expects a dict of integer tensors [batch, sequence] with the keys "
                f"{TFHUB_NAMES} or {HUGGINGFACE_NAMES}, as BertPreprocessor makes them. "
                f"Received: inputs of type {type(inputs).__name__}."
            )
        keys = [key for key in inputs if not is_extra(key)]
        names = family_of(inputs)
        if names[0] not in inputs or not set(keys) <= set(names):
            raise ValueError(
                f"{type(self).__name__} expects the keys {TFHUB_NAMES} or the keys {HUGGINGFACE_NAMES}, not both; the "
                f"first of each is required. Received: keys={sorted(inputs)}."
            )
        checked = {}
        for name in keys:
            value = inputs[name]
            if isinstance(value, (list, tuple)):
                try:
                    value = np.array(value)
                except ValueError as error:
                    raise ValueError(
                        f"Expected {name!r} to have rows of one length, padded. Received: {name}={value!r}."
                    ) from error
            if isinstance(value, tf.RaggedTensor) or not hasattr(value, "dtype"):
                raise ValueError(
                    f"{type(self).__name__} expects {name!r} to be an array or a tensor with rows of one length, "
                    f"padded. Received: {name} of type {type(value).__name__}."
                )
            # Not standardize_dtype, whose own error for strings names no input.
            dtype = getattr(value.dtype, "name", str(value.dtype))
            is_right = "int" in dtype or (dtype == "bool" and name == names[1])
            if not is_right and not called_on_placeholders():
                raise ValueError(
                    f"{type(self).__name__} expects {name!r} to hold integers. Received: {name}.dtype={dtype}. "
                    f"In a functional model: keras.Input((None,), dtype='int32', name={name!r})."
                )
            if len(value.shape) != 2:
                raise ValueError(
                    f"{type(self).__name__} expects {name!r} to be [batch, sequence]. "
                    f"Received: {name}.shape={tuple(value.shape)}."
                )
            checked[name] = tf.convert_to_tensor(value) if isinstance(value, np.ndarray) else value
        shapes = {name: tuple(value.shape) for name, value in checked.items()}
        if any(len(set(sizes) - {None}) > 1 for sizes in zip(*shapes.values(), strict=True)):
            raise ValueError(f"{type(self).__name__} expects inputs of one shape. Received: shapes={shapes}.")
        if any(shape[1] == 0 for shape in shapes.values()):
            raise ValueError(f"{type(self).__name__} expects rows of at least one token. Received: shapes={shapes}.")
        self._check_sequence_length(shapes[names[0]][1])
        return checked

    def _check_sequence_length(self, length: int | None) -> None:
        """Refuses a sequence that is longer than the encoder's positions; `length` is None where not static."""
        if length is not None and self.max_positions is not None and length > self.max_positions:
            raise ValueError(
                f"{type(self).__name__} has positions for {self.max_positions} tokens. "
                f"Received: a sequence of {length}. Make shorter ones, BertPreprocessor(..., "
                f"sequence_length={self.max_positions}), or read long documents in windows: "
                f"WindowedEncoder(encoder, window={self.max_positions}, stride={self.max_positions // 4})."
            )

    def _standardize(self, inputs: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Returns token ids (int32), mask (bool) and segment ids (int32), checked while they run, none left out."""
        if not isinstance(inputs, Mapping):
            # Keras's TimeDistributed comes here without `__call__`. This raises.
            self._check_inputs(inputs)
        ids_name, _, types_name = names = family_of(inputs)
        given = {name: tf.convert_to_tensor(inputs[name]) for name in names if name in inputs}
        is_checked = not compiled_by_xla()
        if is_checked:
            given = check_shapes(given, self.max_positions)
        mask = self._mask(given)
        # A number beyond 32 bits must not become a small one.
        ids = {name: tf.saturate_cast(given[name], "int32") for name in (ids_name, types_name) if name in given}
        if is_checked:
            ids = check_ids(ids, mask, {ids_name: self.vocab_size, types_name: self.type_vocab_size})
        token_ids = ids[ids_name]
        return token_ids, mask, ids.get(types_name, tf.zeros_like(token_ids))

    def _mark_wrong_rows(self, outputs: dict[str, Any], mask: Any, token_ids: Any, segment_ids: Any) -> dict[str, Any]:
        """Returns outputs that are NaN for each text with an id outside its table: XLA cannot raise."""
        limits = ((token_ids, self.vocab_size), (segment_ids, self.type_vocab_size))
        wrong = [tf.reduce_any(out_of_range(ids, mask, limit), axis=1) for ids, limit in limits if limit is not None]

        def mark(output: Any) -> Any:
            rows = tf.reshape(tf.reduce_any(tf.stack(wrong), axis=0), [-1, *[1] * (len(output.shape) - 1)])
            return tf.where(rows, tf.constant(math.nan, output.dtype), output) if output.dtype.is_floating else output

        return keras.tree.map_structure(mark, outputs) if wrong else outputs

    def _mask(self, inputs: dict[str, Any]) -> Any:
        ids_name, mask_name, _ = family_of(inputs)
        if mask_name in inputs:
            return keras.ops.cast(inputs[mask_name], "bool")
        return keras.ops.ones_like(inputs[ids_name], dtype="bool")

    def compute_mask(self, inputs: dict[str, Any], previous_mask: Any = None) -> dict[str, Any]:
        mask = self._mask(inputs)
        if self.combination is None:
            encoder_outputs: Any = [mask] * len(self.selected_layers)
        else:
            # Keras takes axis 1 for the sequence; that of a stack is the layer.
            encoder_outputs = mask if self.combination.has_sequence_axis else None
        masks = {"encoder_outputs": encoder_outputs, "sequence_output": mask, "mask": None}
        if self.has_pooler:
            masks["pooled_output"] = None
        if self.return_attention_scores:
            masks["attention_scores"] = None
        return masks

    def compute_output_spec(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        names = family_of(inputs)
        batch, sequence = inputs[names[0]].shape
        shape = (batch, sequence, self.hidden_size)
        count = len(self.selected_layers)
        outputs: dict[str, Any] = {
            "sequence_output": KerasTensor(shape, self.compute_dtype, name="sequence_output"),
            "mask": KerasTensor((batch, sequence), "bool", name="mask"),
        }
        if self.combination is None:
            outputs["encoder_outputs"] = [
                KerasTensor(shape, self.compute_dtype, name=f"encoder_outputs_{i}") for i in range(count)
            ]
        else:
            combined = self.combination.compute_output_shape([shape] * count)
            outputs["encoder_outputs"] = KerasTensor(combined, self.compute_dtype, name="encoder_outputs")
        if self.has_pooler:
            outputs["pooled_output"] = KerasTensor((batch, self.hidden_size), self.compute_dtype, name="pooled_output")
        if self.return_attention_scores:
            scores = (batch, count, self.num_heads, sequence, sequence)
            outputs["attention_scores"] = KerasTensor(scores, self.compute_dtype, name="attention_scores")
        return outputs

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        if not isinstance(input_shape, Mapping):
            raise ValueError(
                f"{type(self).__name__} expects the shapes of a dict of ids. Received: input_shape={input_shape!r}. "
                "TimeDistributed and other layers that wrap one for a single tensor take a model from ids to vectors: "
                "TimeDistributed(keras.Model(ids, vectors))."
            )
        ids = {name: KerasTensor(shape, "int32") for name, shape in input_shape.items()}
        return keras.tree.map_structure(lambda output: output.shape, self.compute_output_spec(ids))
