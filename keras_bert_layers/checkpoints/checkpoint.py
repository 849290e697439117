"""One BERT checkpoint, whatever its format: a configuration and named weights."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.checkpoints.safetensors_reader import read_safetensors
from keras_bert_layers.checkpoints.source import CHECKPOINT_FILES, CONFIGURATION_FILES, find_checkpoint
from keras_bert_layers.checkpoints.stored_weight import StoredWeight
from keras_bert_layers.checkpoints.tfbertmodel_reader import is_tfbertmodel, read_tfbertmodel
from keras_bert_layers.checkpoints.weight_names import LAYER, check_weights, expected_shapes


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """A BERT's configuration and its weights under our names.

    Args:
        config: The configuration, of all its layers.
        weights: The arrays of the layers that are kept, by name, in the order of `expected_shapes`, as float32. Each is
            read anew when asked for, so that memory never holds them all.
        has_pooler: Whether the pooler's weights are among them.
        source: Where they come from, for messages.

    Example:

    >>> config = BertConfig(vocab_size=10, hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
    >>> weights = {name: np.zeros(shape) for name, shape in expected_shapes(config, pooler=False).items()}
    >>> Checkpoint(config, weights, has_pooler=False, source="zeros").weights["embeddings/word_embeddings"].shape
    (10, 8)
    """

    config: BertConfig
    weights: Mapping[str, np.ndarray]
    has_pooler: bool
    source: str


def read_checkpoint(
    source: Any,
    *,
    num_hidden_layers: int | None = None,
    pooler: bool = True,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Checkpoint:
    """Reads a BERT checkpoint.

    Args:
        source: A directory in Hugging Face's format, the id of a Hugging Face repository, or a `TFBertModel` or
            `TFBertFor...` in memory.
        num_hidden_layers: Keeps only the first so many layers; nothing above them is read, nor the pooler, which was
            trained on the last layer. None keeps all.
        pooler: Whether to read the pooler, where the checkpoint has one.
        revision: Branch, tag or commit of the repository.
        cache_dir: Directory to download to, in place of Hugging Face's own cache.
        token: Access token for the repository, in place of the environment variable `HF_TOKEN`.
        local_files_only: Whether to use only what was downloaded before.

    Returns:
        The `Checkpoint`.

    Raises:
        FileNotFoundError: If there is no such directory or repository, or it has no configuration or no weights file.
        OSError: If the download fails.
        TypeError: If the source is none of these.
        ValueError: If the checkpoint is not a BERT that this package can run, is damaged, its weights do not fit its
            configuration, or it has fewer layers than asked for; and, when a weight is read, if its numbers are not
            finite.

    Example:

    >>> read_checkpoint("no/such/directory")
    Traceback (most recent call last):
    FileNotFoundError: A directory, or a repository id such as ...
    """
    if is_tfbertmodel(source):
        source_name = f"the {type(source).__name__} {source.name!r}"
        full_config = BertConfig.from_dict(source.config.to_dict())
        config = _keep_layers(full_config, num_hidden_layers, source_name)
        stored, others = read_tfbertmodel(source)
    elif isinstance(source, (str, os.PathLike)):
        find = functools.partial(
            find_checkpoint, source, cache_dir=cache_dir, token=token, local_files_only=local_files_only
        )
        source_name = os.fspath(source)
        # The configuration comes first, so that a model that is no BERT is refused before its weights are downloaded.
        directory = find(CONFIGURATION_FILES, revision=revision)
        full_config = BertConfig.from_file(directory)
        config = _keep_layers(full_config, num_hidden_layers, source_name)
        if not os.path.isdir(source):
            # A download's directory is named after its commit, and the weights are to come from the same one.
            stored, others = read_safetensors(find(CHECKPOINT_FILES, revision=directory.name))
        else:
            stored, others = read_safetensors(directory)
    else:
        raise TypeError(
            "A directory, the id of a Hugging Face repository, or a TFBertModel in memory is expected. "
            f"Received: source={source!r} of type {type(source).__name__}. Save a PyTorch model with "
            "`model.save_pretrained(directory)` and give that directory; wrap a TensorFlow model of another kind in"
            " HuggingFaceEncoder."
        )

    # The pooler was trained on the last layer: without that layer it means nothing.
    is_whole = config.num_hidden_layers == full_config.num_hidden_layers
    has_pooler = pooler and is_whole and any(name.startswith("pooler/") for name in stored)
    wanted = {
        name: weight
        for name, weight in stored.items()
        if not _is_left_out(name, config.num_hidden_layers, full_config.num_hidden_layers, has_pooler)
    }
    shapes = {name: weight.shape for name, weight in wanted.items()}
    check_weights(shapes, config, has_pooler, source_name, others)
    weights = _LazyWeights({name: wanted[name] for name in expected_shapes(config, has_pooler)})
    return Checkpoint(full_config, weights, has_pooler, source_name)


class _LazyWeights(Mapping[str, np.ndarray]):
    def __init__(self, stored: dict[str, StoredWeight]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> np.ndarray:
        weight = self._stored[name]
        array = weight.read()
        with np.errstate(over="ignore", invalid="ignore"):
            # Quicker than to look at each number, which is done only where the sum is not finite.
            total = array.sum()
        if not np.isfinite(total) and not np.isfinite(array).all():
            raise ValueError(
                f"Weights that are finite numbers are expected. Received: {np.sum(~np.isfinite(array)):,} of "
                f"{array.size:,} numbers NaN or infinite (in float32) in the weight {weight.origin}. The training that "
                "wrote this checkpoint went wrong, or the file is damaged: take an earlier checkpoint, or copy or "
                "download it again."
            )
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, name: object) -> bool:
        # Mapping's own would read the array to see whether it is there.
        return name in self._stored


def _keep_layers(config: BertConfig, num_hidden_layers: int | None, source_name: str) -> BertConfig:
    if num_hidden_layers is None:
        return config
    if (
        not isinstance(num_hidden_layers, int)
        or isinstance(num_hidden_layers, bool)
        or not 1 <= num_hidden_layers <= config.num_hidden_layers
    ):
        raise ValueError(
            f"`num_hidden_layers` is expected to be an integer from 1 to {config.num_hidden_layers}, the number of "
            f"layers in {source_name}, or None for all. Received: num_hidden_layers={num_hidden_layers!r}."
        )
    return dataclasses.replace(config, num_hidden_layers=num_hidden_layers)


def _is_left_out(name: str, kept_layers: int, all_layers: int, has_pooler: bool) -> bool:
    if name.startswith("pooler/"):
        return not has_pooler
    layer = LAYER.match(name)
    # Layers above those of the configuration are no part of this BERT and stay in the report.
    return layer is not None and kept_layers < int(layer.group(1)) <= all_layers
