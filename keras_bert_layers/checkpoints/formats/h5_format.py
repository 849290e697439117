"""Weights in the HDF5 files of transformers' TensorFlow classes."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_bert_layers.checkpoints.checkpoint_file import check_file
from keras_bert_layers.checkpoints.formats.checkpoint_format import CheckpointFormat
from keras_bert_layers.checkpoints.naming_scheme import TENSORFLOW
from keras_bert_layers.checkpoints.stored_weight import StoredWeight

_WEIGHTS_FILE = "tf_model.h5"


class H5Format(CheckpointFormat):
    """`tf_model.h5`. What is not in the file itself is not read: no links to other files, no compressed data.

    Example:

    >>> H5Format().files
    ('tf_model.h5',)
    """

    files = (_WEIGHTS_FILE,)
    schemes = (TENSORFLOW,)

    def weights(self, source: pathlib.Path) -> Mapping[str, StoredWeight]:
        import h5py

        path = source / _WEIGHTS_FILE
        check_file(path)
        found: dict[str, StoredWeight] = {}

        def visit(name: str, item: Any) -> None:
            # Links are not followed.
            if isinstance(item, h5py.Dataset) and item.dtype.kind == "f":
                if item.external or item.is_virtual or item.id.get_storage_size() != item.nbytes:
                    raise ValueError(f"{name!r}, whose numbers are not in the file as they are")
                # The file stays open as long as a weight may be read.
                found[name] = StoredWeight(item.shape, functools.partial(np.asarray, item), f"{name!r} in {path}")

        try:
            h5py.File(path, "r").visititems(visit)
        except (OSError, ValueError, RuntimeError, KeyError, UnicodeDecodeError) as error:
            raise ValueError(
                f"Expected {path} to be a file of weights that a TensorFlow model of transformers wrote. "
                f"Received: {str(error)[:500]}. Copy or download it again."
            ) from error
        return found
