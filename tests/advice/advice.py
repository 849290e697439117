"""The table of advice: each test that does what a message says is a row of it."""

from __future__ import annotations

import contextlib
import functools
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# Parts of the messages' advice, from all files of cases.
ROWS: list[str] = []
_seen: list[str] = []


def advice(*parts: str, not_here: str = "") -> Callable[[Any], Any]:
    """Says which advice a test follows, by a part of its words each, and sees to it that the messages came.

    Args:
        parts: words that stand in the source of the message and in the message that the test provoked.
        not_here: why the message cannot be provoked here, where it cannot.
    """
    ROWS.extend(parts)

    def decorate(test: Any) -> Any:
        @functools.wraps(test)
        def run(*arguments: Any, **names: Any) -> None:
            _seen.clear()
            test(*arguments, **names)
            for part in parts if not not_here else ():
                assert any(part in message for message in _seen), f"{part!r} is in none of {_seen}"

        return run

    return decorate


@contextlib.contextmanager
def refused(part: str = "") -> Iterator[Callable[[], str]]:
    """What the block does is refused, with this part in the message."""
    with pytest.raises(Exception, match=re.escape(part) or None) as error:
        yield lambda: str(error.value)
    _seen.append(str(error.value))


@contextlib.contextmanager
def warned() -> Iterator[None]:
    """What the block does is warned of."""
    with pytest.warns(Warning) as records:  # noqa: PT030 - each test's row is compared with the words
        yield
    _seen.extend(str(record.message) for record in records)


@contextlib.contextmanager
def welcome() -> Iterator[None]:
    """What the block does is neither refused nor warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
