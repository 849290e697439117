"""Runs thousands of cases in this process, and judges what came of each.

A case ends in a right answer or in an error of an allowed class whose message names the file or the argument, in
seconds and megabytes that are stated. Case 17 of a boundary is the same on every machine, and can be run alone:
`KERAS_BERT_LAYERS_FUZZ_CASE=17 make test-fuzz`. `KERAS_BERT_LAYERS_FUZZ_SCALE=0.1` runs a tenth of the cases.
"""

import collections
import dataclasses
import gc
import logging
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import keras

SECONDS, MEGABYTES = 20.0, 1500
_KERAS_OBJECTS_LIVE_FOR = 50
_LOGGER = logging.getLogger(__name__)
# What `pytest -rP` shows of each boundary, without what TensorFlow and httpx say at this level.
_LOGGER.setLevel(logging.INFO)


@dataclasses.dataclass
class Case:
    """What is tried, and how its outcome is judged.

    Args:
        what: what was done to the input, for a person.
        run: does it, and asserts that an answer is the right one.
        names: an error's message must hold one of these.
        allowed: the classes that an error may have.
    """

    what: str
    run: Callable[[], Any]
    names: tuple[str, ...]
    allowed: tuple[type[BaseException], ...] = (ValueError, TypeError, OSError)


class OverTimeError(BaseException):
    """A case took too long."""


def run_cases(boundary: str, count: int, make: Callable[[random.Random], Case]) -> None:
    """Makes and runs cases, and fails with a list of what should not have happened.

    Args:
        boundary: the name that seeds the cases.
        count: how many.
        make: makes a case out of a random number generator, and of nothing else that differs from run to run.
    """
    alone = os.environ.get("KERAS_BERT_LAYERS_FUZZ_CASE")
    scale = float(os.environ.get("KERAS_BERT_LAYERS_FUZZ_SCALE", "1"))
    numbers = [int(alone)] if alone else range(max(1, round(count * scale)))
    outcomes: collections.Counter[str] = collections.Counter()
    faults: dict[str, list[str]] = collections.defaultdict(list)
    start, slowest = time.monotonic(), 0.0
    handler = signal.signal(signal.SIGALRM, _over_time)
    first_memory = _peak_megabytes()
    try:
        for number in numbers:
            case = make(random.Random(f"{boundary} {number}"))
            memory, begin = _peak_megabytes(), time.monotonic()
            outcome, fault = _run(case)
            slowest = max(slowest, time.monotonic() - begin)
            grown = _peak_megabytes() - memory
            if fault is None and grown > MEGABYTES:
                fault = f"{grown:.0f} MB"
            outcomes[outcome] += 1
            if fault is not None:
                faults[fault].append(f"case {number}: {case.what}")
            if number % _KERAS_OBJECTS_LIVE_FOR == 0:
                keras.backend.clear_session(free_memory=False)
                gc.collect()
    finally:
        signal.signal(signal.SIGALRM, handler)
    _LOGGER.info(
        "%s: %d cases in %.0f s, slowest %.1f s, +%.0f MB: %s",
        boundary,
        len(numbers),
        time.monotonic() - start,
        slowest,
        _peak_megabytes() - first_memory,
        ", ".join(f"{times} {outcome}" for outcome, times in outcomes.most_common()),
    )
    # Or the cases all fail before they come to what is tried.
    assert outcomes["answers"] or len(numbers) < 100, f"{boundary}: no case was answered"
    report = [
        f"{len(cases)} x {fault}\n    {cases[0][:400]}"
        for fault, cases in sorted(faults.items(), key=lambda item: -len(item[1]))
    ]
    assert not report, f"{boundary}, {sum(map(len, faults.values()))} of {len(numbers)} cases:\n" + "\n".join(report)


def _run(case: Case) -> tuple[str, str | None]:
    """The outcome in a word, and what is wrong with it, if anything is."""
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            case.run()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except OverTimeError:
        return "late", f"over {SECONDS:.0f} s"
    except AssertionError as error:
        return "wrong", f"wrong: {str(error)[:200]}"
    except BaseException as error:
        name = type(error).__name__
        if not isinstance(error, case.allowed):
            return name, f"{name} at {_place(error)}: {str(error)[:100]}"
        if not any(part in str(error) for part in case.names):
            return name, f"{name} that names nothing, at {_place(error)}: {str(error)[:100]}"
        return name, None
    return "answers", None


def _over_time(signal_number: int, frame: FrameType | None) -> None:
    raise OverTimeError


def _place(error: BaseException) -> str:
    """The last line of the package that the error went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "keras_bert_layers" in frame.filename]
    last = frames[-1] if frames else traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno}"


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)
