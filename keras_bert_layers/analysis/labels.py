"""Labels of texts, words or tokens, in any form."""

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np


def check_labels(labels: Any, count: int | None, unit: str = "text", name: str = "labels") -> list[Any] | None:
    """Returns labels as a list of str or of int, one for each text; None for None.

    Args:
        labels: what the user gave.
        count: how many there are to be; None where that is not known yet.
        unit: what has a label.
        name: what the user calls the labels.

    Raises:
        TypeError: for labels that are missing or no classes.
        ValueError: for another number of labels.
    """
    if labels is None:
        return None
    if isinstance(labels, (str, bytes, Mapping, Set)) or not isinstance(labels, Iterable):
        raise TypeError(
            f"Expected `{name}` to be a list of str or of int, one for each {unit}. "
            f"Received: {name} of type {type(labels).__name__}."
        )
    checked = [label.decode() if isinstance(label, bytes) else label for label in map(_plain, labels)]
    if count is not None and len(checked) != count:
        raise ValueError(f"Expected a label for each {unit}. Received: {len(checked)} labels for {count} {unit}s.")
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


def _plain(label: Any) -> Any:
    """NumPy's and TensorFlow's numbers, strings and rows -> Python's."""
    if hasattr(label, "numpy"):
        label = label.numpy()
    return label.tolist() if isinstance(label, (np.generic, np.ndarray)) else label
