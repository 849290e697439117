"""Tiny sentence models in sentence-transformers' format, and what they compute, in NumPy."""

from __future__ import annotations

import json
import math
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from ..checkpoints.torch_writer import save_torch

HIDDEN = 32
_erf = np.vectorize(math.erf)


class Module(NamedTuple):
    """One module: its class, its `config.json` and its weights."""

    kind: str
    settings: Mapping[str, Any] = MappingProxyType({})
    weights: Mapping[str, np.ndarray] = MappingProxyType({})
    format: str = "safetensors"


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(math.prod(shape)).normal(size=shape).astype("float32")


def dense(inputs: int, outputs: int, activation: str = "activation.Tanh", **settings: Any) -> Module:
    settings = {"in_features": inputs, "out_features": outputs, "bias": True} | settings
    settings["activation_function"] = f"torch.nn.modules.{activation}"
    weights = {"linear.weight": random(outputs, inputs)}
    if settings["bias"]:
        weights["linear.bias"] = random(outputs)
    return Module("Dense", settings, weights)


def write_sentence_model(
    directory: pathlib.Path,
    bert: pathlib.Path,
    chain: Sequence[Module],
    package: str = "sentence_transformers.models",
    path: str = "",
    **files: Any,
) -> pathlib.Path:
    """Writes `modules.json`, the transformer (a copy of `bert`) and the modules behind it.

    Args:
        directory: where to write.
        bert: a BERT in Hugging Face's format.
        chain: the modules behind it.
        package: what the names of the classes begin with.
        path: the transformer's folder.
        files: the content of JSON files in the root, by their names without the ending; None removes one.
    """
    shutil.copytree(bert, directory / path)
    entries = [{"idx": 0, "name": "0", "path": path, "type": f"{package}.Transformer"}]
    for number, module in enumerate(chain, 1):
        folder = directory / f"{number}_{module.kind}"
        folder.mkdir()
        entries.append({"idx": number, "name": str(number), "path": folder.name, "type": f"{package}.{module.kind}"})
        if module.settings:
            (folder / "config.json").write_text(json.dumps(module.settings), "utf-8")
        if module.weights and module.format == "safetensors":
            save_file(module.weights, folder / "model.safetensors", metadata={"format": "pt"})
        elif module.weights:
            save_torch(folder / "pytorch_model.bin", module.weights)
    for name, content in {"modules": entries, **files}.items():
        file = directory / f"{name}.json"
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_text(json.dumps(content), "utf-8")
    return directory


def expected_vector(modules: Sequence[Module], states: Sequence[np.ndarray], prompt_length: int = 0) -> np.ndarray:
    """One text's vector.

    Args:
        modules: what comes behind the transformer.
        states: layers 0 to L of the text alone, `[tokens, hidden]`.
        prompt_length: how many tokens are not pooled where `include_prompt` is false.
    """
    tokens, vector = states[-1].astype("float64"), np.zeros(0)
    for kind, settings, weights, _ in modules:
        on_tokens = settings.get("module_input_name") == "token_embeddings"
        if kind == "WeightedLayerPooling":
            chosen = np.stack(states[settings["layer_start"] :]).astype("float64")
            tokens = np.average(chosen, axis=0, weights=weights["layer_weights"])
        elif kind == "Pooling":
            vector = _pooled(settings, tokens, 0 if settings.get("include_prompt", True) else prompt_length)
        elif kind == "Dense":
            result = (tokens if on_tokens else vector) @ weights["linear.weight"].T + weights.get("linear.bias", 0.0)
            activation = settings["activation_function"].rpartition(".")[2]
            result = {
                "Identity": lambda x: x,
                "Tanh": np.tanh,
                "ReLU": lambda x: np.maximum(x, 0),
                "GELU": lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
                "SiLU": lambda x: x / (1 + np.exp(-x)),
                "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
            }[activation](result)
            tokens, vector = (result, vector) if on_tokens else (tokens, result)
        elif kind == "Normalize":
            vector = vector / np.linalg.norm(vector)
        elif kind == "LayerNorm":
            vector = (vector - vector.mean()) / np.sqrt(vector.var() + 1e-5)
            vector = vector * weights["norm.weight"] + weights["norm.bias"]
    return vector


def _pooled(settings: Mapping[str, Any], tokens: np.ndarray, skipped: int) -> np.ndarray:
    old = ["cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    modes = settings.get("pooling_mode") or [key for key in old if settings.get(f"pooling_mode_{key}")]
    numbers = np.arange(1, len(tokens) + 1)[skipped:]
    kept = tokens[skipped:]
    vectors = []
    for mode in [modes] if isinstance(modes, str) else modes:
        vectors.append(
            {
                "cls": lambda: tokens[0],
                "max": lambda: kept.max(axis=0),
                "mean": lambda: kept.mean(axis=0),
                "mean_sqrt_len": lambda: kept.sum(axis=0) / math.sqrt(len(kept)),
                "weightedmean": lambda: numbers @ kept / numbers.sum(),
                "lasttoken": lambda: tokens[-1],
            }[mode.removesuffix("_tokens").removesuffix("_token")]()
        )
    return np.concatenate(vectors)
