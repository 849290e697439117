"""Tiny BERTs in Hugging Face's format, written by hand in PyTorch's layout."""

from __future__ import annotations

import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

SIZES = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
}


def pytorch_tensors(prefix: str = "", scale: str = "weight", shift: str = "bias", pooler: bool = True, **sizes):
    """Random tensors under PyTorch's names; `scale` and `shift` are what the layer normalisations call theirs."""
    sizes = SIZES | sizes
    hidden, intermediate = sizes["hidden_size"], sizes["intermediate_size"]
    shapes = {
        "embeddings.word_embeddings.weight": (sizes["vocab_size"], hidden),
        "embeddings.position_embeddings.weight": (sizes["max_position_embeddings"], hidden),
        "embeddings.token_type_embeddings.weight": (sizes["type_vocab_size"], hidden),
        f"embeddings.LayerNorm.{scale}": (hidden,),
        f"embeddings.LayerNorm.{shift}": (hidden,),
    }
    for i in range(sizes["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        for part, inputs, outputs in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", hidden, intermediate),
            ("output.dense", intermediate, hidden),
        ]:
            shapes[f"{layer}{part}.weight"] = (outputs, inputs)
            shapes[f"{layer}{part}.bias"] = (outputs,)
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{layer}{part}.{scale}"] = (hidden,)
            shapes[f"{layer}{part}.{shift}"] = (hidden,)
    if pooler:
        shapes["pooler.dense.weight"] = (hidden, hidden)
        shapes["pooler.dense.bias"] = (hidden,)
    random = np.random.default_rng(0)
    return {prefix + name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}


def write_config(directory: pathlib.Path, **values) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "bert", **SIZES, **values}
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_checkpoint(directory: pathlib.Path, tensors: dict[str, np.ndarray], **values) -> pathlib.Path:
    """Writes `config.json` and `model.safetensors`."""
    write_config(directory, **values)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def write_sharded_checkpoint(directory: pathlib.Path, tensors: dict[str, np.ndarray], shards: int = 3) -> pathlib.Path:
    """Writes `config.json`, the index and its shards."""
    write_config(directory)
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(tensors.items())[number::shards])
        save_file(part, directory / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return directory


def expected_shapes(encoder) -> dict[str, tuple[int, ...]]:
    """The shapes of an encoder's weights, by the names that checkpoints are read under."""
    return {
        weight.path.removeprefix(f"{encoder.path}/").removesuffix("/embeddings"): tuple(weight.shape)
        for layer in encoder.pretrained_layers
        for weight in layer.weights
    }
