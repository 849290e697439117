from typing import Any

import numpy as np
import tensorflow as tf


def string_tensor(text: Any) -> tf.Tensor | tf.RaggedTensor:
    """Makes a tensor of what a tokenizer takes for texts.

    Args:
        text: a str, a list, an array or a tensor of shape `[batch]`, or a ragged tensor of any rank.

    Returns:
        A string tensor `[batch]`, of a single str `[1]`, or the ragged tensor as it is.

    Raises:
        ValueError: for what is not of strings, or has another shape.

    Example:

    >>> string_tensor("a text").shape
    TensorShape([1])
    """
    if isinstance(text, np.ma.MaskedArray):
        # None where the mask hides a value.
        text = text.tolist()
    if not isinstance(text, (tf.Tensor, tf.RaggedTensor)):
        try:
            # An empty list has no dtype of its own.
            text = tf.convert_to_tensor(text, tf.string if isinstance(text, (list, tuple)) and not text else None)
        except (TypeError, ValueError):
            # TensorFlow's own message may quote the texts.
            reason = ", which holds something else or lists of several lengths"
            items = text if isinstance(text, (list, tuple, np.ndarray)) else [text]
            if any("\ud800" <= c <= "\udfff" for item in items if isinstance(item, str) for c in item):
                reason = ", which holds a lone surrogate. Replace them: text.encode('utf-8', 'replace')"
            elif items is not text:
                reason = ""
            raise ValueError(
                "Expected texts as a str, or a list, an array or a tensor of str. "
                f"Received: text of type {type(text).__name__}{reason}."
            ) from None
    if text.dtype != tf.string:
        raise ValueError(f"Expected texts to be strings. Received: text of dtype={text.dtype.name!r}.")
    if isinstance(text, tf.RaggedTensor):
        return text
    if text.shape.rank == 0:
        return text[tf.newaxis]
    if text.shape.rank != 1:
        raise ValueError(
            f"Expected texts in shape [] or [batch]. Received: text of shape={text.shape}. "
            "Give lists of words as a RaggedTensor, and pick one column of a matrix of texts."
        )
    return text
