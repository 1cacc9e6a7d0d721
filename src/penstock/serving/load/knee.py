"""The knee: the highest rate at which a promise is still kept. Which rate to try next, and what was found."""

import math
from collections.abc import Sequence

from penstock.core.records import Record
from penstock.serving.load.promise import Step

# With more late requests than this a step has clearly failed, and is not tried again.
_CLEAR = 0.2


class Ramp(Record, frozen=True, kw_only=True):
    """How rates are tried.

    Attributes:
        start_per_s: The first.
        factor: Each next one, until the promise breaks.
        precision: Two rates this close, one kept and one not, are close enough.
        least_per_s: None is tried below this: so few requests would leave the promise unsure.
        most_per_s: None is tried above this; None for no limit.
        tries: Most rates that are tried.
    """

    start_per_s: float
    factor: float = 1.6
    precision: float = 1.08
    least_per_s: float = 0.2
    most_per_s: float | None = None
    tries: int = 16


class Knee(Record, frozen=True, kw_only=True):
    """Where the promise breaks.

    Attributes:
        rate_per_s: The highest rate at which it was kept with certainty; None where it never was.
        broken_per_s: The lowest rate above at which it was not; None where it was kept at all that were tried.
        limit: What stood in the way of a higher rate: the server, the generator, or that none was tried.
    """

    rate_per_s: float | None
    broken_per_s: float | None
    limit: str


def next_rate(steps: Sequence[Step], ramp: Ramp) -> float | None:
    """Return the rate to try next, None when the knee is known well enough.

    Rates grow by a factor until one does not hold, and fall by it until one does; then the middle of the two, on a
    scale of ratios, is tried. One that does not hold, but nearly, is tried once more: a pause of the machine is not
    the server's.

    Args:
        steps: What was tried.
        ramp: How rates are tried.
    """
    if not steps:
        return ramp.start_per_s
    if len(steps) >= ramp.tries:
        return None
    last = steps[-1]
    if last.verdict != "holds" and last.late_share < _CLEAR and sum(s.rate_per_s == last.rate_per_s for s in steps) < 2:
        return last.rate_per_s
    low, high = _bracket(steps)
    if high is None:
        top = math.inf if ramp.most_per_s is None else ramp.most_per_s
        wanted = min((low or ramp.start_per_s) * ramp.factor, top)
        return wanted if low is None or wanted > low * 1.001 else None
    if low is None:
        wanted = high / ramp.factor**2
        return wanted if wanted >= ramp.least_per_s else None
    return None if high / low <= ramp.precision else math.sqrt(low * high)


def knee_of(steps: Sequence[Step]) -> Knee:
    """Return the knee that steps show."""
    low, high = _bracket(steps)
    stopped = next((step for step in reversed(steps) if step.rate_per_s == high), None)
    if stopped is None:
        limit = "nothing higher was tried"
    elif stopped.verdict == "generator":
        limit = "the generator is the limit"
    elif stopped.verdict == "unsure":
        limit = "above, the promise was not kept surely enough"
    else:
        limit = "the server"
    return Knee(rate_per_s=low, broken_per_s=high, limit=limit)


def _bracket(steps: Sequence[Step]) -> tuple[float | None, float | None]:
    """Return the highest rate that holds, and the lowest one above that does not; of two tries the second counts."""
    verdicts = {step.rate_per_s: step.verdict for step in steps}
    low = max((rate for rate, verdict in verdicts.items() if verdict == "holds"), default=None)
    high = min(
        (rate for rate, verdict in verdicts.items() if verdict != "holds" and (low is None or rate > low)), default=None
    )
    return low, high
