"""Whole models, from text to answer: functions that return functional models."""

from keras_bert_layers.tasks.from_pretrained import from_pretrained
from keras_bert_layers.tasks.with_prompt import with_prompt

__all__ = ["from_pretrained", "with_prompt"]
