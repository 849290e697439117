"""The sizes and rates that define one BERT."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_bert_layers.checkpoints.architectures import ARCHITECTURES, Architecture
from keras_bert_layers.checkpoints.architectures.architecture import OPTIONS
from keras_bert_layers.checkpoints.directory_names import list_names, names_in, way_out
from keras_bert_layers.checkpoints.json_file import read_json_object
from keras_bert_layers.local_path import local_path

CONFIG_FILES = ("config.json", "bert_config.json")

# Hugging Face's names of the functions that Keras has too. `gelu` and `mish` are what they say; `gelu_new`,
# `gelu_fast` and `gelu_pytorch_tanh` are three spellings of GELU's tanh form; `silu` and `swish` are one function.
SUPPORTED_ACTIVATIONS = (
    "gelu",
    "gelu_fast",
    "gelu_new",
    "gelu_pytorch_tanh",
    "mish",
    "relu",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
)

_REQUIRED_KEYS = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
# Ids and lengths are int32. Layers are made one by one, and so a claim of 10^9 is not to be followed.
_LARGEST_SIZES = dict.fromkeys((*_REQUIRED_KEYS, "max_position_embeddings", "type_vocab_size"), 2**31 - 1)
_LARGEST_SIZES["num_hidden_layers"] = 1000
_LARGEST_SIZES["position_offset"] = 2**31 - 1
_SIZES_THAT_MAY_BE_ZERO = ("type_vocab_size", "position_offset")
_LARGEST_NUMBER = float(np.finfo("float32").max)
# What HuggingFaceEncoder takes beside `ARCHITECTURES`.
_WRAPPED_MODEL_TYPES = (
    "convbert",
    "deberta",
    "deberta-v2",
    "longformer",
    "rembert",
    "roberta-prelayernorm",
    "roformer",
)
_RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob")


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """The sizes and rates that define one BERT, under Hugging Face's names.

    The defaults are those of BERT-base, uncased.

    Args:
        vocab_size: Number of word pieces.
        hidden_size: Width of every layer's output.
        num_hidden_layers: Number of encoder layers.
        num_attention_heads: Number of attention heads; divides `hidden_size`.
        intermediate_size: Width inside the feed-forward blocks.
        hidden_act: Activation inside the feed-forward blocks, one of `SUPPORTED_ACTIVATIONS`. `"gelu"` is the exact
            form, with erf.
        hidden_dropout_prob: Dropout rate on the embeddings and on the output of each block, in [0, 1).
        attention_probs_dropout_prob: Dropout rate on the attention scores, in [0, 1).
        max_position_embeddings: Length of the longest sequence.
        type_vocab_size: Number of segments that the type ids tell apart; 0 has no segment embeddings.
        initializer_range: Standard deviation of the truncated normal distribution that random weights are drawn from.
        layer_norm_eps: Epsilon of every layer normalisation.
        pad_token_id: Id of the padding token.
        model_type: The architecture, which says what its weights are called in checkpoints, and which of the fields
            below it has.
        embedding_size: Width of the embeddings, which a dense layer brings to `hidden_size`. None has no such layer.
        position_offset: Number of the first position. If it is not 0, a token's position is its place among the real
            tokens, and padding has the position before the first.
        relative_attention_num_buckets: Number of ranges of distances between two tokens, for each of which every head
            has a bias. None has no such bias.
        num_hidden_groups: Number of groups of layers that share their weights. None has weights for each layer.

    Raises:
        ValueError: If a value is of the wrong type, out of its range, or not supported.

    Example:

    >>> config = BertConfig(hidden_size=64, num_attention_heads=4, intermediate_size=256)
    >>> config.hidden_size, config.num_hidden_layers, config.layer_norm_eps
    (64, 12, 1e-12)
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    model_type: str = "bert"
    embedding_size: int | None = None
    position_offset: int = 0
    relative_attention_num_buckets: int | None = None
    num_hidden_groups: int | None = None

    def __post_init__(self) -> None:
        for name, largest in _LARGEST_SIZES.items():
            value = getattr(self, name)
            smallest = 0 if name in _SIZES_THAT_MAY_BE_ZERO else 1
            if not _is_int(value) or not smallest <= value <= largest:
                raise ValueError(
                    f"`{name}` is expected to be {'a positive integer' if smallest else 'an integer of at least 0'}, "
                    f"at most {largest:,}. "
                    f"Received: {name}={reprlib.repr(value)}."
                )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                "`hidden_size` is expected to be a multiple of `num_attention_heads`, since the heads share it evenly. "
                f"Received: hidden_size={self.hidden_size}, num_attention_heads={self.num_attention_heads}."
            )
        if self.hidden_act not in SUPPORTED_ACTIVATIONS:
            raise ValueError(
                f"`hidden_act` is expected to be one of {', '.join(SUPPORTED_ACTIVATIONS)}. "
                f"Received: hidden_act={reprlib.repr(self.hidden_act)}. "
                "HuggingFaceEncoder can wrap a TFBertModel with any other activation that transformers has."
            )
        for name in _RATES:
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < 1:
                raise ValueError(
                    f"`{name}` is expected to be a number from 0 to below 1, the share of values that is dropped. "
                    f"Received: {name}={reprlib.repr(value)}."
                )
        if not _is_number(self.initializer_range) or not 0 <= self.initializer_range <= _LARGEST_NUMBER:
            raise ValueError(
                "`initializer_range` is expected to be a finite number of at least 0, a standard deviation. "
                f"Received: initializer_range={reprlib.repr(self.initializer_range)}."
            )
        if not _is_number(self.layer_norm_eps) or not 0 < self.layer_norm_eps <= _LARGEST_NUMBER:
            raise ValueError(
                "`layer_norm_eps` is expected to be a finite number above 0. "
                f"Received: layer_norm_eps={reprlib.repr(self.layer_norm_eps)}."
            )
        if not _is_int(self.pad_token_id) or not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(
                f"`pad_token_id` is expected to be an id of the vocabulary, from 0 to {self.vocab_size - 1}. "
                f"Received: pad_token_id={reprlib.repr(self.pad_token_id)}."
            )
        self._check_options()

    def _check_options(self) -> None:
        options = _find_architecture(self.model_type).options
        largest = {
            "embedding_size": 2**31 - 1,
            "position_offset": self.max_position_embeddings - 1,
            "relative_attention_num_buckets": 256,
            "num_hidden_groups": self.num_hidden_layers,
        }
        for name in OPTIONS:
            value = getattr(self, name)
            if value is None or (name == "position_offset" and value == 0):
                continue
            if name not in options:
                types = [model_type for model_type, each in ARCHITECTURES.items() if name in each.options]
                raise ValueError(
                    f"`{name}` is expected to be left out, but for models of type {' or '.join(types)}. "
                    f"Received: {name}={reprlib.repr(value)}, model_type={self.model_type!r}."
                )
            if not _is_int(value) or not 1 <= value <= largest[name]:
                raise ValueError(
                    f"`{name}` is expected to be a positive integer, at most {largest[name]:,}, or left out. "
                    f"Received: {name}={reprlib.repr(value)}."
                )
        if self.relative_attention_num_buckets is not None and self.relative_attention_num_buckets % 4:
            raise ValueError(
                "`relative_attention_num_buckets` is expected to be a multiple of 4: half of them are for each "
                "direction, and half of these for single distances. "
                f"Received: relative_attention_num_buckets={self.relative_attention_num_buckets}."
            )

    def block_of(self, layer: int) -> int:
        """Says whose weights a layer has.

        Args:
            layer: Its number, from 1.

        Returns:
            The number of its block of weights, from 1: that of its group, where layers share their weights.

        Example:

        >>> config = BertConfig(model_type="albert", num_hidden_groups=2)
        >>> [config.block_of(layer) for layer in (1, 6, 7, 12)]
        [1, 1, 2, 2]
        """
        return (layer - 1) * (self.num_hidden_groups or self.num_hidden_layers) // self.num_hidden_layers + 1

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BertConfig:
        """Makes a configuration from Hugging Face's or Google's dictionary.

        Keys that change nothing in what the encoder computes are ignored; those that would are refused by name.

        Args:
            values: The dictionary, such as `transformers.BertConfig(...).to_dict()` or `BertConfig(...).to_dict()`.

        Returns:
            The `BertConfig`.

        Raises:
            ValueError: If a size is missing, or the dictionary asks for what this package cannot run.

        Example:

        >>> sizes = dict(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
        >>> BertConfig.from_dict(sizes).max_position_embeddings
        512
        """
        # Google's files have no model_type; they are BERT's by their own name.
        architecture = _find_architecture(values.get("model_type", "bert"))
        _refuse_other_computations(values, architecture)
        keys = {field: key for key, field in architecture.config_keys.items()}
        values = {architecture.config_keys.get(key, key): value for key, value in values.items()}
        missing = [keys.get(key, key) for key in _REQUIRED_KEYS if key not in values]
        if missing:
            raise ValueError(
                "A BERT configuration is expected to have the keys "
                f"{', '.join(keys.get(key, key) for key in _REQUIRED_KEYS)}. "
                f"Missing: {', '.join(missing)}. Received: keys={sorted(map(str, values))[:40]}. "
                "Take the configuration file that belongs to the weights."
            )
        fields = {field.name for field in dataclasses.fields(cls)}
        fields -= set(OPTIONS) - architecture.options
        known = {**architecture.defaults, **{key: value for key, value in values.items() if key in fields}}
        known |= architecture.constants
        # Hugging Face writes null where a model was never told its padding token, which no computation here needs.
        if known.get("pad_token_id", 0) is None:
            del known["pad_token_id"]
        if architecture.positions_after_padding and _is_int(known.get("pad_token_id")):
            known.setdefault("position_offset", known["pad_token_id"] + 1)
        if known.get("embedding_size") == known["hidden_size"] and not architecture.always_projects:
            del known["embedding_size"]
        return cls(**known)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> BertConfig:
        """Reads a configuration from `config.json` (Hugging Face) or `bert_config.json` (Google).

        Args:
            path: The file, or the directory that holds it under one of these names.

        Returns:
            The `BertConfig`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is no JSON object or a Git LFS pointer, a size is missing, or it asks for what this
                package cannot run.

        Example:

        >>> import json, pathlib, tempfile
        >>> sizes = dict(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     _ = pathlib.Path(directory, "bert_config.json").write_text(json.dumps(sizes))
        ...     BertConfig.from_file(directory).hidden_size
        8
        """
        file = _find_config_file(local_path(path, "path"))
        values = read_json_object(file)
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"The configuration file {file} cannot be used. {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Gives the configuration as a dictionary that JSON can hold and `from_dict` takes back.

        Returns:
            A dictionary with one entry per field.

        Example:

        >>> BertConfig.from_dict(BertConfig(hidden_act="relu").to_dict()).hidden_act
        'relu'
        """
        return dataclasses.asdict(self)


def _is_int(value: Any) -> bool:
    # bool is a subclass of int, and `true` in a JSON file is no size.
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_int(value) or isinstance(value, float)


def _find_config_file(path: pathlib.Path) -> pathlib.Path:
    if not os.path.isdir(path):
        return path
    for name in CONFIG_FILES:
        # Whatever stands there under the name, for `read_json_object` to say what is wrong with it.
        if os.path.lexists(path / name):
            return path / name
    names = names_in(path)
    raise FileNotFoundError(
        f"The directory {path} is expected to hold {' or '.join(CONFIG_FILES)}. "
        f"Received: a directory with {list_names(names)}. "
        f"{way_out(names, 'Give the directory of one BERT checkpoint.')}"
    )


def _find_architecture(model_type: Any) -> Architecture:
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        if model_type in _WRAPPED_MODEL_TYPES:
            way_out = "HuggingFaceEncoder can wrap it, as the TensorFlow model that transformers has."
        else:
            way_out = "Take a checkpoint of one of these types: this one has no TensorFlow model that is known here."
        raise ValueError(
            f"A configuration of a model_type that is read here is expected: {', '.join(ARCHITECTURES)}. "
            f"Received: model_type={reprlib.repr(model_type)}. {way_out}"
        )
    return ARCHITECTURES[model_type]


def _refuse_other_computations(values: Mapping[str, Any], architecture: Architecture) -> None:
    refused = {
        "position_embedding_type": (
            values.get("position_embedding_type", "absolute") not in ("absolute", None),
            "Only absolute position embeddings are expected",
        ),
        "is_decoder": (bool(values.get("is_decoder")), "Only an encoder is expected, which sees both sides"),
        "add_cross_attention": (
            bool(values.get("add_cross_attention")),
            "Only an encoder is expected, without cross-attention",
        ),
        "embedding_size": (
            "embedding_size" not in architecture.options
            and values.get("embedding_size") not in (None, values.get("hidden_size")),
            f"Embeddings as wide as the layers are expected (hidden_size={reprlib.repr(values.get('hidden_size'))})",
        ),
        "pruned_heads": (
            bool(values.get("pruned_heads")),
            "The same number of attention heads in each layer is expected",
        ),
    }
    for key, (is_refused, expectation) in refused.items():
        if is_refused:
            # TFBertModel takes no notice of the other keys, and would give other numbers without a word.
            if key in ("is_decoder", "add_cross_attention"):
                way_out = "Wrap it: HuggingFaceEncoder.from_pretrained(...) runs it as transformers' TFBertModel."
            else:
                way_out = "TFBertModel of transformers does not run it either: take another checkpoint."
            raise ValueError(f"{expectation}. Received: {key}={reprlib.repr(values[key])}. {way_out}")
