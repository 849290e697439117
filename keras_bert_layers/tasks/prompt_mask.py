from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class PromptMask(keras.layers.Layer):
    """Leaves [CLS] and the prompt out of a mask, for models that do not pool them (`include_prompt: false`).

    Args:
        prompt_lengths: how many tokens each prompt has with [CLS], by the prompt's name.
        prompt_name: the prompt that stands before each text; None is none.
        **kwargs: `name` of `keras.layers.Layer`.

    Call arguments:
        mask: bool tensor `[batch, sequence]`.

    Returns:
        A bool tensor `[batch, sequence]`.

    Example:

    >>> PromptMask({"query": 2}, "query")(tf.constant([[True, True, True, False]])).numpy().tolist()
    [[False, False, True, False]]
    """

    def __init__(self, prompt_lengths: Mapping[str, int], prompt_name: str | None, **kwargs: Any):
        super().__init__(**kwargs)
        self.prompt_lengths = dict(prompt_lengths)
        self.prompt_name = prompt_name

    def call(self, mask: Any) -> Any:
        mask = tf.cast(mask, "bool")
        if self.prompt_name is None:
            return mask
        return mask & (tf.range(tf.shape(mask)[1]) >= self.prompt_lengths[self.prompt_name])

    def compute_output_spec(self, mask: Any) -> keras.KerasTensor:
        return keras.KerasTensor(mask.shape, "bool")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "prompt_lengths": self.prompt_lengths, "prompt_name": self.prompt_name}
