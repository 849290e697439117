"""The layers with weights that LoRA can train, such that what was trained comes back from a file."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops


class _KeepsLora(keras.layers.Layer):
    """Saves the two matrices of LoRA (Hu et al. 2021) beside the frozen weights, and keeps all but them frozen.

    Keras adds their product to the weight when it saves, and loads zeros for both, with which neither gets a gradient.
    """

    lora_enabled: bool

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
        type(self).trainable.fset(self, True)

    def _freeze_all_but_lora(self) -> None:
        if getattr(self, "lora_enabled", False):
            for variable in self.variables:
                if not variable.name.startswith("lora_"):
                    variable.trainable = False

    def _lora_matrices(self) -> dict[str, keras.Variable]:
        return {variable.name: variable for variable in self.variables if variable.name.startswith("lora_")}

    def save_own_variables(self, store: Any) -> None:
        enabled, self.lora_enabled = self.lora_enabled, False
        try:
            super().save_own_variables(store)
        finally:
            self.lora_enabled = enabled
        for name, variable in self._lora_matrices().items():
            store[name] = variable

    def load_own_variables(self, store: Any) -> None:
        saved = [name for name in store.keys() if name.startswith("lora_")]  # noqa: SIM118 - a store is no dict
        if saved and not self.lora_enabled:
            raise ValueError(
                f"Expected weights without LoRA for the layer {self.path!r}. Received: a file with {', '.join(saved)}. "
                "Call `encoder.enable_lora(rank)` with the rank of that file before its weights are loaded."
            )
        before = {name: ops.copy(variable.value) for name, variable in self._lora_matrices().items()}
        super().load_own_variables(store)
        for name, variable in self._lora_matrices().items():
            if saved:
                variable.assign(store[name])
            elif name.endswith("_a"):
                # Of a file without LoRA the second matrix is zero, and the first is what it is before training.
                variable.assign(before[name])

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
