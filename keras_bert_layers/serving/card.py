"""The card of an export: what it was made of and what it must answer."""

import importlib.metadata
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from keras_bert_layers.encoders.encoder_contract import EncoderContract
from keras_bert_layers.keras_compatibility import layers_inside
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.serving.card_schema import FORMAT, vocabulary_sha256
from keras_bert_layers.serving.example_inputs import GOLDEN_ROWS, TEXTS, example_inputs, rows_of
from keras_bert_layers.serving.export_options import ExportOptions
from keras_bert_layers.serving.saved_graph import operations, read_saved_model
from keras_bert_layers.serving.servable_signature import ServableSignature
from keras_bert_layers.text.bert_preprocessor import BertPreprocessor
from keras_bert_layers.text.text_preprocessor import TextPreprocessor

# The golden example holds no more values of an output.
MOST_VALUES = 256
# As a part of an output's largest value; processors differ in the order of sums.
TOLERANCES = {None: 1e-4, "bfloat16": 5e-2, "float16": 1e-2}


def make_card(
    models: Sequence[keras.Model],
    servables: Mapping[str, ServableSignature],
    directory: pathlib.Path,
    options: ExportOptions,
    loss: dict[str, Any] | None,
) -> dict[str, Any]:
    """The card's content, for JSON.

    Args:
        models: what is exported, from texts where there is a preprocessor.
        servables: name -> signature.
        directory: the SavedModel, written.
        options: of the export.
        loss: of `loss_against`.
    """
    layers = list({id(layer): layer for model in models for layer in layers_inside(model)}.values())
    preprocessor = next((layer for layer in layers if isinstance(layer, TextPreprocessor)), None)
    settings: dict[str, Any] = {}
    tokens = None
    if isinstance(preprocessor, BertPreprocessor):
        settings = preprocessor.get_config()
        tokens = settings.pop("vocabulary")
        if isinstance(tokens, dict):
            # SentencePiece's whole model.
            tokens = preprocessor.tokenizer.vocabulary
    return {
        "format": FORMAT,
        "versions": _versions(),
        "target": options.target,
        "dtype": options.dtype or "float32",
        "quantize": options.quantize,
        "loss_against_float32": loss,
        "encoders": [_encoder(layer) for layer in layers if isinstance(layer, EncoderContract)],
        "vocabulary": tokens and {"size": len(tokens), "sha256": vocabulary_sha256(tokens)},
        "tokenizer": {key: value for key, value in settings.items() if key not in ("name", "dtype", "trainable")}
        or None,
        "sequence_length": getattr(preprocessor, "sequence_length", None),
        "length_buckets": options.length_buckets and list(options.length_buckets),
        "allowed_batch_sizes": list(options.batch_sizes),
        "signatures": {
            name: {"inputs": _specs(servable.inputs), "outputs": _specs(servable.function.structured_outputs)}
            for name, servable in servables.items()
        },
        "golden": {
            name: _golden(servable, min(GOLDEN_ROWS, options.batch_sizes[-1]), TOLERANCES[options.dtype])
            for name, servable in servables.items()
        },
        "ops": sorted(operations(read_saved_model(directory).meta_graphs[0].graph_def)),
    }


def loss_against(
    exact: Mapping[str, ServableSignature], servables: Mapping[str, ServableSignature]
) -> dict[str, dict[str, dict[str, float]]]:
    """How far each float output is from that of the float32 export, on the example texts.

    Returns:
        Signature -> output -> `max_absolute`, the largest difference, and `mean_cosine`, of the vectors along the last
        axis that are not zero.
    """
    loss: dict[str, dict[str, dict[str, float]]] = {}
    for name, servable in servables.items():
        inputs = _tensors(servable, example_inputs(servable.inputs, len(TEXTS)))
        # In single rows, which the allowed sizes of a GPU export hold, where the batch is open.
        batches = [inputs] if _has_fixed_batch(servable) else _single_rows(inputs)
        expected = [exact[name].function(**batch) for batch in batches]
        received = [servable.function(**batch) for batch in batches]
        floats = [output for output, value in expected[0].items() if value.dtype.is_floating]
        if floats:
            loss[name] = {
                output: _difference([row[output] for row in expected], [row[output] for row in received])
                for output in floats
            }
    return loss


def _has_fixed_batch(servable: ServableSignature) -> bool:
    return rows_of(servable.inputs, 0) > 0


def _single_rows(inputs: dict[str, tf.Tensor]) -> list[dict[str, tf.Tensor]]:
    return [{key: value[i : i + 1] for key, value in inputs.items()} for i in range(len(TEXTS))]


def _difference(expected: list[tf.Tensor], received: list[tf.Tensor]) -> dict[str, float]:
    # Rows of texts that are padded to the longest of their batch differ in length.
    first, second = (
        np.concatenate([np.asarray(row, "float64").reshape(-1, row.shape[-1]) for row in rows])
        for rows in (expected, received)
    )
    norms = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    cosines = (first * second).sum(axis=-1)[norms > 0] / norms[norms > 0]
    return {
        "max_absolute": float(np.abs(first - second).max(initial=0.0)),
        "mean_cosine": float(cosines.mean()) if len(cosines) else 1.0,
    }


def _versions() -> dict[str, str | None]:
    try:
        own = importlib.metadata.version("keras-bert-layers")
    except importlib.metadata.PackageNotFoundError:
        # Run from its sources.
        own = None
    return {
        "keras_bert_layers": own,
        "tensorflow": tf.__version__,
        "tensorflow_text": tf_text.__version__,
        "keras": keras.__version__,
    }


def _encoder(encoder: EncoderContract) -> dict[str, Any]:
    combine = encoder.combine
    return {
        "name": encoder.name,
        "class": type(encoder).__name__,
        "layers": list(encoder.selected_layers),
        "combine": combine.mode if isinstance(combine, LayerCombination) else combine,
        "hidden_size": encoder.hidden_size,
        "num_layers": encoder.num_layers,
    }


def _specs(specs: dict[str, Any]) -> dict[str, Any]:
    return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in specs.items()}


def _golden(servable: ServableSignature, rows: int, tolerance: float) -> dict[str, Any]:
    inputs = example_inputs(servable.inputs, rows)
    outputs = servable.function(**_tensors(servable, inputs))
    return {
        "inputs": {name: value.tolist() for name, value in inputs.items()},
        "outputs": {name: _golden_output(value.numpy(), tolerance) for name, value in outputs.items()},
    }


def _golden_output(value: np.ndarray, tolerance: float) -> dict[str, Any]:
    stride = max(1, -(-value.size // MOST_VALUES))
    is_float = np.issubdtype(value.dtype, np.floating)
    largest = float(np.abs(value).max(initial=1.0)) if is_float else 0.0
    values = value.reshape(-1)[::stride].tolist()
    return {
        "shape": list(value.shape),
        "values": [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values],
        "stride": stride,
        "tolerance": tolerance * largest,
    }


def _tensors(servable: ServableSignature, inputs: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value, servable.inputs[name].dtype) for name, value in inputs.items()}
