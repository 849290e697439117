import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.encoders.accumulator import Accumulator
from keras_bert_layers.encoders.input_checks import check_ids, check_shapes, out_of_range
from keras_bert_layers.encoders.padding_removal import compiled_by_xla
from keras_bert_layers.keras_compatibility import called_on_placeholders, check_saved_dtype, refuse_legacy_tensors
from keras_bert_layers.layers.layer_combination import COMBINE_MODES, LayerCombination
from keras_bert_layers.layers.layer_selection import select_layers

# (token ids, attention mask, segment ids) as TensorFlow Hub and as Hugging Face name them.
TFHUB_NAMES = ("input_word_ids", "input_mask", "input_type_ids")
HUGGINGFACE_NAMES = ("input_ids", "attention_mask", "token_type_ids")
# What a preprocessor may add for layers that come after the encoder.
_IGNORED_NAMES = re.compile(r"offsets|word_ids|special_tokens_mask|window_.*")


def check_flags(**flags: Any) -> None:
    """Refuses arguments that are neither True nor False, of which any text would count as True.

    Args:
        **flags: the arguments.

    Raises:
        TypeError: for the first that is no bool.
    """
    for argument, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"Expected `{argument}` to be True or False. Received: {argument}={flag!r}.")


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
    calls `set_layers`, which builds it; and, where it knows them, the rows of its tables of embeddings (`vocab_size`,
    `type_vocab_size`, `max_positions`).

    Args:
        dtype: a dtype policy, or the dict of one from `get_config`.
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

    def __init__(self, dtype: Any = None, name: str | None = None):
        policies: dict[str, Any] = {}
        if isinstance(dtype, dict):
            dtype = keras.dtype_policies.deserialize(dtype)
            if isinstance(dtype, keras.dtype_policies.DTypePolicyMap):
                policies, dtype = dict(dtype), dtype.default_policy
        super().__init__(dtype=dtype, name=name)
        # Not tracked, as an attribute of a layer would be.
        object.__setattr__(self, "_sublayer_policies", policies)

    def set_layers(
        self,
        layers: int | str | Iterable[int],
        combine: str | LayerCombination | None,
        trainable: bool,
        return_attention_scores: bool,
    ) -> None:
        """Checks and keeps the arguments that all encoders share, and builds; the last step of a constructor.

        A model that is loaded is built by Keras on placeholders, if it is: whatever it does to these, the encoder is
        there to take its weights.
        """
        check_flags(trainable=trainable, return_attention_scores=return_attention_scores)
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
        for path, policy in self._sublayer_policies.items():
            # Each sublayer gets its own: one that looks itself up in a map cannot be saved once it is quantised.
            self._sublayer(path).dtype_policy = policy
        self.build()

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
            if combination is None or not combination.has_sequence_axis:
                if number in selected:
                    kept[number] = states
                return states
            if not accumulators:
                accumulators.extend(Accumulator(combination, len(selected), training) for _ in states)
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
        return self._mark_wrong_rows(outputs, mask, token_ids, segment_ids) if compiled_by_xla() else outputs

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
        if not isinstance(inputs, Mapping):
            # Keras's TimeDistributed comes here without a call.
            self._check_inputs(inputs)
        names = HUGGINGFACE_NAMES if HUGGINGFACE_NAMES[0] in inputs else TFHUB_NAMES
        given = {name: tf.convert_to_tensor(inputs[name]) for name in names if name in inputs}
        is_checked = not compiled_by_xla()
        if is_checked:
            given = check_shapes(given, self.max_positions)
        mask = self._mask(given)
        # A number beyond 32 bits must not become a small one.
        ids = {name: tf.saturate_cast(given[name], "int32") for name in (names[0], names[2]) if name in given}
        if is_checked:
            ids = check_ids(ids, mask, {names[0]: self.vocab_size, names[2]: self.type_vocab_size})
        token_ids = ids[names[0]]
        return token_ids, mask, ids.get(names[2], tf.zeros_like(token_ids))

    def _mark_wrong_rows(self, outputs: dict[str, Any], mask: Any, token_ids: Any, segment_ids: Any) -> dict[str, Any]:
        """Makes NaN of the outputs of rows whose ids are in no table."""
        limits = ((token_ids, self.vocab_size), (segment_ids, self.type_vocab_size))
        wrong = [tf.reduce_any(out_of_range(ids, mask, limit), axis=1) for ids, limit in limits if limit is not None]

        def mark(output: Any) -> Any:
            rows = tf.reshape(tf.reduce_any(tf.stack(wrong), axis=0), [-1, *[1] * (len(output.shape) - 1)])
            return tf.where(rows, tf.constant(math.nan, output.dtype), output) if output.dtype.is_floating else output

        return keras.tree.map_structure(mark, outputs) if wrong else outputs

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
            encoder_outputs = mask if self.combination.has_sequence_axis else None
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

    def compute_output_shape(self, input_shape: Any) -> dict[str, Any]:
        if not isinstance(input_shape, Mapping):
            raise ValueError(
                f"{type(self).__name__} expects the shapes of a dict of ids. Received: input_shape={input_shape!r}. "
                "TimeDistributed and other layers that wrap one for a single tensor take a model from ids to vectors: "
                "TimeDistributed(keras.Model(ids, vectors))."
            )
        ids = {name: KerasTensor(shape, "int32") for name, shape in input_shape.items()}
        return keras.tree.map_structure(lambda output: output.shape, self.compute_output_spec(ids))

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
        lora = {
            path: [layer.lora_rank, layer.lora_alpha]
            for path, layer in self._sublayers().items()
            if getattr(layer, "lora_enabled", False)
        }
        if lora:
            config["lora"] = lora
        return {
            **config,
            "layers": self.layers,
            "combine": keras.saving.serialize_keras_object(combine),
            "trainable": any(layer.trainable for layer in self.pretrained_layers),
            "return_attention_scores": self.return_attention_scores,
            "frozen_layers": [path for path, layer in self._freezable_layers().items() if not layer.trainable],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LayerwiseEncoder":
        check_saved_dtype(cls.__name__, config)
        config = dict(config)
        frozen, lora = config.pop("frozen_layers", []), config.pop("lora", {})
        is_whole = isinstance(frozen, (list, tuple)) and isinstance(lora, dict)
        if not is_whole or not all(isinstance(value, (list, tuple)) and len(value) == 2 for value in lora.values()):
            raise ValueError(
                f"A configuration of {cls.__name__} is expected to have `frozen_layers` as a list of names, and `lora` "
                f"as rank and alpha by name. Received: frozen_layers={str(frozen)[:200]!r}, lora={str(lora)[:200]!r}. "
                "The file is damaged or of another version."
            )
        if isinstance(config.get("combine"), dict):
            config["combine"] = keras.saving.deserialize_keras_object(config["combine"])
        encoder = cls(**config)
        for path, (rank, alpha) in lora.items():
            layer = encoder._sublayer(path)
            most = max((max(variable.shape, default=1) for variable in layer.variables), default=0)
            if not hasattr(layer, "enable_lora") or not isinstance(rank, int) or not 1 <= rank <= most:
                raise ValueError(
                    f"A configuration of {cls.__name__} is expected to have layers with LoRA of a rank from 1 to the "
                    f"size of their weights. Received: lora={{{path!r}: rank {rank!r}}}. The file is damaged or of "
                    "another version."
                )
            layer.enable_lora(rank, lora_alpha=alpha)
        for path, layer in encoder._freezable_layers().items():
            if layer.trainable == (path in frozen):
                layer.trainable = path not in frozen
        return encoder

    def _sublayer(self, path: str) -> keras.layers.Layer:
        sublayers = self._sublayers()
        if path not in sublayers:
            raise ValueError(
                f"A configuration of {type(self).__name__} is expected to name its sublayers, such as "
                f"{next(iter(sublayers))!r}. Received: {path!r}. The file is damaged or of another version."
            )
        return sublayers[path]

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

    def _freezable_layers(self) -> dict[str, keras.layers.Layer]:
        # The outer layers first: freezing one freezes those inside.
        return {"": self} | {path: layer for path, layer in self._sublayers().items() if layer.weights}
