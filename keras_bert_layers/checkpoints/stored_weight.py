"""One weight as a reader found it, not yet read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class StoredWeight:
    """One weight in a file or a model: its shape is known, its values are read when asked for.

    Args:
        shape: Shape of the array that `read` returns.
        read: Reads the values, as float32 and with kernels as `[inputs, outputs]`.
        origin: Its own name and where it is, for messages.

    Example:

    >>> weight = StoredWeight((2, 3), lambda: np.zeros((2, 3), "float32"), "'w' in zeros")
    >>> weight.shape, weight.read().shape
    ((2, 3), (2, 3))
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    origin: str
