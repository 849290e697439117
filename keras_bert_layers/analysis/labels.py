"""Labels of texts, words or tokens, in any form."""

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np


def list_labels(labels: Any, unit: str = "text", name: str = "labels") -> list[Any]:
    """Brings labels in any form to a list of Python's str, numbers and lists.

    Args:
        labels: what the user gave.
        unit: what has a label.
        name: what the user calls the labels.

    Raises:
        TypeError: for anything else than a list or a column.
    """
    if hasattr(labels, "to_numpy") and len(labels.shape) != 1:
        raise TypeError(
            f"Expected one column of labels. Received: {name} of type {type(labels).__name__} with shape "
            f"{tuple(labels.shape)}. Choose the column: table['label']."
        )
    is_scalar = getattr(labels, "shape", None) == ()
    if isinstance(labels, (str, bytes, Mapping, Set)) or not isinstance(labels, Iterable) or is_scalar:
        raise TypeError(
            f"Expected `{name}` to be a list of str or of int, one for each {unit}. "
            f"Received: {name} of type {type(labels).__name__}."
        )
    return [label.decode() if isinstance(label, bytes) else label for label in map(_plain, labels)]


def check_labels(labels: Any, count: int | None, unit: str = "text", name: str = "labels") -> list[Any] | None:
    """Returns labels as a list of str or of int, one for each text; None for None.

    Args:
        labels, unit, name: as for `list_labels`.
        count: how many there are to be; None where that is not known yet.

    Raises:
        TypeError: for labels that are missing or no classes.
        ValueError: for another number of labels.
    """
    if labels is None:
        return None
    checked = list_labels(labels, unit, name)
    check_label_count(checked, count, unit)
    for number, label in enumerate(checked):
        if isinstance(label, (str, int)) and isinstance(label, str) == isinstance(checked[0], str):
            continue
        received = f"Received: {name}[{number}]={label!r}"
        if label is None or type(label).__name__ in ("NAType", "NaTType") or label != label:
            raise TypeError(
                f"Expected a label for each {unit}. {received}, which is missing. Leave each {unit} without a label "
                "out, and its label too."
            )
        if isinstance(label, float):
            raise TypeError(
                f"Expected `{name}` to be classes, as str or int. {received}, a float. Numbers on a scale become two "
                f"classes with numpy.digitize({name}, [2.5]), which cuts at 2.5; classes that stand there as floats "
                f"are int with numpy.asarray({name}).astype(int)."
            )
        if isinstance(label, (list, tuple)):
            raise TypeError(
                f"Expected one label for each {unit}. {received}, which is several. Where several labels can hold of "
                f"one {unit}, ask for one of them at a time: [row[0] for row in {name}], then row[1] and so on."
            )
        raise TypeError(
            f"Expected `{name}` to be all str or all int. {received} of type {type(label).__name__}, and "
            f"{name}[0]={checked[0]!r}."
        )
    return checked


def check_label_count(labels: list[Any], count: int | None, unit: str = "text") -> None:
    """Refuses more or fewer labels than there are texts; `count` is None where that is not known yet."""
    if count is not None and len(labels) != count:
        raise ValueError(f"Expected a label for each {unit}. Received: {len(labels)} labels for {count} {unit}s.")


def _plain(label: Any) -> Any:
    """Brings numbers, strings and rows of NumPy and TensorFlow to Python's."""
    if hasattr(label, "numpy"):
        label = label.numpy()
    return label.tolist() if isinstance(label, (np.generic, np.ndarray)) else label
