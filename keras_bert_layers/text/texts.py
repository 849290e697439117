"""Texts in the forms in which users hold them: lists, arrays, columns of pandas, Polars or Arrow."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def plain_texts(texts: Any, name: str, owner: str) -> Any:
    """Brings texts to a list or an array and checks each of them.

    Args:
        texts: a str, which is a batch of one, a sequence or an array of str or bytes, or of lists of them (words); a
            column of pandas, Polars or Arrow. Anything else, a tensor too, comes back as it is.
        name: what the caller calls them, for errors.
        owner: who expects them, for errors.

    Returns:
        A list of str or bytes, a list of lists of them, or an array of one or more dimensions.

    Raises:
        TypeError: for a table in place of a column, and as `check_texts`.
        ValueError: for an array without dimensions, and as `check_texts`.

    Example:

    >>> plain_texts("a text", "inputs", "The example")
    ['a text']
    """
    if isinstance(texts, (str, bytes)):
        texts = [texts]
    elif hasattr(texts, "to_numpy") and hasattr(texts, "shape"):
        if len(texts.shape) != 1:
            raise TypeError(
                f"{owner} expects one column of texts. Received: {name} of type {type(texts).__name__} with shape "
                f"{tuple(texts.shape)}. Choose the column: table['text']."
            )
        texts = texts.to_numpy()
    elif isinstance(texts, Sequence) and not isinstance(texts, (list, tuple)):
        texts = list(texts)
    if isinstance(texts, np.ma.MaskedArray):
        # None where the mask hides a value.
        texts = texts.tolist()
    if isinstance(texts, np.ndarray) and not texts.ndim:
        raise ValueError(
            f"{owner} expects a batch of texts [batch]. Received: {name}.shape=(). Give a str, or a list of them."
        )
    if isinstance(texts, (list, np.ndarray)):
        check_texts(texts, name, owner)
        if isinstance(texts, np.ndarray) and any(isinstance(text, (list, tuple, np.ndarray)) for text in texts.flat):
            # The words of each text as an object of the array.
            texts = texts.tolist()
        if isinstance(texts, list) and any(isinstance(text, np.ndarray) for text in texts):
            texts = [text.tolist() if isinstance(text, np.ndarray) else text for text in texts]
    return texts


def check_texts(texts: Any, name: str, owner: str, first: int = 0) -> None:
    """Refuses what is not a text, and says where it stands; the texts themselves are in no message.

    Args:
        texts: a sequence of str or bytes, or of sequences of them (words, pairs).
        name, owner: as for `plain_texts`.
        first: the number of the first text, where others came before.

    Raises:
        TypeError: for None, NaN, pandas' NA and whatever else is neither str nor bytes.
        ValueError: for a str with a lone surrogate, which has no UTF-8.
    """
    for number, text in enumerate(texts, first):
        if isinstance(text, str):
            try:
                # Those of ASCII, which are most, are not encoded.
                text.isascii() or text.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"{owner} expects Unicode texts. Received: {name}[{number}] with the lone surrogate "
                    f"U+{ord(text[error.start]):04X} at character {error.start}, which is half of a character and has "
                    "no UTF-8. Replace it: text.encode('utf-8', 'replace').decode()."
                ) from None
        elif isinstance(text, (list, tuple)) or (isinstance(text, np.ndarray) and text.ndim):
            check_texts(text, f"{name}[{number}]", owner)
        elif _is_missing(text):
            raise TypeError(
                f"{owner} expects texts, as str. Received: {name}[{number}]={text}, a missing value. Leave it out, or "
                "put an empty text in its place: [value if isinstance(value, str) else '' for value in values], or "
                "column.fillna('') of pandas."
            )
        elif not isinstance(text, bytes):
            is_number = isinstance(text, (int, float, np.number))
            raise TypeError(
                f"{owner} expects texts, as str. Received: {name}[{number}] of type {type(text).__name__}. "
                + ("Make texts of numbers: [str(value) for value in values]." if is_number else "Give str or bytes.")
            )


def _is_missing(value: Any) -> bool:
    if isinstance(value, (float, np.floating)):
        return math.isnan(value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")
