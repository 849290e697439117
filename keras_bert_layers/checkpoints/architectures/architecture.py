"""How one family of models is written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How one family of models whose blocks are BERT's differs from BERT in its files.

    Args:
        model_types: What its configurations have as `model_type`.
        prefix: What the encoder is called inside a model with a head, such as `"bert"`.
        modules: The name of each module with weights, as in transformers' PyTorch models, and ours; the names of its
            kernel and bias, scale and shift follow. `{}` is the layer's number, from 0 in theirs and from 1 in ours.
        config_keys: Keys of its configuration for what `BertConfig` calls otherwise.
        defaults: Fields of `BertConfig` that its configurations leave out, where they are not BERT's.
    """

    model_types: tuple[str, ...]
    prefix: str
    modules: Mapping[str, str]
    config_keys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
