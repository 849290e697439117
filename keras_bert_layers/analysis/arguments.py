"""The arguments that all functions of the analysis share: what they may be."""

from collections.abc import Iterable
from typing import Any

import keras

from keras_bert_layers.encoders.layerwise_encoder import LayerwiseEncoder
from keras_bert_layers.encoders.tfhub_encoder import TFHubEncoder
from keras_bert_layers.encoders.windowed_encoder import WindowedEncoder
from keras_bert_layers.layers.layer_selection import select_layers
from keras_bert_layers.layers.sequence_pooling import POOLING_MODES, SequencePooling
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor
from keras_bert_layers.text.text_preprocessor import TextPreprocessor


def check_encoder(encoder: Any, argument: str = "encoder") -> None:
    """Refuses anything else than a `BertEncoder`, a `HuggingFaceEncoder` or a `TFHubEncoder`."""
    if isinstance(encoder, LayerwiseEncoder):
        return
    if isinstance(encoder, WindowedEncoder):
        way_out = (
            "Give the encoder that it wraps, `encoder.encoder`, and a preprocessor made without long_documents=True, "
            "which cuts what is longer than the encoder."
        )
    elif isinstance(encoder, keras.Model):
        way_out = "Give the encoder in the model: model.get_layer(...)."
    else:
        way_out = "BertEncoder.from_pretrained(...) makes one."
    raise TypeError(
        f"Expected `{argument}` to be a BertEncoder, a HuggingFaceEncoder or a TFHubEncoder. "
        f"Received: {argument} of type {type(encoder).__name__}. {way_out}"
    )


def check_preprocessor(preprocessor: Any, words: bool) -> None:
    """Refuses anything else than a `BertPreprocessor` or, where no words are needed, a `TFHubPreprocessor`."""
    if not isinstance(preprocessor, TextPreprocessor):
        raise TypeError(
            "Expected `preprocessor` to be a BertPreprocessor or a TFHubPreprocessor. "
            f"Received: preprocessor of type {type(preprocessor).__name__}. "
            "BertPreprocessor.from_pretrained(...) makes the one that belongs to a checkpoint."
        )
    if words and not isinstance(preprocessor, BertPreprocessor):
        raise TypeError(
            "Expected a BertPreprocessor: only that says which word a token belongs to. "
            f"Received: preprocessor of type {type(preprocessor).__name__}. "
            "BertPreprocessor.from_pretrained(...) makes the one that belongs to a checkpoint."
        )


def chosen_layers(
    encoder: Any, layers: int | str | Iterable[int], scores: bool = False, argument: str = "encoder"
) -> list[int]:
    """Checks the encoder and returns the numbers of the layers that are meant.

    Args:
        encoder: a `BertEncoder`, `HuggingFaceEncoder` or `TFHubEncoder`.
        layers: as in the encoders.
        scores: whether attention scores of the layers are needed.
        argument: what the user calls the encoder.

    Raises:
        TypeError: for anything else, a `WindowedEncoder` too.
        ValueError: for unknown layers, and where they have no attention scores.
    """
    check_encoder(encoder, argument)
    if scores and isinstance(encoder, TFHubEncoder):
        raise ValueError(
            "Expected an encoder with attention scores: a TF Hub encoder is a finished graph that does not return "
            "its attention scores. Received: encoder of type TFHubEncoder. Take the same BERT in Hugging Face's "
            "format: BertEncoder.from_pretrained(...)."
        )
    numbers = select_layers(layers, encoder.num_layers, encoder.has_embeddings)
    if scores and 0 in numbers:
        raise ValueError(
            "Layer 0 is the output of the embeddings and has no attention scores. "
            f"Received: layers={layers!r}. Select layers from 1 to {encoder.num_layers}."
        )
    return numbers


def make_pooling(pooling: str | SequencePooling) -> SequencePooling:
    """The name of a pooling mode -> the layer, in float32."""
    if isinstance(pooling, SequencePooling):
        return pooling
    if not isinstance(pooling, str) or pooling not in POOLING_MODES:
        raise ValueError(
            f"Expected `pooling` to be one of {', '.join(POOLING_MODES)}, or a SequencePooling. "
            f"Received: pooling={pooling!r}."
        )
    return SequencePooling(pooling, dtype="float32")


def pooling_name(pooling: SequencePooling) -> str:
    """The mode of a pooling, and whether it leaves special tokens out."""
    return pooling.mode + (" without special tokens" if pooling.exclude_special_tokens else "")


def is_int(value: Any, lowest: int) -> bool:
    """Whether a value is an int of at least `lowest`; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest
