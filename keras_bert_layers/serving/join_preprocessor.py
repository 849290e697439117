from typing import Any

import keras

from keras_bert_layers.serving.model_steps import check_functional
from keras_bert_layers.text.text_preprocessor import TextPreprocessor
from keras_bert_layers.token_inputs import HUGGINGFACE_NAMES, TFHUB_NAMES

INPUTS = ("text", "pair", "words")


def join_preprocessor(
    preprocessor: TextPreprocessor | keras.Model, model: keras.Model, inputs: str | None
) -> keras.Model:
    """Puts a preprocessor before a model on ids; inputs of the model that it does not make stay inputs.

    Args:
        preprocessor, inputs: as `export_saved_model` takes them.
        model: with inputs of either family of names.

    Returns:
        A functional model on texts, with the outputs of `model` in their flat order.

    Raises:
        ValueError: if the two do not fit.
    """
    texts: Any
    if inputs not in (None, *INPUTS):
        raise ValueError(f"Expected `inputs` to be one of {', '.join(INPUTS)}. Received: inputs={inputs!r}.")
    if isinstance(preprocessor, TextPreprocessor):
        inputs = preprocessor.export_inputs if inputs is None else inputs
        names = ["text_a", "text_b"] if inputs == "pair" else ["text"]
        shape = (None,) if inputs == "words" else ()
        texts = [keras.Input(shape=shape, dtype="string", name=name) for name in names]
        made = preprocessor(tuple(texts) if inputs == "pair" else texts[0])
    else:
        check_functional("preprocessor", preprocessor)
        texts, made = preprocessor.inputs, preprocessor.output
        if inputs is not None or not isinstance(made, dict):
            raise ValueError(
                "Expected `preprocessor` to be a BertPreprocessor, or a functional model that gives its dict and says "
                f"by its own keras.Input tensors what it takes. Received: preprocessor of class "
                f"{type(preprocessor).__name__}, whose output is of type {type(made).__name__}, and inputs={inputs!r}. "
                "Give the layer itself, or leave out `inputs`."
            )
    others, values = [], []
    for tensor in model.inputs:
        name = tensor.name
        key = TFHUB_NAMES[HUGGINGFACE_NAMES.index(name)] if name in HUGGINGFACE_NAMES else name
        if key in made:
            value = made[key]
            if None not in (value.shape[1], tensor.shape[1]) and value.shape[1] != tensor.shape[1]:
                raise ValueError(
                    f"The model expects {name!r} of {tensor.shape[1]} tokens, and the preprocessor makes "
                    f"{value.shape[1]}. Received: sequence_length={value.shape[1]}. "
                    f"Give a preprocessor with sequence_length={tensor.shape[1]}, or make the model on "
                    "keras.Input((None,), dtype='int32')."
                )
            values.append(value if value.dtype == tensor.dtype else keras.ops.cast(value, tensor.dtype))
        else:
            others.append(keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name))
            values.append(others[-1])
    if len(others) == len(values):
        raise ValueError(
            f"With `preprocessor`, export_saved_model expects a model on ids whose inputs are named {TFHUB_NAMES} or "
            f"{HUGGINGFACE_NAMES}. Received: a model with the inputs {[tensor.name for tensor in model.inputs]}. "
            "Name the keras.Input tensors so; a model that takes texts needs no `preprocessor`."
        )
    outputs = model(keras.tree.pack_sequence_as(model.input, values))
    return keras.Model([*texts, *others], outputs)
