"""Reads BERT's weights from a TFBertModel in memory."""

from __future__ import annotations

import functools
import logging
from typing import Any

import numpy as np

from keras_bert_layers.checkpoints.name_tables import sort_names
from keras_bert_layers.checkpoints.stored_weight import StoredWeight

logger = logging.getLogger(__name__)


def is_tfbertmodel(source: Any) -> bool:
    """Says whether an object is a `TFBertModel`, a `TFBertFor...` or a user's subclass of one.

    Args:
        source: Any object.

    Returns:
        True or False; transformers is not imported for it.

    Example:

    >>> is_tfbertmodel("google-bert/bert-base-uncased")
    False
    """
    return any(cls.__name__ == "TFBertPreTrainedModel" for cls in type(source).__mro__)


def read_tfbertmodel(model: Any) -> tuple[dict[str, StoredWeight], list[str]]:
    """Finds BERT's weights in a TFBertModel.

    Args:
        model: A model that `is_tfbertmodel` knows. One that has no weights yet is built.

    Returns:
        The weights by our names, where what lies inside the encoder and is no weight of BERT keeps its own name; and
        the names of what lies outside the encoder.

    Raises:
        ValueError: If a weight is there twice.
    """
    if not model.built:
        model(model.dummy_inputs)
    variables = {variable.name: variable for variable in model.weights}
    source_name = f"the {type(model).__name__} {model.name!r}"
    names = sort_names(variables, source_name)
    if names.others:
        logger.debug("Not part of BERT's encoder and not read from %s: %s", model.name, ", ".join(sorted(names.others)))
    found = names.weights | {name: name for name in names.unexpected}
    stored = {
        our_name: StoredWeight(
            tuple(variables[name].shape), functools.partial(_read, variables[name]), f"{name!r} in {source_name}"
        )
        for our_name, name in found.items()
    }
    return stored, names.others


def _read(variable: Any) -> np.ndarray:
    return np.asarray(variable.numpy(), dtype=np.float32)
