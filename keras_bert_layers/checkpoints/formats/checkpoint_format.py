"""What a format of checkpoints says about itself."""

from __future__ import annotations

import abc
import os
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.checkpoints.naming_scheme import NamingScheme
from keras_bert_layers.checkpoints.stored_weight import StoredWeight


class CheckpointFormat(abc.ABC):
    """One form in which a BERT is stored, in a directory or in memory.

    As it stands, it is a format of directories that hold `config.json` and one of `files`. A format of something else
    overrides `accepts` and `configuration` too.
    """

    #: The names that its files may have: a directory with one of them is in this format, and the first is read.
    files: ClassVar[tuple[str, ...]] = ()
    #: The naming schemes of its weights.
    schemes: ClassVar[tuple[NamingScheme, ...]]

    def accepts(self, source: Any) -> bool:
        """Says whether a source is in this format.

        Args:
            source: The `pathlib.Path` of a directory, or any object that is no path.

        Returns:
            True or False; whether it is whole and undamaged is for the other methods to say.
        """
        # Whatever stands there under the name, for the reader to say what is wrong with it.
        return isinstance(source, pathlib.Path) and any(os.path.lexists(source / name) for name in self.files)

    def parts(self, file: pathlib.Path) -> list[str]:
        """Gives the names of the files that belong to one of `files`, such as its shards, which are downloaded too.

        Args:
            file: One of `files`.

        Returns:
            Names, relative to its directory.
        """
        return []

    def configuration(self, source: Any) -> BertConfig:
        """Reads the configuration.

        Args:
            source: What `accepts` accepted.

        Returns:
            The `BertConfig`.
        """
        return BertConfig.from_file(source)

    @abc.abstractmethod
    def weights(self, source: Any) -> Mapping[str, StoredWeight]:
        """Finds everything that is stored, and reads nothing of it.

        Args:
            source: What `accepts` accepted.

        Returns:
            The weights by their own names, those of heads too, as they are stored. An entry is looked up only if the
            name is one of the encoder's, and may raise a ValueError then.
        """
