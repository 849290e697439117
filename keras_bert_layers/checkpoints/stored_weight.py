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
        read: Reads the values, in whatever floating-point type they are stored.
        origin: Its own name and where it is, for messages.

    Example:

    >>> weight = StoredWeight((2, 3), lambda: np.zeros((2, 3)), "'w' in zeros")
    >>> weight.shape, weight.transposed().shape, weight.transposed().read().shape
    ((2, 3), (3, 2), (3, 2))
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
    origin: str

    def transposed(self) -> StoredWeight:
        """Gives the same weight with its axes in the opposite order.

        Returns:
            A `StoredWeight` that reads through this one.
        """
        return StoredWeight(self.shape[::-1], lambda: self.read().T, self.origin)
