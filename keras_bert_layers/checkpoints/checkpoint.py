"""One BERT checkpoint, whatever its format: a configuration and named weights."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_bert_layers.checkpoints.architectures import ARCHITECTURES
from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.checkpoints.directory_names import names_in
from keras_bert_layers.checkpoints.formats import CHECKPOINT_FILES, FORMATS
from keras_bert_layers.checkpoints.name_table import NameTable
from keras_bert_layers.checkpoints.sort_names import sort_names
from keras_bert_layers.checkpoints.source import CONFIGURATION_FILES, find_checkpoint, missing_files_error
from keras_bert_layers.checkpoints.stored_weight import StoredWeight
from keras_bert_layers.checkpoints.weight_check import Shape, check_layers, check_weights

logger = logging.getLogger(__name__)


class Checkpoint(Mapping[str, np.ndarray]):
    """A BERT's configuration, and its weights under our names.

    As a mapping it gives the weights as float32, with kernels as `[inputs, outputs]`. Each is read anew when asked for,
    so that memory never holds them all. What lies inside the encoder and is no weight of it keeps its own name.

    Args:
        config: The configuration.
        stored: The weights by our names.
        others: The names of what lies outside the encoder.
        source: Where they come from, for messages.

    Example:

    >>> weight = StoredWeight((8,), lambda: np.zeros(8), "'b' in zeros")
    >>> checkpoint = Checkpoint(BertConfig(), {"pooler/bias": weight}, [], "zeros")
    >>> checkpoint.has_pooler, checkpoint["pooler/bias"].shape
    (True, (8,))
    """

    def __init__(
        self, config: BertConfig, stored: Mapping[str, StoredWeight], others: Sequence[str], source: str
    ) -> None:
        self.config = config
        self.source = source
        self._stored = stored
        self._others = others

    @property
    def has_pooler(self) -> bool:
        """Whether the pooler's weights are among them."""
        return any(name.startswith("pooler/") for name in self)

    def check(self, expected: Mapping[str, Shape]) -> None:
        """Checks that the weights are those of an encoder, which may have fewer layers and no pooler.

        Args:
            expected: The shapes of the encoder's weights by name.

        Raises:
            ValueError: If weights are missing, unexpected or of another shape; one message lists them all.
        """
        found = {name: weight.shape for name, weight in self._stored.items()}
        blocks = self.config.block_of(self.config.num_hidden_layers)
        check_weights(found, expected, blocks, self.source, self._others)

    def __getitem__(self, name: str) -> np.ndarray:
        weight = self._stored[name]
        with np.errstate(over="ignore", invalid="ignore"):
            # What float32 cannot hold becomes infinite.
            array = np.ascontiguousarray(weight.read(), dtype=np.float32)
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


def read_checkpoint(
    source: Any,
    *,
    num_hidden_layers: int | None = None,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Checkpoint:
    """Opens a BERT checkpoint.

    Args:
        source: A directory in one of `FORMATS`, the id of a Hugging Face repository, or a model in memory that is in
            one of them, such as a `TFBertModel`.
        num_hidden_layers: How many of the first layers are needed. None needs all.
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
        ValueError: If the checkpoint is not a BERT that this package can run, is damaged, or has fewer layers than
            needed; and, when a weight is read, if its numbers are not finite.

    Example:

    >>> read_checkpoint("no/such/directory")
    Traceback (most recent call last):
    FileNotFoundError: A directory, or a repository id such as ...
    """
    place = source
    if isinstance(source, (str, os.PathLike)):
        find = functools.partial(
            find_checkpoint, source, cache_dir=cache_dir, token=token, local_files_only=local_files_only
        )
        source_name = os.fspath(source)
        place = find(CONFIGURATION_FILES, revision=revision)
        if not os.path.isdir(source):
            # A model that cannot be run is refused before its weights are downloaded.
            BertConfig.from_file(place)
            # A download's directory is named after its commit, and the weights are to come from the same one.
            place = find(CHECKPOINT_FILES, revision=place.name)
    else:
        source_name = f"the {type(source).__name__} {getattr(source, 'name', '')!r}"
    formats = [each for each in FORMATS if each.accepts(place)]
    if not formats:
        raise _no_format_error(place)
    if len(formats) > 1:
        logger.info("%s holds several formats; %s is read.", source_name, formats[0].files[0])
    config = formats[0].configuration(place)
    found = formats[0].weights(place)

    tables = [NameTable(ARCHITECTURES[config.model_type], scheme) for scheme in formats[0].schemes]
    where = os.fspath(place) if isinstance(place, pathlib.Path) else source_name
    names = sort_names(found, tables, where)
    if names.others:
        logger.debug("Not part of the encoder and not read from %s: %s", where, ", ".join(sorted(names.others)))
    stored = {name: found[theirs] for name, theirs in names.weights.items()}
    stored |= {name: stored[name].transposed() for name in names.transposed}
    stored |= {name: found[name] for name in names.unexpected}
    needed = config.num_hidden_layers
    if isinstance(num_hidden_layers, int):
        needed = min(needed, num_hidden_layers)
    check_layers(stored, config.block_of(needed), source_name, names.others)
    return Checkpoint(config, stored, names.others, source_name)


def _no_format_error(source: Any) -> Exception:
    if isinstance(source, pathlib.Path):
        # Where this says that it is no BERT at all, the weights are no matter.
        BertConfig.from_file(source)
        return missing_files_error(f"The directory {source}", CHECKPOINT_FILES.required[1], names_in(source))
    return TypeError(
        "A directory, the id of a Hugging Face repository, or a TFBertModel in memory is expected. "
        f"Received: source={source!r} of type {type(source).__name__}. Save a PyTorch model with "
        "`model.save_pretrained(directory)` and give that directory; wrap a TensorFlow model of another kind in"
        " HuggingFaceEncoder."
    )
