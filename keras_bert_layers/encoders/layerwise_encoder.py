import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.keras_compatibility import refuse_legacy_tensors
from keras_bert_layers.layers.layer_combination import COMBINE_MODES, LayerCombination
from keras_bert_layers.layers.layer_selection import select_layers

# (token ids, attention mask, segment ids) as TensorFlow Hub and as Hugging Face name them.
TFHUB_NAMES = ("input_word_ids", "input_mask", "input_type_ids")
HUGGINGFACE_NAMES = ("input_ids", "attention_mask", "token_type_ids")
# What a preprocessor may add for layers that come after the encoder.
_IGNORED_NAMES = re.compile(r"offsets|word_ids|special_tokens_mask|window_.*")


class EncoderStates(NamedTuple):
    """What is left of an encoder's run once its layers are collected.

    Attributes:
        last: the states of the last layer: a list of parts `[..., hidden]`, in the form that is cheapest for that
            encoder.
        restore: brings such a list to `[batch, sequence, hidden]`, zero at padding.
        pooled_output: `[batch, hidden]`, or None.
        attention_scores: number of the layer -> `[batch, heads, sequence, sequence]`; empty unless asked for.
    """

    last: list[Any]
    restore: Callable[[list[Any]], Any]
    pooled_output: Any
    attention_scores: Mapping[int, Any]


class LayerwiseEncoder(keras.layers.Layer):
    """The contract of every encoder: names of inputs and outputs, selection and combination of layers, errors.

    A subclass says how to run its BERT (`run`), which of its sublayers hold pretrained weights
    (`pretrained_layers`) and sets `num_layers`, `hidden_size`, `num_heads`, `has_embeddings` and `has_pooler` before it
    calls `set_layers`.

    Call arguments:
        inputs: a dict with the names of TF Hub (`input_word_ids`, `input_mask`, `input_type_ids`) or of Hugging Face
            (`input_ids`, `attention_mask`, `token_type_ids`), each an integer tensor `[batch, sequence]`. The mask (1
            on real tokens) and the type ids (0 and 1 for the segments of a pair) may be left out.
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
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    has_embeddings = True
    has_pooler: bool

    def set_layers(
        self,
        layers: int | str | Iterable[int],
        combine: str | LayerCombination | None,
        trainable: bool,
        return_attention_scores: bool,
    ) -> None:
        """Checks and keeps the arguments that all encoders share; the last step of a constructor."""
        if not isinstance(layers, (int, str)) and isinstance(layers, Iterable):
            layers = list(layers)
        self.selected_layers = select_layers(layers, self.num_layers, self.has_embeddings)
        self.layers = layers
        if return_attention_scores and 0 in self.selected_layers:
            raise ValueError(
                "Layer 0 is the output of the embeddings and has no attention scores. "
                f"Received: layers={layers!r}, return_attention_scores=True. Select layers from 1 to "
                f"{self.num_layers}."
            )
        self.return_attention_scores = return_attention_scores
        if combine is not None and not isinstance(combine, (str, LayerCombination)):
            raise TypeError(
                "Expected `combine` to be None, the name of a mode or a LayerCombination. "
                f"Received: combine={combine!r}."
            )
        if isinstance(combine, str) and combine not in COMBINE_MODES:
            raise ValueError(
                f"Expected `combine` to be None, one of {', '.join(COMBINE_MODES)}, or a LayerCombination. "
                f"Received: combine={combine!r}."
            )
        self.combine = combine
        if isinstance(combine, str):
            combine = LayerCombination(combine, name="combination", dtype=self.dtype_policy)
        self.combination = combine
        if not trainable:
            for layer in self.pretrained_layers:
                layer.trainable = False

    @property
    def pretrained_layers(self) -> list[keras.layers.Layer]:
        """The sublayers whose weights are the pretrained ones: what `trainable=False` freezes."""
        raise NotImplementedError

    def run(
        self,
        token_ids: Any,
        mask: Any,
        segment_ids: Any,
        collect: Callable[[int, list[Any]], list[Any]],
        scores: list[int],
        training: bool,
    ) -> EncoderStates:
        """Runs the encoder.

        Args:
            token_ids: int32 `[batch, sequence]`.
            mask: bool `[batch, sequence]`, true on real tokens.
            segment_ids: int32 `[batch, sequence]`.
            collect: called with the number and the states of each layer, from the lowest to the last, as they come. The
                states are a list of parts of the batch, as long for all layers, and it returns those that the next
                layer is to take. What it does not keep is not held.
            scores: the layers whose attention scores are needed too.
            training: whether dropout is on.
        """
        raise NotImplementedError

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "trainable":
            # TensorFlow skips an assignment that changes nothing, and `encoder.trainable = True` must reach the
            # pretrained layers that `trainable=False` froze while the encoder itself stayed trainable.
            keras.layers.Layer.trainable.fset(self, value)
        else:
            super().__setattr__(name, value)

    def build(self, input_shape: Any = None) -> None:
        for layer in self.pretrained_layers:
            if not layer.built:
                layer.build((None, self.hidden_size))
        if self.combination is not None:
            if not self.combination.built:
                self.combination.build([(None, None, self.hidden_size)] * len(self.selected_layers))
            self.combination.check_count(len(self.selected_layers))

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(self._check_inputs(inputs), *args, **kwargs)

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        token_ids, mask, segment_ids = self._standardize(inputs)
        selected, combination = self.selected_layers, self.combination
        accumulators: list[Any] = []
        kept: dict[int, list[Any]] = {}

        def collect(number: int, states: list[Any]) -> list[Any]:
            # A list and a stack are made of states as they leave the encoder, the others of the cheaper form.
            if combination is None or combination.mode == "stack":
                if number in selected:
                    kept[number] = states
                return states
            if not accumulators:
                accumulators.extend(combination.accumulator(len(selected), training) for _ in states)
            for position in (position for position, layer in enumerate(selected) if layer == number):
                pairs = zip(accumulators, states, strict=True)
                states = [accumulator.add(position, state) for accumulator, state in pairs]
            return states

        scores = selected if self.return_attention_scores else []
        states = self.run(token_ids, mask, segment_ids, collect, scores, bool(training))
        outputs = {"sequence_output": states.restore(states.last), "mask": mask}
        if not accumulators:
            restored = {number: states.restore(state) for number, state in kept.items()}
            combined: Any = [restored[number] for number in selected]
            if combination is not None:
                combined = combination(combined)
        else:
            combined = states.restore([accumulator.result() for accumulator in accumulators])
        if combination is not None:
            # A LayerCombination of the user's own may have another policy.
            combined = tf.cast(combined, self.compute_dtype)
        outputs["encoder_outputs"] = combined
        if self.has_pooler:
            outputs["pooled_output"] = tf.cast(states.pooled_output, self.compute_dtype)
        if self.return_attention_scores:
            stacked = tf.stack([states.attention_scores[layer] for layer in selected], axis=1)
            real = mask[:, None, None, :, None] & mask[:, None, None, None, :]
            outputs["attention_scores"] = tf.where(real, tf.cast(stacked, self.compute_dtype), 0)
        return outputs

    def hidden_states(self, inputs: Any, layers: int | str | Iterable[int] = "all", training: bool = False) -> list:
        """Returns the states of any layers, whatever the constructor selected.

        Args:
            inputs: as for a call; arrays or tensors, not the symbolic inputs of a functional model.
            layers: as in the constructor.
            training: bool, for dropout.

        Returns:
            A list of tensors `[batch, sequence, hidden]` in the compute dtype, in the order of `layers`.

        Raises:
            ValueError: for symbolic inputs, and as a call.
        """
        inputs = self._check_inputs(inputs)
        if any(isinstance(value, KerasTensor) for value in inputs.values()):
            raise ValueError(
                "`hidden_states` computes at once and cannot be part of a functional model. "
                "Received: symbolic inputs. Give the layers to the constructor (layers=..., combine=None) and use "
                "the call's `encoder_outputs`."
            )
        if not self.built:
            self.build()
        numbers = select_layers(layers, self.num_layers, self.has_embeddings)
        kept: dict[int, list[Any]] = {}

        def collect(number: int, states: list[Any]) -> list[Any]:
            if number in numbers:
                kept[number] = states
            return states

        states = self.run(*self._standardize(inputs), collect, [], training)
        return [states.restore(kept[number]) for number in numbers]

    def _check_inputs(self, inputs: Any) -> dict[str, Any]:
        refuse_legacy_tensors(self, inputs)
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"{type(self).__name__} expects a dict of integer tensors [batch, sequence] with the keys "
                f"{TFHUB_NAMES} or {HUGGINGFACE_NAMES}, as BertPreprocessor makes them. "
                f"Received: inputs of type {type(inputs).__name__}."
            )
        keys = [key for key in inputs if not _IGNORED_NAMES.fullmatch(key)]
        names = HUGGINGFACE_NAMES if HUGGINGFACE_NAMES[0] in inputs else TFHUB_NAMES
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
            if not ("int" in dtype or (dtype == "bool" and name == names[1])):
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

    def _standardize(self, inputs: dict[str, Any]) -> tuple[Any, Any, Any]:
        names = HUGGINGFACE_NAMES if HUGGINGFACE_NAMES[0] in inputs else TFHUB_NAMES
        token_ids = tf.cast(inputs[names[0]], "int32")
        segment_ids = inputs.get(names[2])
        segment_ids = tf.zeros_like(token_ids) if segment_ids is None else tf.cast(segment_ids, "int32")
        return token_ids, self._mask(inputs), segment_ids

    def _mask(self, inputs: dict[str, Any]) -> Any:
        names = HUGGINGFACE_NAMES if HUGGINGFACE_NAMES[0] in inputs else TFHUB_NAMES
        if names[1] in inputs:
            return keras.ops.cast(inputs[names[1]], "bool")
        return keras.ops.ones_like(inputs[names[0]], dtype="bool")

    def compute_mask(self, inputs: dict[str, Any], previous_mask: Any = None) -> dict[str, Any]:
        mask = self._mask(inputs)
        if self.combination is None:
            encoder_outputs: Any = [mask] * len(self.selected_layers)
        else:
            # Keras takes axis 1 for the sequence; that of a stack is the layer.
            encoder_outputs = None if self.combination.mode == "stack" else mask
        masks = {"encoder_outputs": encoder_outputs, "sequence_output": mask, "mask": None}
        if self.has_pooler:
            masks["pooled_output"] = None
        if self.return_attention_scores:
            masks["attention_scores"] = None
        return masks

    def compute_output_spec(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        names = HUGGINGFACE_NAMES if HUGGINGFACE_NAMES[0] in inputs else TFHUB_NAMES
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

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        policy = self.dtype_policy
        is_map = isinstance(policy, keras.dtype_policies.DTypePolicyMap)
        policies = keras.dtype_policies.DTypePolicyMap(policy.default_policy if is_map else policy)
        for path, layer in self._sublayers().items():
            own = policy[f"{self.path or self.name}/{path}"] if is_map else layer.dtype_policy
            if own != policies.default_policy:
                policies[path] = own
        if len(policies):
            config["dtype"] = keras.dtype_policies.serialize(policies)
        combine = self.combine
        return {
            **config,
            "layers": self.layers,
            "combine": keras.saving.serialize_keras_object(combine),
            "trainable": any(layer.trainable for layer in self.pretrained_layers),
            "return_attention_scores": self.return_attention_scores,
            "frozen_layers": [layer.name for layer in self._freezable_layers() if not layer.trainable],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LayerwiseEncoder":
        config = dict(config)
        frozen = config.pop("frozen_layers", [])
        if isinstance(config.get("combine"), dict):
            config["combine"] = keras.saving.deserialize_keras_object(config["combine"])
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = keras.dtype_policies.deserialize(config["dtype"])
        policies = config.get("dtype")
        if isinstance(policies, keras.dtype_policies.DTypePolicyMap):
            config["dtype"] = policies.default_policy
        encoder = cls(**config)
        if isinstance(policies, keras.dtype_policies.DTypePolicyMap):
            # Each sublayer gets its own policy: one that looks itself up in a map cannot be saved once it is quantised.
            sublayers = encoder._sublayers()
            for path, policy in policies.items():
                sublayers[path].dtype_policy = policy
        for layer in encoder._freezable_layers():
            if layer.name in frozen:
                layer.trainable = False
        return encoder

    def _sublayers(self) -> dict[str, keras.layers.Layer]:
        """All layers inside, by their paths below this one."""
        found = {}
        unseen: list[tuple[str, keras.layers.Layer]] = [("", self)]
        while unseen:
            prefix, parent = unseen.pop()
            for layer in parent._layers:
                found[f"{prefix}{layer.name}"] = layer
                unseen.append((f"{prefix}{layer.name}/", layer))
        return found

    def _freezable_layers(self) -> list[keras.layers.Layer]:
        # The encoder itself first: freezing it freezes the others.
        return [self, *self.pretrained_layers, *([] if self.combination is None else [self.combination])]
