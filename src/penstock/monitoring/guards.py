"""Guards of a rollout: answers of a candidate beside those of the live release, and what speaks against it.

Belongs here: tallies that add up, and judging them. Every judgement is valid at every look (`checks.sequential`): it
fails when the whole interval of a difference lies beyond a margin that matters. Reading answers: `project.rollout`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from penstock.checks.sequential import Difference, Moments, difference_of_means, difference_of_shares
from penstock.core.records import Record

# A candidate is taken back when it is surely worse by more than this.
ERRORS = 0.005
NOT_FINITE = 0.001
FALLBACKS = 0.01
TIMES = 1.5
# Below this an answer is fast enough: the way there takes as long, and a new process is colder than an old one.
FAST_US = 1000
LATE = 0.02
SPREADS = 1.0
_MOST_FEATURES = 12
_MOST_DISTINCT = 20
_CONSTANT_AFTER = 200
_NAMES = ("errors", "not finite", "fallbacks", "time", "promise", "answers", "quality")


class Tally(msgspec.Struct, kw_only=True):
    """What the answers of one release come to; tallies of the same names add up.

    Attributes:
        n: Requests.
        errors: Of them, those on which the function failed, also where a fallback answered, or that it refused.
        not_finite: Errors because the answer held NaN or an infinity.
        fallbacks: Answers of the fallback.
        late: Answers that took longer than the promise.
        log_us: Moments of the logarithm of the microseconds that an answer took, at least `FAST_US`.
        features: Moments of numbers in the answers, by function and name: "offer price", "recommend first.score".
        distinct: Digests of answers, as many as tell that there are several.
        truth: Moments of what became of the answers, by what is said of them; more is better.
    """

    n: int = 0
    errors: int = 0
    not_finite: int = 0
    fallbacks: int = 0
    late: int = 0
    log_us: Moments = Moments()
    features: dict[str, Moments] = {}
    distinct: set[int] = set()
    truth: dict[str, Moments] = {}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a tally takes of one answer.

    Attributes:
        serve: The function that was asked.
        answer: As JSON.
        answer_us: Microseconds it took.
        error: Type of the error of the function, None where there was none.
    """

    serve: str
    answer: bytes
    answer_us: int
    error: str | None = None
    fallback: bool = False


class Guard(Record, frozen=True, kw_only=True):
    """What one guard found.

    Attributes:
        is_broken: It speaks against the candidate.
        said: In words, with the figures.
        base: The figure of the live release.
        candidate: The figure of the candidate.
        low: Lower end of the interval of their difference, in the unit of the guard.
        high: Its upper end.
    """

    name: str
    is_broken: bool
    said: str
    base: float
    candidate: float
    low: float
    high: float


def tally_of(answers: list[Answer], *, promise_us: float | None = None) -> Tally:
    """Return what answers come to.

    Args:
        answers: Of one release.
        promise_us: The time of `slo.p99_ms`; None without one.
    """
    found = Tally(features={}, distinct=set())
    numbers: dict[str, list[float]] = {}
    times: list[float] = []
    for one in answers:
        found.n += 1
        found.errors += one.error is not None
        found.not_finite += one.error == "AnswerError"
        found.fallbacks += one.fallback
        found.late += promise_us is not None and one.answer_us > promise_us
        times.append(math.log(max(one.answer_us, FAST_US)))
        if one.error is None and not one.fallback:
            if len(found.distinct) < _MOST_DISTINCT:
                found.distinct.add(hash(one.answer))
            for name, value in features_of(msgspec.json.decode(one.answer)).items():
                numbers.setdefault(f"{one.serve} {name}", []).append(value)
    found.log_us = Moments.of(times)
    found.features = {name: Moments.of(values) for name, values in numbers.items()}
    return found


def add(one: Tally, other: Tally) -> Tally:
    """Return what the answers of both come to."""
    return Tally(
        n=one.n + other.n,
        errors=one.errors + other.errors,
        not_finite=one.not_finite + other.not_finite,
        fallbacks=one.fallbacks + other.fallbacks,
        late=one.late + other.late,
        log_us=one.log_us + other.log_us,
        features=_added(one.features, other.features),
        distinct=set(sorted(one.distinct | other.distinct)[:_MOST_DISTINCT]),
        truth=_added(one.truth, other.truth),
    )


def _added(one: Mapping[str, Moments], other: Mapping[str, Moments]) -> dict[str, Moments]:
    empty = Moments()
    return {name: one.get(name, empty) + other.get(name, empty) for name in dict.fromkeys((*one, *other))}


def features_of(answer: Any) -> dict[str, float]:
    """Return numbers that describe an answer, by name; texts are described by their length alone."""
    found: dict[str, float] = {}
    for name, value in _numbers(answer, ""):
        if math.isfinite(value) and len(found) < _MOST_FEATURES:
            found[name] = value
    return found


def _numbers(answer: Any, name: str) -> Iterator[tuple[str, float]]:
    match answer:
        case bool() | int() | float():
            yield name or "value", float(answer)
        case str():
            yield f"{name}.length" if name else "length", float(len(answer))
        case dict():
            for key, value in answer.items():
                yield from _numbers(value, f"{name}.{key}" if name else str(key))
        case list():
            yield f"{name}.length" if name else "length", float(len(answer))
            if answer:
                yield from _numbers(answer[0], f"{name}.first" if name else "first")
                yield from _numbers(answer[-1], f"{name}.last" if name else "last")


def judge(
    base: Tally, candidate: Tally, *, alpha: float, stages: int, availability: float | None = None
) -> tuple[Guard, ...]:
    """Return what each guard finds.

    Args:
        base: Answers of the live release in this stage.
        candidate: Answers of the candidate in this stage.
        alpha: Most false rollbacks of a candidate that is in truth no worse, over all guards, stages and looks.
        stages: How many stages there are.
        availability: The promised share of requests without an error; None without one.
    """
    each = alpha / max(stages, 1) / len(_NAMES)
    margin = ERRORS if availability is None else min(ERRORS, max(1 - availability, 1e-4))
    found = [
        _share("errors", (base.errors, base.n), (candidate.errors, candidate.n), alpha=each, margin=margin),
        _share(
            "not finite", (base.not_finite, base.n), (candidate.not_finite, candidate.n), alpha=each, margin=NOT_FINITE
        ),
        _share("fallbacks", (base.fallbacks, base.n), (candidate.fallbacks, candidate.n), alpha=each, margin=FALLBACKS),
        _time(base.log_us, candidate.log_us, each),
        _share("promise", (base.late, base.n), (candidate.late, candidate.n), alpha=each, margin=LATE),
        *_answers(base.features, candidate.features, each / 2),
        *_qualities(base.truth, candidate.truth, each),
    ]
    constant = _constant(base, candidate, each / 2)
    return tuple(one for one in (*found, constant) if one is not None)


_WORDS = {
    "errors": "it fails on {candidate:.2%} of requests, the live release on {base:.2%}",
    "not finite": "{candidate:.2%} of its answers hold NaN or an infinity, {base:.2%} of the live release's",
    "fallbacks": "{candidate:.2%} of its answers are the fallback's, {base:.2%} of the live release's",
    "promise": "{candidate:.2%} of its answers take longer than promised, {base:.2%} of the live release's",
}


def _share(
    name: str, base: tuple[int, int], candidate: tuple[int, int], *, alpha: float, margin: float
) -> Guard | None:
    if not base[1] or not candidate[1]:
        return None
    found = difference_of_shares(base, candidate, alpha)
    shares = {"base": base[0] / base[1], "candidate": candidate[0] / candidate[1]}
    return Guard(
        name=name,
        is_broken=found.low > margin,
        said=_WORDS[name].format(**shares) + _interval(found, percent=True),
        low=found.low,
        high=found.high,
        **shares,
    )


def _time(base: Moments, candidate: Moments, alpha: float) -> Guard | None:
    if not base.n or not candidate.n:
        return None
    found = difference_of_means(base, candidate, alpha)
    ours, theirs = math.exp(candidate.mean) / 1000, math.exp(base.mean) / 1000
    times = math.exp(min(found.mean, 50.0))
    return Guard(
        name="time",
        is_broken=found.low > math.log(TIMES),
        said=f"it takes {ours:.2f} ms for an answer, {times:.1f} times the live release's {theirs:.2f} ms "
        f"(less than {FAST_US / 1000:g} ms counts as {FAST_US / 1000:g} ms)",
        base=theirs,
        candidate=ours,
        low=found.low,
        high=found.high,
    )


def _answers(base: Mapping[str, Moments], candidate: Mapping[str, Moments], alpha: float) -> list[Guard]:
    names = [name for name in base if name in candidate]
    found = []
    for name in names:
        ours, theirs = candidate[name], base[name]
        spread = math.sqrt(theirs.variance)
        if spread <= 0:  # a number that is the same in all answers, as a version, says nothing of how much one may move
            continue
        moved = difference_of_means(theirs, ours, alpha / len(names))
        low, high = moved.low / spread, moved.high / spread
        found.append(
            Guard(
                name=f"answers: {name}",
                is_broken=low > SPREADS or high < -SPREADS,
                said=f"{name} of its answers is {ours.mean:.4g} on average, the live release's {theirs.mean:.4g}: "
                f"{abs(ours.mean - theirs.mean) / spread:.1f} spreads apart",
                base=theirs.mean,
                candidate=ours.mean,
                low=low,
                high=high,
            )
        )
    return found


def _constant(base: Tally, candidate: Tally, alpha: float) -> Guard | None:
    """Return whether the candidate says one thing to everybody where the live release does not.

    If at least every twentieth of its answers were another one, `n` of the same would have the chance `0.95 ** n`.
    """
    enough = max(_CONSTANT_AFTER, math.ceil(math.log(alpha) / math.log(0.95)))
    told = candidate.n - candidate.errors - candidate.fallbacks
    if told < enough or len(base.distinct) < _MOST_DISTINCT // 2:
        return None
    ours, theirs = len(candidate.distinct), len(base.distinct)
    return Guard(
        name="answers: all the same",
        is_broken=ours == 1,
        said=f"it gave the same answer to all of {told:,} requests, the live release many",
        base=theirs,
        candidate=ours,
        low=float(ours),
        high=float(ours),
    )


def _qualities(base: Mapping[str, Moments], candidate: Mapping[str, Moments], alpha: float) -> list[Guard]:
    names = [name for name in base if name in candidate]
    return [_quality(name, base[name], candidate[name], alpha / len(names)) for name in names]


def _quality(name: str, base: Moments, candidate: Moments, alpha: float) -> Guard:
    found = difference_of_means(base, candidate, alpha)
    return Guard(
        name=f"quality: {name}",
        is_broken=found.is_below,
        said=f"{name} of its answers comes to {candidate.mean:.4g}, the live release's to {base.mean:.4g}"
        + _interval(found),
        base=base.mean,
        candidate=candidate.mean,
        low=found.low,
        high=found.high,
    )


def _interval(found: Difference, *, percent: bool = False) -> str:
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return ""
    form = "{:+.2%}" if percent else "{:+.4g}"
    return f" (difference {form.format(found.low)} to {form.format(found.high)})"
