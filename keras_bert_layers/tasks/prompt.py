from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor


@keras.saving.register_keras_serializable(package="keras_bert_layers")
class Prompt(keras.layers.Layer):
    """Puts one of a model's prompts before each text: `"query: "` and `"how"` make `"query: how"`.

    Args:
        prompts: the prompts by name.
        prompt_name: the one that is used; None uses none.
        **kwargs: `name` of `keras.layers.Layer`.

    Call arguments:
        texts: string tensor `[batch]`.

    Returns:
        A string tensor `[batch]`.

    Raises:
        ValueError: if there is no prompt of that name.

    Example:

    >>> Prompt({"query": "query: "}, "query")(tf.constant(["how"]))
    <tf.Tensor: shape=(1,), dtype=string, numpy=array([b'query: how'], dtype=object)>
    """

    def __init__(self, prompts: Mapping[str, str], prompt_name: str | None, **kwargs: Any):
        super().__init__(**kwargs)
        # String operations have no XLA kernels.
        self.supports_jit = False
        self.prompts = checked_prompts(prompts)
        self.prompt_name = prompt_name
        self.prompt = chosen_prompt(self.prompts, prompt_name)

    def call(self, texts: Any) -> Any:
        with tf.device("CPU:0"):
            return tf.strings.join([self.prompt, texts])

    def compute_output_spec(self, texts: Any) -> KerasTensor:
        return KerasTensor(texts.shape, "string")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "prompts": self.prompts, "prompt_name": self.prompt_name}


def checked_prompts(prompts: Any, where: str = "`prompts`") -> dict[str, str]:
    """Returns a dict of prompts by name.

    Args:
        prompts: the dict.
        where: what the error calls it.

    Raises:
        TypeError: if it is something else.

    Example:

    >>> checked_prompts(["query: "])
    Traceback (most recent call last):
    TypeError: Expected `prompts` to be texts by name. Received: ['query: '].
    """
    is_dict = isinstance(prompts, Mapping)
    if not is_dict or not all(isinstance(text, str) for text in (*prompts, *prompts.values())):
        raise TypeError(f"Expected {where} to be texts by name. Received: {str(prompts)[:200]}.")
    return dict(prompts)


def chosen_prompt(prompts: Mapping[str, str], prompt_name: str | None) -> str:
    """Returns the prompt of a name, or no text for None.

    Raises:
        ValueError: if there is no prompt of that name.

    Example:

    >>> chosen_prompt({"query": "query: "}, "query")
    'query: '
    """
    if prompt_name is None:
        return ""
    if not isinstance(prompt_name, str) or prompt_name not in prompts:
        raise ValueError(
            f"Expected `prompt_name` to be the name of one of the model's prompts, {list(prompts)}, or None. "
            f"Received: prompt_name={prompt_name!r}. Where the files of a model hold none, give those that its page "
            'names: kbl.tasks.from_pretrained(..., prompts={"query": "query: "}).'
        )
    return prompts[prompt_name]
