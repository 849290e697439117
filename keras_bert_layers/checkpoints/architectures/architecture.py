"""How one family of models is written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

# The fields of `BertConfig` for computations that BERT does not have.
OPTIONS = ("embedding_size", "position_offset", "relative_attention_num_buckets", "num_hidden_groups")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """How one family of models whose blocks are BERT's differs from BERT in its files.

    Args:
        model_types: What its configurations have as `model_type`, and transformers' class of the encoder alone.
        prefix: What the encoder is called inside a model with a head, such as `"bert"`.
        modules: The name of each module with weights, as in transformers' PyTorch models, and ours; the names of its
            kernel and bias, scale and shift follow. `{}` is the layer's number, from 0 in theirs and from 1 in ours.
        config_keys: Keys of its configuration for what `BertConfig` calls otherwise.
        constants: Fields of `BertConfig` that are the same in all its models, where they are not BERT's.
        defaults: Fields of `BertConfig` where its configurations leave them out, if that is not BERT's default. Of
            `OPTIONS` it has those that are named here.
        positions_after_padding: Whether its positions are numbered from `pad_token_id + 1`.
        always_projects: Whether there is a dense layer behind the embeddings even where they are as wide as the layers.
    """

    model_types: Mapping[str, str]
    prefix: str
    modules: Mapping[str, str]
    config_keys: Mapping[str, str] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    positions_after_padding: bool = False
    always_projects: bool = False

    @property
    def options(self) -> set[str]:
        """Those of `OPTIONS` that it has."""
        return {name for name in OPTIONS if name in self.defaults or name in self.constants} | (
            {"position_offset"} if self.positions_after_padding else set()
        )
