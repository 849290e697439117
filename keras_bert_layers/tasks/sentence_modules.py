"""The modules that sentence-transformers puts behind the encoder: one function each, from its files to Keras layers."""

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import KerasTensor

from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.checkpoints.directory_names import names_in
from keras_bert_layers.checkpoints.formats.pytorch_format import PyTorchFormat
from keras_bert_layers.checkpoints.formats.safetensors_format import SafetensorsFormat
from keras_bert_layers.checkpoints.source import WantedFiles, missing_files_error
from keras_bert_layers.encoders.layer_normalization import LayerNormalization
from keras_bert_layers.layers.layer_combination import LayerCombination
from keras_bert_layers.layers.sequence_pooling import SequencePooling
from keras_bert_layers.tasks.module_settings import read_settings, unsupported

_FORMATS = (SafetensorsFormat(), PyTorchFormat())
_WEIGHTS = tuple(format_.files[0] for format_ in _FORMATS)
_CONFIG = "config.json"
# sentence-transformers' poolings, in the order in which it puts several side by side: the old key, the new name, ours.
_POOLINGS = (
    ("pooling_mode_cls_token", "cls", "cls"),
    ("pooling_mode_max_tokens", "max", "max"),
    ("pooling_mode_mean_tokens", "mean", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", "mean_sqrt_length"),
    ("pooling_mode_weightedmean_tokens", "weightedmean", "weighted_mean"),
    ("pooling_mode_lasttoken", "lasttoken", "last_token"),
)
# PyTorch's names, with its defaults, and Keras's.
_ACTIVATIONS = {"Identity": None, "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "SiLU": "silu", "Sigmoid": "sigmoid"}
# Of a module that gives no other place.
_SENTENCE = "sentence_embedding"


class Features(NamedTuple):
    """What a module takes and changes.

    Attributes:
        tensors: `token_embeddings` `[batch, sequence, hidden]` and `sentence_embedding` `[batch, dimensions]`, under
            sentence-transformers' names.
        mask: `[batch, sequence]`, true on real tokens.
        mask_without_prompt: the same without [CLS] and the prompt; None where the model has no prompts.
    """

    tensors: dict[str, KerasTensor]
    mask: KerasTensor
    mask_without_prompt: KerasTensor | None

    def read(self, file: pathlib.Path, settings: dict[str, Any]) -> tuple[KerasTensor, str]:
        """Returns what a module takes, and the name of what it makes."""
        name = settings.get("module_input_name") or _SENTENCE
        if not isinstance(name, str) or name not in self.tensors:
            raise unsupported(file, "module_input_name", name, f"one of {', '.join(self.tensors)} as its input")
        output_name = settings.get("module_output_name") or name
        if output_name != name:
            raise unsupported(file, "module_output_name", output_name, "its output in the place of its input")
        return self.tensors[name], name


def pooling(features: Features, folder: pathlib.Path, name: str | None) -> None:
    """Tokens -> one vector; several poolings side by side."""
    file = folder / _CONFIG
    old_keys = [old for old, _, _ in _POOLINGS]
    known = ("embedding_dimension", "word_embedding_dimension", "pooling_mode", "include_prompt", *old_keys)
    settings = read_settings(file, known)
    modes = settings.get("pooling_mode") or [new for old, new, _ in _POOLINGS if settings.get(old)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    ours = {new: mode for _, new, mode in _POOLINGS}
    if not isinstance(modes, list) or not all(isinstance(mode, str) and mode in ours for mode in modes):
        raise unsupported(file, "pooling_mode", modes, f"poolings among {', '.join(ours)}")
    mask = features.mask
    if settings.get("include_prompt", True) is False and features.mask_without_prompt is not None:
        if "cls" in modes:
            raise unsupported(file, "include_prompt", False, "the prompt among what is pooled where one pooling is cls")
        mask = features.mask_without_prompt
    states = features.tensors["token_embeddings"]
    pooled = [SequencePooling(ours[mode], name=name if len(modes) == 1 else None)(states, mask=mask) for mode in modes]
    features.tensors[_SENTENCE] = pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name=name)(pooled)


def mean(features: Features, name: str | None) -> None:
    """The mean of the tokens, which is what an encoder without modules gets."""
    features.tensors[_SENTENCE] = SequencePooling("mean", name=name)(
        features.tensors["token_embeddings"], mask=features.mask
    )


def truncate(features: Features, truncate_dim: int, name: str | None) -> None:
    """The first dimensions of the vector."""
    vector = features.tensors[_SENTENCE]
    size = vector.shape[-1]
    if isinstance(truncate_dim, bool) or not isinstance(truncate_dim, int) or not 1 <= truncate_dim <= size:
        raise ValueError(
            f"Expected `truncate_dim` to be a whole number from 1 to {size}, the number of dimensions. "
            f"Received: truncate_dim={truncate_dim!r}."
        )
    features.tensors[_SENTENCE] = keras.layers.Identity(name=name)(vector[:, :truncate_dim])


def dense(features: Features, folder: pathlib.Path, name: str | None) -> None:
    """A dense layer, on the sentence's vector or on each token."""
    file = folder / _CONFIG
    known = ("in_features", "out_features", "bias", "activation_function", "module_input_name", "module_output_name")
    settings = read_settings(file, known)
    inputs, output_name = features.read(file, settings)
    package, _, activation = str(settings.get("activation_function", "torch.nn.Tanh")).rpartition(".")
    if package.split(".")[0] != "torch" or activation not in _ACTIVATIONS:
        expected = f"an activation of PyTorch among {', '.join(_ACTIVATIONS)}"
        raise unsupported(file, "activation_function", settings["activation_function"], expected)
    units, has_bias = settings.get("out_features"), settings.get("bias", True) is not False
    shapes = {"linear.weight": (units, inputs.shape[-1]), **({"linear.bias": (units,)} if has_bias else {})}
    kernel, *bias = read_weights(folder, shapes)
    layer = keras.layers.Dense(kernel.shape[0], _ACTIVATIONS[activation], use_bias=has_bias, name=name)
    features.tensors[output_name] = layer(inputs)
    layer.set_weights([kernel.T, *bias])


def normalize(features: Features, folder: pathlib.Path, name: str | None) -> None:
    """The vector divided by its Euclidean length."""
    file = folder / _CONFIG
    inputs, output_name = features.read(file, read_settings(file, ("module_input_name", "module_output_name"), {}))
    features.tensors[output_name] = keras.layers.UnitNormalization(name=name)(inputs)


def layer_norm(features: Features, folder: pathlib.Path, name: str | None) -> None:
    """Layer normalisation of the sentence's vector."""
    file = folder / _CONFIG
    read_settings(file, ("dimension",))
    inputs, output_name = features.read(file, {})
    size = inputs.shape[-1]
    gamma, beta = read_weights(folder, {"norm.weight": (size,), "norm.bias": (size,)})
    layer = LayerNormalization(epsilon=1e-5, name=name)
    features.tensors[output_name] = layer(inputs)
    layer.set_weights([gamma, beta])


def weighted_layers(config: BertConfig, folder: pathlib.Path) -> tuple[range, LayerCombination]:
    """`WeightedLayerPooling`: the mean of several layers by stored weights, as arguments of the encoder."""
    file = folder / _CONFIG
    known = ("embedding_dimension", "word_embedding_dimension", "layer_start", "num_hidden_layers")
    settings = read_settings(file, known)
    count, start = settings.get("num_hidden_layers", 12), settings.get("layer_start", 4)
    if count != config.num_hidden_layers:
        raise unsupported(
            file, "num_hidden_layers", count, f"the encoder's num_hidden_layers={config.num_hidden_layers}"
        )
    if not isinstance(start, int) or not 0 <= start <= count:
        raise unsupported(file, "layer_start", start, f"the number of a layer from 0 to {count}")
    (weights,) = read_weights(folder, {"layer_weights": (count + 1 - start,)})
    if not np.all(weights > 0):
        raise unsupported(file, "layer_weights", weights.tolist(), "positive weights of the layers")
    return range(start, count + 1), LayerCombination("weighted", initial_weights=weights.tolist())


class SentenceModule(NamedTuple):
    """A module: the function that adds it, which takes `features`, `folder` and `name`, and which files it has."""

    add: Callable[..., None]
    files: WantedFiles


_SETTINGS_ALONE = WantedFiles(required=((_CONFIG,),))
WITH_WEIGHTS = WantedFiles(required=((_CONFIG,), _WEIGHTS))
# By the names of their classes there.
MODULES = {
    "Pooling": SentenceModule(pooling, _SETTINGS_ALONE),
    "Dense": SentenceModule(dense, WITH_WEIGHTS),
    "Normalize": SentenceModule(normalize, WantedFiles(required=(), optional=(_CONFIG,))),
    "LayerNorm": SentenceModule(layer_norm, WITH_WEIGHTS),
}


def read_weights(folder: pathlib.Path, shapes: dict[str, tuple[Any, ...]]) -> list[np.ndarray]:
    """Reads the weights of a module.

    Args:
        folder: the folder with `model.safetensors` or `pytorch_model.bin`.
        shapes: the shape of each by its name.

    Returns:
        The weights as float32, in the order of `shapes`.

    Raises:
        FileNotFoundError: if the folder has no weights.
        ValueError: if they are others, or the file is damaged.
    """
    format_ = next((one for one in _FORMATS if one.accepts(folder)), None)
    if format_ is None:
        raise missing_files_error(f"The directory {folder}", _WEIGHTS, names_in(folder))
    stored = format_.weights(folder)
    found = {name: tuple(stored[name].shape) for name in stored}
    if found != shapes:
        raise ValueError(
            f"Expected {folder} to hold the weights {shapes}. Received: {found}. Take its {_CONFIG} and its weights "
            "from the same model."
        )
    return [np.asarray(stored[name].read(), "float32") for name in shapes]
