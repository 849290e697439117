"""The texts of an analysis, in any form, one by one."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Set, Sized
from typing import Any

import numpy as np
import tensorflow as tf

from keras_bert_layers.text.texts import check_texts, plain_texts


def count_texts(texts: Any) -> int | None:
    """Returns how many texts there are; None where that is not known before they are read."""
    if isinstance(texts, tf.data.Dataset):
        count = int(texts.cardinality())
        return count if count >= 0 and _rank(texts) == 0 else None
    if isinstance(texts, (str, bytes)):
        return 1
    if isinstance(texts, tuple):
        return count_texts(texts[0]) if texts else 0
    return len(texts) if isinstance(texts, Sized) and getattr(texts, "shape", None) != () else None


def read_texts(texts: Any, name: str) -> Iterator[Any]:
    """Yields each text as a str, as a list of str (words), or as a tuple of two of these (a pair).

    Args:
        texts: an iterable of str or of lists of str; for pairs a tuple of two of them; or a `tf.data.Dataset` of
            strings or of tuples of strings, batched or not.
        name: what the user calls them.

    Raises:
        TypeError, ValueError: for anything else, when the reading comes to it.
    """
    if isinstance(texts, tf.data.Dataset):
        dataset = texts.unbatch() if _rank(texts) == 1 else texts
        for element in dataset.as_numpy_iterator():
            yield _decode(element)
    elif isinstance(texts, tuple) and len(texts) > 1:
        yield from _read_pairs(texts, name)
    else:
        yield from _read_column(texts[0] if isinstance(texts, tuple) and texts else texts, name)


def to_batch(texts: list[Any], first: int) -> Any:
    """Brings texts of one kind, from number `first` on, to the form that a preprocessor takes."""
    of_words = [[isinstance(part, list) for part in (text if isinstance(text, tuple) else (text,))] for text in texts]
    wrong = next((row for row, kinds in enumerate(of_words) if kinds != of_words[0]), None)
    if wrong is not None:
        raise TypeError(
            "Expected texts of one kind: all str, or all lists of str (words). "
            f"Received: texts[{first + wrong}], which is not of the kind of texts[{first}]."
        )
    if isinstance(texts[0], tuple):
        return tuple(list(segment) for segment in zip(*texts, strict=True))
    return texts


def _rank(dataset: tf.data.Dataset) -> int:
    """0 for a dataset of texts, 1 for one of batches."""
    specs = tf.nest.flatten(dataset.element_spec)
    is_flat = all(isinstance(spec, tf.TensorSpec) and spec.dtype == tf.string for spec in specs)
    ranks = {spec.shape.rank for spec in specs} if is_flat else set()
    if ranks not in ({0}, {1}) or not isinstance(dataset.element_spec, (tf.TensorSpec, tuple)):
        raise TypeError(
            "Expected a dataset of strings, or of tuples of strings for pairs, batched or not. "
            f"Received: {dataset.element_spec}. Leave labels out with dataset.map(lambda text, label: text)."
        )
    return ranks.pop()


def _read_pairs(segments: tuple[Any, ...], name: str) -> Iterator[tuple[Any, ...]]:
    # Where a stream has no length, the shorter one is noticed at its end.
    known = {count for count in map(count_texts, segments) if count is not None}
    columns = [_read_column(segment, f"{name}[{number}]") for number, segment in enumerate(segments)]
    for number, pair in enumerate(itertools.zip_longest(*columns)):
        if None in pair or len(known) > 1:
            found = " and ".join(map(str, sorted(known))) if len(known) > 1 else f"{number} and more"
            raise ValueError(
                f"Expected as many second texts as first ones. Received: a tuple with {found} texts. Texts that "
                "are not pairs come as a list."
            )
        yield pair


def _read_column(texts: Any, name: str) -> Iterator[Any]:
    texts = plain_texts(texts, name, "The analysis")
    # A mapping gives its keys, and a set its texts in any order.
    is_scalar = tf.is_tensor(texts) and texts.shape.rank == 0
    if not isinstance(texts, Iterable) or isinstance(texts, (Mapping, Set)) or is_scalar:
        raise TypeError(
            "Expected texts as a list or another iterable of str, or of lists of str (words); for pairs as "
            "a tuple of two of them, (first texts, second texts); or as a tf.data.Dataset. "
            f"Received: {name} of type {type(texts).__name__}."
        )
    for number, text in enumerate(texts):
        text = _decode(text)
        if isinstance(text, tuple):
            raise TypeError(
                "Expected pairs as a tuple of two lists, ([first texts], [second texts]). Received: the "
                f"tuple {name}[{number}]. To turn pairs into columns: tuple(map(list, zip(*pairs)))."
            )
        check_texts([text], name, "The analysis", number)
        yield text


def _decode(text: Any) -> Any:
    """Brings tensors, arrays and bytes to str and lists of str."""
    if isinstance(text, (tuple, list)):
        return type(text)(_decode(part) for part in text)
    if tf.is_tensor(text):
        text = text.numpy()
    if isinstance(text, np.ndarray):
        return _decode(text.tolist())
    return text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text
