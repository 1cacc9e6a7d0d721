"""A promise to callers, and whether a stretch of load kept it: with how much certainty, or by whose fault not.

Requests that follow each other are not independent: one pause makes many of them late. So what is sure counts from
how much blocks of time differ, not from the number of requests alone (Kish, 1965, Survey Sampling: the design effect).
"""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from penstock.core.records import Record
from penstock.serving.load.outcomes import BROKEN, UNANSWERED, Outcomes

# "generator": the promise was broken by the generator, which did not keep to its own timetable.
Verdict = Literal["holds", "breaks", "unsure", "generator"]

_BLOCKS = 20
_Z = 1.6448536269514722  # one-sided 95 %
_BUSY = 0.9


class Promise(Record, frozen=True, kw_only=True):
    """What callers may rely on.

    Attributes:
        quantile: Share of requests that are answered in time, 0 to 1.
        within_s: In which time, counted from when a request was due.
        failed: Largest share that may fail, be refused, or get the fallback.
    """

    quantile: float = 0.99
    within_s: float
    failed: float = 0.01

    @property
    def needed(self) -> int:
        """Requests without a late one that it takes to be sure."""
        return math.ceil(_Z**2 * max(1 / (1 - self.quantile), 1 / self.failed))


class Step(Record, frozen=True, kw_only=True):
    """What a server did at one rate.

    Attributes:
        rate_per_s: At which requests were due.
        answered_per_s: At which they were answered by the function itself.
        p50_ms: Half were answered in this time; None where more than half never were.
        late_share: Share that was not answered in time, failures included.
        late_at_most: What that share is at most, with 95 % certainty.
        failed_share: Share of errors, refusals, fallbacks and requests without an answer.
        errors: Answers 500 and broken connections.
        refused: Answers 503, and others that are no success.
        unanswered: Requests that nobody answered while a caller would have waited.
        cpu_us: Processor time of the workers per request; None where it is not known.
        generator_cpu: Cores that the generator used.
        generator_lag_ms: By how much it left its own timetable, in 1 of 100 requests.
    """

    rate_per_s: float
    seconds: float
    requests: int
    answered_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    late_share: float
    late_at_most: float
    failed_share: float
    errors: int
    refused: int
    fallbacks: int
    unanswered: int
    generator_cpu: float
    generator_lag_ms: float
    verdict: Verdict
    cpu_us: float | None = None


def judge(found: Outcomes, promise: Promise, rate_per_s: float) -> Step:
    """Return what a stretch of load came to, and whether the promise was kept.

    Args:
        found: What became of the requests.
        promise: What was promised.
        rate_per_s: At which they were due.
    """
    latency = found.latency_s
    failed = ~found.is_answered | found.is_fallback
    late = failed | (latency > promise.within_s)
    seconds = float(found.due[-1] - found.due[0]) if len(found.due) > 1 else 0.0
    p50, p95, p99 = (_quantile_ms(latency, share) for share in (0.5, 0.95, 0.99))
    status = found.status
    own = found.is_answered & ~found.is_fallback
    low, high = share_bounds(late, found.due)
    return Step(
        rate_per_s=rate_per_s,
        seconds=seconds,
        requests=len(latency),
        answered_per_s=float(own.sum()) / seconds if seconds else 0.0,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        late_share=_mean(late),
        late_at_most=high,
        failed_share=_mean(failed),
        errors=int(((status == BROKEN) | (status == 500)).sum()),
        refused=int(((status > 200) & (status != 500)).sum()),
        fallbacks=int(found.is_fallback.sum()),
        unanswered=int((status == UNANSWERED).sum()),
        generator_cpu=found.cpu_s / found.wall_s if found.wall_s else 0.0,
        generator_lag_ms=_quantile_ms(found.lag, 0.99) or 0.0,
        verdict=_verdict(found, promise, (low, high), share_bounds(failed, found.due)),
    )


def share_bounds(marks: npt.NDArray[np.bool_], due: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return what a share is at least and at most, each with 95 % certainty.

    Wilson's interval (1927, JASA 22:209-212), with the number of requests divided by their design effect.

    Args:
        marks: Which requests count.
        due: When they were due, in order.
    """
    count = len(marks)
    if not count:
        return 0.0, 1.0
    share = float(marks.mean())
    effective = count / _design_effect(marks, due, share)
    square = _Z**2
    middle = (share + square / (2 * effective)) / (1 + square / effective)
    spread = _Z * math.sqrt(share * (1 - share) / effective + square / (4 * effective**2)) / (1 + square / effective)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def _design_effect(marks: npt.NDArray[np.bool_], due: npt.NDArray[np.float64], share: float) -> float:
    """Return how much more the shares of blocks of time differ than those of independent requests would."""
    if not 0 < share < 1 or len(marks) < 2 * _BLOCKS:
        return 1.0
    edges = np.linspace(due[0], due[-1], _BLOCKS + 1)[1:-1]
    block = np.searchsorted(edges, due, side="right")
    sizes = np.bincount(block, minlength=_BLOCKS)
    counts = np.bincount(block, weights=marks, minlength=_BLOCKS)
    chance = share * (1 - share) * sizes
    observed = (counts - share * sizes) ** 2
    return max(1.0, float(observed.sum() / chance.sum()) * _BLOCKS / (_BLOCKS - 1))


def _verdict(found: Outcomes, promise: Promise, late: tuple[float, float], failed: tuple[float, float]) -> Verdict:
    allowed = 1 - promise.quantile
    if late[1] <= allowed and failed[1] <= promise.failed:
        return "holds"
    is_broken = late[0] > allowed or failed[0] > promise.failed
    if _is_generators_fault(found, promise):
        return "generator"
    return "breaks" if is_broken else "unsure"


def _is_generators_fault(found: Outcomes, promise: Promise) -> bool:
    """Return whether the promise was kept but for requests that left late, or the generator was at its end."""
    if found.wall_s and found.cpu_s / found.wall_s > _BUSY:
        return True
    failed = ~found.is_answered | found.is_fallback
    late = failed | (found.latency_s - found.lag > promise.within_s)
    is_lagging = bool((found.lag > 0.1 * promise.within_s).mean() > 1 - promise.quantile)
    return is_lagging and share_bounds(late, found.due)[1] <= 1 - promise.quantile


def _mean(marks: npt.NDArray[np.bool_]) -> float:
    return float(marks.mean()) if len(marks) else 1.0


def _quantile_ms(values: npt.NDArray[np.float64], share: float) -> float | None:
    if not len(values):
        return None
    found = float(np.quantile(values, share, method="higher"))
    return 1000 * found if math.isfinite(found) else None
