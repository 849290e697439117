import contextlib
import sys
import warnings
from typing import Any


def progress_bar(total: int | None, unit: str) -> Any:
    """Makes a bar that shows on a terminal, and in a notebook, how far the work is.

    Args:
        total: how many there are; None where that is not known.
        unit: what they are.

    Returns:
        A context manager, `tqdm` or, where tqdm is not installed, one that shows nothing; both have `update(count)`.

    Example:

    >>> with progress_bar(2, "text") as bar:
    ...     for text in ["one", "two"]:
    ...         bar.update(1)
    """
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if sys.stderr is not None and sys.stderr.isatty():
            warnings.warn("There is no progress bar without the package tqdm: pip install tqdm.", stacklevel=2)
        return contextlib.nullcontext(_Nothing())
    # With None tqdm asks whether it writes to a terminal.
    return tqdm(total=total, desc=f"{unit}s", unit=unit, disable=None)


class _Nothing:
    def update(self, count: int) -> None:
        pass
