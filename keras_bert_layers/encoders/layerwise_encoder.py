from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.encoders.encoder_contract import EncoderContract
from keras_bert_layers.encoders.layer_collector import CollectedLayers, LayerCollector
from keras_bert_layers.keras_compatibility import check_saved_dtype, compiled_by_xla, sublayers
from keras_bert_layers.layers.layer_combination import COMBINE_MODES, LayerCombination
from keras_bert_layers.layers.layer_selection import select_layers


def check_flags(**flags: Any) -> None:
    """Refuses arguments that are neither True nor False: any text, even "False", would count as True.

    Args:
        **flags: the arguments.

    Raises:
        TypeError: for the first that is no bool.
    """
    for argument, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"Expected `{argument}` to be True or False. Received: {argument}={flag!r}.")


class EncoderStates(NamedTuple):
    """What a run of an encoder gives, zero at padding.

    Attributes:
        states: number of the layer -> `[batch, sequence, hidden]`: those that the collector kept.
        combined: of each combination of the collector, `[batch, sequence, ...]`.
        pooled_output: `[batch, hidden]`, or None.
    """

    states: Mapping[int, Any]
    combined: list[Any]
    pooled_output: Any


class LayerwiseEncoder(EncoderContract):
    """An encoder that gives out any of its layers, or a combination of them, and can be saved.

    A subclass says how to run its BERT (`run`) and which of its sublayers hold pretrained weights
    (`pretrained_layers`). Its constructor sets `num_layers`, `hidden_size`, `num_heads`, `has_embeddings`, `has_pooler`
    and, where it knows them, how many rows its tables of embeddings have (`vocab_size`, `type_vocab_size`,
    `max_positions`), and calls `finish_init` last. For inputs and outputs see `EncoderContract`.

    Args:
        dtype: a dtype policy, or the dict of one from `get_config`.
        name: name of the layer.
    """

    def __init__(self, dtype: Any = None, name: str | None = None):
        policies: dict[str, Any] = {}
        if isinstance(dtype, dict):
            dtype = keras.dtype_policies.deserialize(dtype)
            if isinstance(dtype, keras.dtype_policies.DTypePolicyMap):
                policies, dtype = dict(dtype), dtype.default_policy
        super().__init__(dtype=dtype, name=name)
        # Past the layer's own `__setattr__`, which would track the dict.
        object.__setattr__(self, "_sublayer_policies", policies)

    def finish_init(
        self,
        layers: int | str | Iterable[int],
        combine: str | LayerCombination | None,
        trainable: bool,
        return_attention_scores: bool,
    ) -> None:
        """Checks and keeps the arguments that all encoders share, and builds; the last step of a constructor.

        It does not wait for the first call to build: a loaded model gets its weights with no call before, or with one
        on Keras's placeholders, whose errors Keras ignores.
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
            # A policy of its own for each sublayer: one that looks itself up in a map cannot be saved once quantised.
            self._sublayer(path).dtype_policy = policy
        self.build()

    def run(
        self, token_ids: Any, mask: Any, segment_ids: Any, collector: LayerCollector, training: bool
    ) -> EncoderStates:
        """Runs the encoder.

        Args:
            token_ids: int32 `[batch, sequence]`.
            mask: bool `[batch, sequence]`, true on real tokens.
            segment_ids: int32 `[batch, sequence]`.
            collector: its `start()` takes the layers, from the lowest to the last, as they come.
            training: whether dropout is on.
        """
        raise NotImplementedError

    def _zero_at_padding(self, collected: CollectedLayers, mask: Any, pooled_output: Any) -> EncoderStates:
        """Returns the states of a wrapped model with zeros at padding, where it has states too."""
        states, combined = tf.nest.map_structure(
            lambda state: tf.where(mask[..., None], tf.cast(state, self.compute_dtype), 0), tuple(collected)
        )
        return EncoderStates(states, combined, pooled_output)

    def build(self, input_shape: Any = None) -> None:
        for layer in self.pretrained_layers:
            if not layer.built:
                layer.build((None, self.hidden_size))
        if self.combination is not None:
            if not self.combination.built:
                self.combination.build([(None, None, self.hidden_size)] * len(self.selected_layers))
            self.combination.check_count(len(self.selected_layers))

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        token_ids, mask, segment_ids = self._standardize(inputs)
        selected, combination = self.selected_layers, self.combination
        # All modes but the stack combine tokens without padding, while the layers run. A list and a stack are made
        # afterwards, of states `[batch, sequence, hidden]`.
        while_running = [] if combination is None or not combination.has_sequence_axis else [(combination, selected)]
        collector = LayerCollector(
            self.num_layers,
            keep=[] if while_running else selected,
            combine=while_running,
            keep_scores=selected if self.return_attention_scores else [],
            training=bool(training),
        )
        states, combined, pooled_output = self.run(token_ids, mask, segment_ids, collector, bool(training))
        outputs = {"sequence_output": states[self.num_layers], "mask": mask}
        if while_running:
            encoder_outputs = combined[0]
        else:
            encoder_outputs = [states[number] for number in selected]
            if combination is not None:
                encoder_outputs = combination(encoder_outputs)
        if combination is not None:
            # A LayerCombination of the user's own may have another policy.
            encoder_outputs = tf.cast(encoder_outputs, self.compute_dtype)
        outputs["encoder_outputs"] = encoder_outputs
        if self.has_pooler:
            outputs["pooled_output"] = tf.cast(pooled_output, self.compute_dtype)
        if self.return_attention_scores:
            stacked = tf.stack([collector.attention_scores[layer] for layer in selected], axis=1)
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
        collector = LayerCollector(self.num_layers, keep=numbers)
        states = self.run(*self._standardize(inputs), collector, training).states
        return [states[number] for number in numbers]

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
            "combine": keras.saving.serialize_keras_object(self.combine),
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
            for layer in sublayers(parent):
                found[f"{prefix}{layer.name}"] = layer
                unseen.append((f"{prefix}{layer.name}/", layer))
        return found

    def _freezable_layers(self) -> dict[str, keras.layers.Layer]:
        # The outer layers first: to freeze or thaw one does the same to those inside.
        return {"": self} | {path: layer for path, layer in self._sublayers().items() if layer.weights}
