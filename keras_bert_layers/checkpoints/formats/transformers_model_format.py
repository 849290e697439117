"""Weights of a TensorFlow model of transformers in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_bert_layers.checkpoints.architectures import ARCHITECTURES
from keras_bert_layers.checkpoints.bert_config import BertConfig
from keras_bert_layers.checkpoints.formats.checkpoint_format import CheckpointFormat
from keras_bert_layers.checkpoints.naming_scheme import TENSORFLOW
from keras_bert_layers.checkpoints.stored_weight import StoredWeight


class TransformersModelFormat(CheckpointFormat):
    """A `TFBertModel`, a `TFBertFor...`, one of another architecture that is read here, or a user's subclass of one.

    One that has no weights yet is built. transformers is not imported for it.

    Example:

    >>> TransformersModelFormat().accepts("google-bert/bert-base-uncased")
    False
    """

    schemes = (TENSORFLOW,)

    def accepts(self, source: Any) -> bool:
        is_model = any(cls.__name__ == "TFPreTrainedModel" for cls in type(source).__mro__)
        return is_model and source.config.model_type in ARCHITECTURES

    def configuration(self, source: Any) -> BertConfig:
        return BertConfig.from_dict(source.config.to_dict())

    def weights(self, source: Any) -> Mapping[str, StoredWeight]:
        if not source.built:
            source(source.dummy_inputs)
        where = f"in the {type(source).__name__} {source.name!r}"
        return {
            variable.name: StoredWeight(tuple(variable.shape), variable.numpy, f"{variable.name!r} {where}")
            for variable in source.weights
        }
