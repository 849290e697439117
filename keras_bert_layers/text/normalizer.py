import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from keras_bert_layers.text.unicode_normalization import build_normalizer_model


def normalizer(
    make_table: Callable[..., dict[str, str]], *arguments: Any, known: frozenset[str] | None = None
) -> tf_text.FastBertNormalizer:
    """Makes what applies a table of characters to texts, in the graph.

    Args:
        make_table: a function of `unicode_normalization` that returns the table.
        *arguments: its arguments.
        known: as for `build_normalizer_model`.

    Returns:
        tf.text's normaliser with that table.

    Example:

    >>> from keras_bert_layers.text.unicode_normalization import punctuation_table
    >>> normalizer(punctuation_table).normalize(["why?"]).numpy()
    array([b'why ? '], dtype=object)
    """
    return tf_text.FastBertNormalizer(model_buffer=tf.constant(_model(make_table, arguments, known)))


@functools.lru_cache(maxsize=8)
def _model(make_table: Callable[..., dict[str, str]], arguments: Any, known: frozenset[str] | None) -> np.ndarray:
    """Makes the model, once for all tokenizers with the same settings and characters: that is most of their making."""
    return build_normalizer_model(make_table(*arguments), known)
