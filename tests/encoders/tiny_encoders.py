"""Tiny encoders of all three kinds, and ids for them."""

from __future__ import annotations

import gc
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_bert_layers import BertConfig, BertEncoder, HuggingFaceEncoder, TFHubEncoder
from keras_bert_layers.checkpoints.tfhub_saved_model import TFHubSavedModel

from ..tfhub_factory import make_tfhub_encoder

SIZES = {
    "vocab_size": 31,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
    "type_vocab_size": 2,
}
HUGGINGFACE_NAMES = ("input_ids", "attention_mask", "token_type_ids")
TFHUB_NAMES = ("input_word_ids", "input_mask", "input_type_ids")
KINDS = ("bert", "huggingface", "tfhub")


def randomize(variables: Any, seed: int = 0, scale: float = 0.3) -> None:
    """Gives every weight, those of zeros and ones too, a random value, so that none can be forgotten unseen."""
    random = np.random.default_rng(seed)
    for variable in variables:
        name = getattr(variable, "path", None) or variable.name
        if tf.as_dtype(variable.dtype).is_floating:
            mean = 1.0 if "gamma" in name else 0.0
            variable.assign(random.normal(mean, scale, variable.shape))


def make_tf_model(class_name: str = "TFBertModel", seed: int = 0, pooler: bool = True, **sizes: Any) -> Any:
    """A tiny model of transformers with random weights."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model_class = getattr(transformers, class_name)
    config = {**SIZES, **sizes}
    if class_name == "TFDistilBertModel":
        config = {
            "vocab_size": config["vocab_size"],
            "dim": config["hidden_size"],
            "n_layers": config["num_hidden_layers"],
            "n_heads": config["num_attention_heads"],
            "hidden_dim": config["intermediate_size"],
            "max_position_embeddings": config["max_position_embeddings"],
        }
    arguments = {} if pooler else {"add_pooling_layer": False}
    model = model_class(model_class.config_class(**config), **arguments)
    model.build_in_name_scope()
    randomize(model.variables, seed)
    return model


class EncoderFactory:
    """Makes tiny encoders of all three kinds, with 3 layers of 16, random weights and dropout 0.1.

    The wrapped objects are made once, for that takes a second; encoders of one kind share their variables.
    """

    def __init__(self, tfhub_directory: pathlib.Path):
        self.tfhub_directory = tfhub_directory
        self._start: list[tuple[Any, np.ndarray]] = []
        self._shared: dict[str, Any] = {}

    def __call__(self, kind: str, **arguments: Any) -> Any:
        if kind == "bert":
            encoder = BertEncoder(BertConfig(**SIZES), **arguments)
            for layer in encoder.pretrained_layers:
                randomize(layer.weights)
            return encoder
        return {"huggingface": HuggingFaceEncoder, "tfhub": TFHubEncoder}[kind](self.wrapped(kind), **arguments)

    def wrapped(self, kind: str) -> Any:
        if kind not in self._shared:
            if kind == "huggingface":
                self._shared[kind] = make_tf_model()
                variables = self._shared[kind].variables
            else:
                self._shared[kind] = TFHubSavedModel(self.tfhub_directory)
                variables = self._shared[kind].loaded.variables
            self._start += [(variable, variable.numpy()) for variable in variables]
        return self._shared[kind]

    def restore(self) -> None:
        """Undoes what a test has trained."""
        for variable, value in self._start:
            variable.assign(value)


def write_tfhub_encoder(directory: pathlib.Path, **arguments: Any) -> pathlib.Path:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    return make_tfhub_encoder(directory, vocabulary, **arguments)


def make_ids(
    lengths: tuple[int, ...] = (6, 9, 1, 4),
    sequence: int = 9,
    names: tuple[str, str, str] = TFHUB_NAMES,
    vocabulary_size: int = SIZES["vocab_size"],
    types: int = 2,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Random ids, their mask and type ids, with ids that are not zero at padding."""
    random = np.random.default_rng(seed)
    shape = (len(lengths), sequence)
    mask = np.arange(sequence) < np.array(lengths)[:, None]
    ids = random.integers(1, vocabulary_size, shape)
    segments = random.integers(0, types, shape)
    return {name: value.astype("int32") for name, value in zip(names, (ids, mask, segments), strict=True)}


def renamed(ids: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The same ids under other names."""
    old = HUGGINGFACE_NAMES if HUGGINGFACE_NAMES[0] in ids else TFHUB_NAMES
    return {names[old.index(name)]: value for name, value in ids.items()}


def tensors(ids: Mapping[str, Any]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in ids.items()}


def as_graph(function: Callable[..., Any], names: tuple[str, ...] = TFHUB_NAMES, **options: Any) -> Callable[..., Any]:
    """Runs a function of a dict of ids inside `tf.function`, traced once for all shapes."""
    specs = {name: tf.TensorSpec((None, None), tf.int32) for name in names}
    compiled = tf.function(function, input_signature=[specs], **options)
    return lambda ids: compiled(tensors(ids))


def quantize(model: Any) -> None:
    """Quantises to int8. Keras collects garbage after each layer, a second each where there is much to look at."""
    gc.freeze()
    try:
        model.quantize("int8")
    finally:
        gc.unfreeze()


def assert_same(first: Any, second: Any, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(first), np.asarray(second), rtol=0, atol=atol)
