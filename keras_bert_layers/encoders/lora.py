"""The layers with weights that LoRA can train, such that what was trained comes back from a file."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_bert_layers.keras_compatibility import sublayers


class _KeepsLora(keras.layers.Layer):
    """Saves the two matrices of LoRA (Hu et al. 2021) beside the frozen weights, and keeps all but them frozen.

    Keras adds their product to the weight when it saves, and loads zeros for both, with which neither gets a gradient.
    Here that is added where a layer without LoRA loads them.
    """

    lora_enabled: bool
    _refusal = ""

    @property
    def trainable(self) -> bool:
        return keras.layers.Layer.trainable.fget(self)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)
        self._freeze_all_but_lora()

    def enable_lora(self, rank: int, **kwargs: Any) -> None:
        super().enable_lora(rank, **kwargs)
        # In a layer that is frozen Keras leaves the matrices frozen too. Not by assignment, which TensorFlow skips
        # where it changes nothing.
        keras.layers.Layer.trainable.fset(self, True)
        self._freeze_all_but_lora()

    def _freeze_all_but_lora(self) -> None:
        if getattr(self, "lora_enabled", False):
            for variable in self.variables:
                if not variable.name.startswith("lora_"):
                    variable.trainable = False

    def save_own_variables(self, store: Any) -> None:
        enabled, self.lora_enabled = self.lora_enabled, False
        try:
            super().save_own_variables(store)
        finally:
            self.lora_enabled = enabled
        if enabled:
            store["lora_scale"] = np.float32(self.lora_alpha / self.lora_rank)
            for variable in self._lora_matrices():
                store[variable.name] = variable

    def load_own_variables(self, store: Any) -> None:
        values = {name: store[name] for name in store.keys()}  # noqa: SIM118 - a store is no dict
        lora = {name: values.pop(name) for name in list(values) if name.startswith("lora_")}
        # Keras comes again to a layer that refused, by another path, under which the file has nothing, and then shows
        # that failure: it is to be the same.
        if lora and not self.lora_enabled and self.dtype_policy.quantization_mode is not None:
            self._refusal = (
                f"Expected weights without LoRA for the quantised layer {self.path!r}. Received: a file with "
                f"{', '.join(lora)}. Call `encoder.enable_lora(rank)` with the rank of that file first."
            )
        elif values:
            self._refusal = ""
        if self._refusal:
            raise ValueError(self._refusal)
        before = [ops.copy(variable.value) for variable in self._lora_matrices()]
        super().load_own_variables(values)
        for variable, value in zip(self._lora_matrices(), before, strict=True):
            # In a file without LoRA the product is zero, and one of its factors is not, or neither would ever change.
            variable.assign(lora[variable.name] if lora else value if variable.name.endswith("_a") else 0 * value)
        if lora and not self.lora_enabled:
            first, second = (np.array(lora[name]) for name in sorted(lora) if name != "lora_scale")
            weight = next(variable for variable in self.variables if variable.shape == (len(first), second.shape[1]))
            weight.assign_add(np.array(lora["lora_scale"]) * first @ second)

    def _lora_matrices(self) -> list[keras.Variable]:
        return [variable for variable in self.variables if variable.name.startswith("lora_")]

    def quantize(self, mode: Any = None, type_check: bool = True, **kwargs: Any) -> None:
        # Keras quantises no subclasses unless it is told to.
        super().quantize(mode, type_check=False, **kwargs)


class Dense(_KeepsLora, keras.layers.Dense):
    """Keras's dense layer, which keeps its LoRA."""


class Embedding(_KeepsLora, keras.layers.Embedding):
    """Keras's embedding, which keeps its LoRA and takes no negative ids.

    Keras counts those from the end of the table.
    """

    def call(self, inputs: Any) -> Any:
        return tf.cast(tf.gather(ops.convert_to_tensor(self.embeddings), inputs), self.compute_dtype)


def merged_weight(layer: Any) -> Any:
    """The weight of a `Dense` or an `Embedding` here, with LoRA's change of it if there is one; float32, NumPy's."""
    # Keras adds the product of the two matrices where it is asked for the weight.
    weight = layer.embeddings if isinstance(layer, Embedding) else layer.kernel
    return ops.convert_to_numpy(ops.cast(weight, "float32"))


def has_lora(layer: keras.layers.Layer) -> bool:
    """Whether LoRA is on in a layer or in one inside it."""
    return getattr(layer, "lora_enabled", False) or any(has_lora(inner) for inner in sublayers(layer))


def freeze_all_but_lora(layers: Iterable[keras.layers.Layer]) -> None:
    """Freezes what these layers hold, but for the matrices of LoRA."""
    for layer in layers:
        inside = sublayers(layer)
        layer.trainable = bool(inside) or getattr(layer, "lora_enabled", False)
        freeze_all_but_lora(inside)
