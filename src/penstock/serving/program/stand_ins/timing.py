"""How much faster an equivalent is, here and now: both asked in turn, so that a busy machine slows both."""

import statistics
import time
from collections.abc import Callable

# Less than this is not worth a second implementation of the same answers.
WORTH = 1.2
_ROUNDS = 15
_FEWEST = 1


def speedup(original: Callable[[], object], other: Callable[[], object], *, budget_s: float) -> float:
    """Return how many times faster `other` is: the ratio of the medians of interleaved calls.

    Args:
        original: Asks the model.
        other: Asks the equivalent the same.
        budget_s: When to stop asking; each is asked once in any case, after one call to warm up.
    """
    original()
    other()
    ends = time.perf_counter() + budget_s
    taken: list[tuple[float, float]] = []
    while len(taken) < _FEWEST or (len(taken) < _ROUNDS and time.perf_counter() < ends):
        taken.append((_seconds(original), _seconds(other)))
    slow, quick = (float(statistics.median(times)) for times in zip(*taken, strict=True))
    return slow / max(quick, 1e-9)


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
