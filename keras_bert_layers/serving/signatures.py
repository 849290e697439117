"""The signatures of an export: one function each, from the model to what the signature takes, computes and gives."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor

from keras_bert_layers.layers.sequence_pooling import SequencePooling
from keras_bert_layers.layers.word_pooling import WordPooling
from keras_bert_layers.serving.model_steps import call_step
from keras_bert_layers.serving.pruned_function import PrunedFunction, Tensors
from keras_bert_layers.serving.served_model import ServedModel, specs
from keras_bert_layers.serving.signature import Signature
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor


def serving_default(served: ServedModel) -> Signature:
    """The model's inputs -> its outputs."""
    return _model_outputs(served, served.inputs, served.tokenize if served.text_inputs else None)


def ids(served: ServedModel) -> Signature:
    """What the model makes of texts -> its outputs, for clients that tokenise."""
    numbers = {name: tensor for name, tensor in served.inputs.items() if name not in served.text_inputs}
    return _model_outputs(served, served.host_outputs | numbers, None)


def tokenize(served: ServedModel) -> Signature:
    """Texts -> what the preprocessor makes of them."""
    _check_one_preprocessor(served, "tokenize")
    return Signature(specs(served.text_inputs), served.tokenize, returned_as_is=tuple(served.host_outputs))


def embed(served: ServedModel) -> Signature:
    """Texts -> one vector for each."""
    _check_one_encoder(served, "embed")
    poolings = [step for step in served.dense_steps if isinstance(step.operation, SequencePooling)]
    vector = served.outputs.get("embedding", poolings[0].outputs[0] if len(poolings) == 1 else None)

    def encode(**given: tf.Tensor) -> Tensors:
        if vector is not None and len(vector.shape) == 2:
            return served.run({"embedding": vector}, given)
        states, mask = _token_states(served, given)
        return {"embedding": SequencePooling("mean")(states, mask=mask)}

    return Signature(specs(served.text_inputs), served.tokenize, encode)


def layers(served: ServedModel) -> Signature:
    """Texts -> the states of the encoder's selected layers, not combined."""
    _check_one_encoder(served, "layers")
    step = served.encoders[0]
    encoder = step.operation

    def encode(**given: tf.Tensor) -> Tensors:
        values = served.values(step.inputs, given)
        arguments, _ = step.arguments.fill_in(values)
        states = encoder.hidden_states(arguments[0], encoder.selected_layers)
        return {"layers": tf.stack(states, axis=1), "mask": call_step(step, values)["mask"]}

    return Signature(specs(served.text_inputs), served.tokenize, encode)


def tokens(served: ServedModel) -> Signature:
    """Texts -> the state of each token, and where in the text it stands."""
    _check_one_encoder(served, "tokens")
    texts = _preprocessor_inputs(served)
    returned = ["offsets"]
    returned += ["input_type_ids"] if len(texts) > 1 else []
    returned += ["word_ids"] if _are_words(texts) else []

    def encode(**given: tf.Tensor) -> Tensors:
        states, mask = _token_states(served, given)
        return {"token_states": states, "mask": mask}

    tokenize_in_detail = _tokenize_in_detail(served, "tokens", _are_words(texts), offsets="characters")
    return Signature(specs(served.text_inputs), tokenize_in_detail, encode, tuple(returned))


def words(served: ServedModel) -> Signature:
    """Texts -> the state of each word."""
    _check_one_encoder(served, "words")
    poolings = [step.operation for step in served.dense_steps if isinstance(step.operation, WordPooling)]
    pooling = WordPooling(poolings[0].mode if len(poolings) == 1 else "mean")
    segments = [("", None)] if len(_preprocessor_inputs(served)) == 1 else [("_a", 0), ("_b", 1)]

    def encode(**given: tf.Tensor) -> Tensors:
        states, _ = _token_states(served, given)
        outputs = {}
        for ending, segment in segments:
            # Looked up, not taken out: the model may have them as an input.
            word_ids = given["word_ids"]
            if segment is not None:
                word_ids = tf.where(given["input_type_ids"] == segment, word_ids, -1)
            pooled = pooling(states, word_ids)
            outputs[f"word_states{ending}"] = pooled["word_outputs"]
            outputs[f"word_mask{ending}"] = pooled["word_mask"]
        return outputs

    return Signature(specs(served.text_inputs), _tokenize_in_detail(served, "words", word_ids=True), encode)


SIGNATURES: dict[str, Callable[[ServedModel], Signature]] = {
    "serving_default": serving_default,
    "embed": embed,
    "tokens": tokens,
    "layers": layers,
    "words": words,
    "ids": ids,
    "tokenize": tokenize,
}


def _model_outputs(
    served: ServedModel, inputs: Mapping[str, KerasTensor], tokenize: PrunedFunction | None
) -> Signature:
    strings = served.string_outputs
    encoded = {name: x for name, x in served.outputs.items() if name not in strings} | served.string_sources

    def encode(**given: tf.Tensor) -> Tensors:
        return served.run(encoded, given)

    def make_strings(**given: tf.Tensor) -> Tensors:
        values = served.values(strings.values(), given)
        # Where ids are the inputs, nothing is known that is made of the text itself.
        return {name: values[id(tensor)] for name, tensor in strings.items() if id(tensor) in values}

    return Signature(
        specs(inputs),
        tokenize,
        encode if encoded else None,
        make_strings=make_strings if strings else None,
        for_strings=tuple(served.string_sources),
    )


def _tokenize_in_detail(served: ServedModel, name: str, word_ids: bool, offsets: str | None = None) -> PrunedFunction:
    """Texts -> what the preprocessor makes of them, and what the model did not ask it for."""
    step = served.preprocessors[0]
    preprocessor = step.operation
    if not isinstance(preprocessor, BertPreprocessor):
        raise ValueError(
            f"The signature {name!r} expects a BertPreprocessor, which knows where tokens and words stand. "
            f"Received: a preprocessor of class {type(preprocessor).__name__}."
        )
    if len(_preprocessor_inputs(served)) > 1 and preprocessor.tokenizer.pair_format == "roberta":
        raise ValueError(
            f"The signature {name!r} expects pairs whose texts have type ids of their own. Received: a tokenizer "
            "with pair_format='roberta', which gives both type 0. Leave it out of `signatures`."
        )
    detailed_preprocessor = preprocessor.with_arguments(
        return_offsets=preprocessor.return_offsets or offsets,
        return_word_ids=preprocessor.return_word_ids or word_ids,
    )

    def tokenize(**texts: tf.Tensor) -> Tensors:
        arguments, _ = step.arguments.fill_in(served.values(step.inputs, texts))
        return detailed_preprocessor(*arguments)

    return PrunedFunction(tokenize, specs(served.text_inputs))


def _token_states(served: ServedModel, given: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
    """The encoder's token states `[batch, sequence, hidden]`, several layers as their mean, and the mask."""
    step = served.encoders[0]
    outputs = call_step(step, served.values(step.inputs, given))
    states = outputs["encoder_outputs"]
    combination = step.operation.combination
    if isinstance(states, (list, tuple)):
        states = states[0] if len(states) == 1 else tf.add_n(list(states)) / len(states)
    elif combination is not None and not combination.has_sequence_axis:
        states = tf.reduce_mean(states, axis=1)
    if len(states.shape) != 3:
        raise ValueError(
            "The signatures embed, tokens and words expect an encoder that gives one row of states for each text. "
            f"Received: encoder_outputs of shape {tuple(states.shape)}. Merge the windows: "
            'WindowedEncoder(..., merge="max_context").'
        )
    return states, outputs["mask"]


def _check_one_preprocessor(served: ServedModel, name: str) -> None:
    if len(served.preprocessors) != 1:
        raise ValueError(
            f"The signature {name!r} takes texts and expects a model with one preprocessor that is called once. "
            f"Received: a model with {len(served.preprocessors)}. Give the preprocessor of a model on ids to "
            "export_saved_model(..., preprocessor=...); without one, and with several, export only the "
            "signatures serving_default and ids."
        )


def _check_one_encoder(served: ServedModel, name: str) -> None:
    _check_one_preprocessor(served, name)
    if len(served.encoders) != 1:
        raise ValueError(
            f"The signature {name!r} expects a model with one encoder that is called once. Received: a model with "
            f"{len(served.encoders)}: {[step.operation.name for step in served.encoders]}. Export only "
            "serving_default, ids and tokenize, or a model on one of the encoders."
        )


def _preprocessor_inputs(served: ServedModel) -> list[Any]:
    """The texts that the preprocessor is called on, one for each segment."""
    return keras.tree.flatten(served.preprocessors[0].arguments.args)


def _are_words(texts: list[Any]) -> bool:
    return len(texts[0].shape) == 2
