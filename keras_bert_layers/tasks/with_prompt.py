from typing import Any

import keras

from keras_bert_layers.tasks.prompt import Prompt
from keras_bert_layers.tasks.prompt_mask import PromptMask


def with_prompt(model: keras.Model, prompt_name: str | None) -> keras.Model:
    """Returns a sentence model that puts another prompt before its texts.

    All layers with weights are those of the model that was given: what one learns, the other knows.

    Args:
        model: a model of `kbl.tasks.from_pretrained`.
        prompt_name: the name of one of its prompts, such as `"query"` or `"document"`; None is no prompt.

    Returns:
        The functional model.

    Raises:
        ValueError: if the model has no prompt of that name.

    Example:

    ```python
    model = kbl.tasks.from_pretrained("intfloat/e5-small-v2", prompts={"query": "query: ", "document": "passage: "})
    query = kbl.tasks.with_prompt(model, "query")
    kbl.export_saved_model(model, "serving/e5/1", signatures={"embed_query": query})
    ```
    """
    if not any(isinstance(layer, Prompt) for layer in model.layers):
        raise ValueError(
            f"Expected a sentence model with prompts. Received: {model.name!r}, which has none. Give those that the "
            'model\'s page names: kbl.tasks.from_pretrained(..., prompts={"query": "query: "}).'
        )

    def same_but_prompt(layer: Any) -> Any:
        if isinstance(layer, (Prompt, PromptMask)):
            return type(layer).from_config({**layer.get_config(), "prompt_name": prompt_name})
        return layer

    return keras.models.clone_model(model, clone_function=same_but_prompt)
