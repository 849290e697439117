import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

TARGETS = ("cpu", "gpu")
DTYPES = ("bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """In which form an export computes; the same for all of its signatures.

    Args:
        target, dtype, quantize, length_buckets, batch_sizes: as `export_saved_model` takes them.

    Raises:
        ValueError: for values that it does not take.
        TypeError: for lists that are none.
    """

    target: str = "cpu"
    dtype: str | None = None
    quantize: str | None = None
    length_buckets: Sequence[int] | None = None
    batch_sizes: Sequence[int] = (1, 8, 32)

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f"Expected `target` to be {' or '.join(TARGETS)}. Received: target={self.target!r}.")
        if self.dtype not in (None, *DTYPES):
            raise ValueError(f"Expected `dtype` to be None, {' or '.join(DTYPES)}. Received: dtype={self.dtype!r}.")
        if self.quantize not in (None, "int8"):
            raise ValueError(f"Expected `quantize` to be None or int8. Received: quantize={self.quantize!r}.")
        if self.dtype and self.quantize:
            raise ValueError(
                "Expected one of `dtype` and `quantize`. "
                f"Received: dtype={self.dtype!r}, quantize={self.quantize!r}. int8 weights compute in float32."
            )
        if self.target == "cpu" and self.length_buckets is not None:
            raise ValueError(
                f'`length_buckets` is for target="gpu". Received: length_buckets={self.length_buckets!r}, '
                'target="cpu", where the encoder computes no padding.'
            )
        for name in ("length_buckets", "batch_sizes"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _ascending(name, getattr(self, name)))

    @property
    def is_exact(self) -> bool:
        """Whether weights are stored as they are."""
        return self.dtype is None and self.quantize is None


def _ascending(name: str, values: Any) -> tuple[int, ...]:
    try:
        numbers = list(values)
    except TypeError:
        raise TypeError(f"Expected `{name}` to be a list. Received: {name}={values!r}.") from None
    are_ints = all(isinstance(number, (int, np.integer)) and not isinstance(number, bool) for number in numbers)
    if not numbers or not are_ints or numbers[0] < 1 or numbers != sorted(set(numbers)):
        raise ValueError(
            f"Expected `{name}` to be positive ints in ascending order. Received: {name}={values!r}. "
            "Give them as in [1, 8, 32]."
        )
    return tuple(int(number) for number in numbers)
