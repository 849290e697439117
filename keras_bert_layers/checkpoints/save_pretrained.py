"""The way out: an encoder as a directory in Hugging Face's format."""

import dataclasses
import importlib.metadata
import json
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_bert_layers.atomic_directory import atomic_directory
from keras_bert_layers.checkpoints.architectures import ARCHITECTURES
from keras_bert_layers.checkpoints.architectures.architecture import OPTIONS
from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.checkpoints.name_table import NameTable
from keras_bert_layers.checkpoints.naming_scheme import PYTORCH
from keras_bert_layers.checkpoints.source import SENTENCE_PIECE_MODELS
from keras_bert_layers.keras_compatibility import sublayers

# Tells a directory of this function from others.
_MARK = "save_pretrained.json"
_FILES = (
    _MARK,
    *("config.json", "model.safetensors"),
    *("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", *SENTENCE_PIECE_MODELS),
)


def save_pretrained(
    model: Any, directory: str | os.PathLike[str], preprocessor: Any = None, overwrite: bool = False
) -> None:
    """Writes a `BertEncoder` as a directory in Hugging Face's format.

    transformers opens it and gives the same outputs, and `BertEncoder.from_pretrained` reads the same weights back, bit
    for bit. Written are the configuration, the weights, and the tokenizer if there is one; how layers are selected and
    combined, and what stands behind the encoder in a model, such as a classifier, is no part of the format. LoRA is
    merged into the weights. The directory is written beside its place and moved there.

    Args:
        model: a `BertEncoder`, or a model or layer with one inside, such as a functional model or a `WindowedEncoder`.
        directory: where to write, on this machine.
        preprocessor: the `BertPreprocessor` of the encoder, or its tokenizer. None takes that of the model; where it
            has none, no tokenizer is written.
        overwrite: whether to replace a directory that this function wrote. Anything else is kept.

    Raises:
        FileExistsError: if `directory` is not empty, and `overwrite` is false or this function did not write it.
        OSError: of the class that fits, where nothing can be written.
        TypeError: if `preprocessor` is neither a `BertPreprocessor` nor a tokenizer.
        ValueError: if the model does not hold exactly one `BertEncoder`, it is quantised, or the format cannot say
            what it computes.

    Example:

    ```python
    kbl.save_pretrained(model, "models/tickets")
    transformers.TFAutoModel.from_pretrained("models/tickets")
    ```
    """
    layers = list(_layers(model))
    encoder = _encoder(model, layers)
    tokenizer = _tokenizer(preprocessor, layers)
    config = _kept_config(encoder)
    files = {
        _MARK: _json({"keras_bert_layers": importlib.metadata.version("keras-bert-layers")}),
        "config.json": _json(_huggingface_config(config)),
    }
    if tokenizer is not None:
        settings: dict[str, Any] = {"model_max_length": config.max_position_embeddings - config.position_offset}
        if config.type_vocab_size < 2:
            settings["model_input_names"] = ["input_ids", "attention_mask"]
        files |= tokenizer.huggingface_files(settings)
    table = NameTable(ARCHITECTURES[config.model_type], PYTORCH)
    has_pooler = "pooler/kernel" in table.names
    if encoder.has_pooler and not has_pooler:
        warnings.warn(
            f"The pooler of {encoder.name!r} is left out, since models of type {config.model_type} have none.",
            stacklevel=2,
        )
    weights = {
        # safetensors writes memory as it lies.
        table.theirs(name): np.ascontiguousarray(values.T if name.endswith("/kernel") else values)
        for name, values in encoder.pretrained_weights().items()
        if has_pooler or not name.startswith("pooler/")
    }
    with atomic_directory(directory, overwrite, _FILES) as place:
        place.mkdir()
        _write(place, files, weights)


def _write(place: pathlib.Path, files: dict[str, bytes], weights: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    for name, content in files.items():
        (place / name).write_bytes(content)
    # What transformers asks for before it loads a file.
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})


def _json(values: dict[str, Any]) -> bytes:
    return f"{json.dumps(values, indent=2)}\n".encode()


def _layers(model: Any) -> Iterator[Any]:
    """A layer and all that is inside, each once."""
    import keras

    seen: dict[int, Any] = {}
    unseen = [model] if isinstance(model, keras.layers.Layer) else []
    while unseen:
        layer = unseen.pop()
        if id(layer) not in seen:
            seen[id(layer)] = layer
            unseen += sublayers(layer)
    return iter(seen.values())


def _encoder(model: Any, layers: list[Any]) -> Any:
    encoders = [layer for layer in layers if isinstance(getattr(layer, "config", None), BertConfig)]
    if len(encoders) != 1:
        raise ValueError(
            f"Expected a BertEncoder, or a model with one inside. Received: model={model!r}, with "
            f"{len(encoders)} inside. Of several give the one that you mean; the model inside a HuggingFaceEncoder is "
            "written by its own `save_pretrained`."
        )
    return encoders[0]


def _tokenizer(preprocessor: Any, layers: list[Any]) -> Any:
    if preprocessor is not None:
        tokenizer = getattr(preprocessor, "tokenizer", preprocessor)
        if not hasattr(tokenizer, "huggingface_files"):
            raise TypeError(
                "Expected `preprocessor` to be a BertPreprocessor or a tokenizer of this package, or None. "
                f"Received: preprocessor={preprocessor!r}."
            )
        return tokenizer
    tokenizers = [layer.tokenizer for layer in layers if hasattr(layer, "tokenizer")]
    tokenizers = [tokenizer for tokenizer in tokenizers if hasattr(tokenizer, "huggingface_files")]
    if len({str(tokenizer.get_config()) for tokenizer in tokenizers}) > 1:
        raise ValueError(
            f"Expected a model with one tokenizer. Received: {len(tokenizers)} preprocessors with different ones. Say "
            "whose is written: save_pretrained(..., preprocessor=preprocessor)."
        )
    return tokenizers[0] if tokenizers else None


def _kept_config(encoder: Any) -> BertConfig:
    """The configuration of the layers that the encoder holds."""
    config, count = encoder.config, encoder.num_layers
    groups = config.num_hidden_groups and config.block_of(count)
    kept = dataclasses.replace(config, num_hidden_layers=count, num_hidden_groups=groups)
    layers = range(1, count + 1)
    if list(map(kept.block_of, layers)) != list(map(config.block_of, layers)):
        raise ValueError(
            "Expected groups of as many layers each, as Hugging Face's configuration says them. Received: "
            f"num_hidden_layers={count} of {config.num_hidden_layers}, in {config.num_hidden_groups} groups. Make "
            "the encoder with all layers, or with those of whole groups."
        )
    return kept


def _huggingface_config(config: BertConfig) -> dict[str, Any]:
    """The configuration under its architecture's keys: what `BertConfig.from_dict` makes the same one of."""
    architecture = ARCHITECTURES[config.model_type]
    keys = {field: key for key, field in architecture.config_keys.items()}
    values = {field: value for field, value in config.to_dict().items() if field not in architecture.constants}
    if architecture.positions_after_padding:
        del values["position_offset"]
    if config.embedding_size is None and "embedding_size" in architecture.options:
        values["embedding_size"] = config.hidden_size
    options = {field for field in values if field in OPTIONS and field not in architecture.options}
    written = {
        "architectures": [architecture.model_types[config.model_type]],
        **{
            keys.get(field, field): value
            for field, value in values.items()
            if field not in options and value is not None
        },
        "torch_dtype": "float32",
    }
    read = BertConfig.from_dict(written).to_dict()
    others = {field: value for field, value in config.to_dict().items() if read[field] != value}
    if others:
        raise ValueError(
            f"Expected a configuration as transformers has them for models of type {config.model_type}: "
            f"{', '.join(f'{field}={read[field]!r}' for field in others)}. Received: "
            f"{', '.join(f'{field}={value!r}' for field, value in others.items())}. The format has no place for it."
        )
    return written
