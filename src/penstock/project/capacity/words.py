"""A load test in words: the curve as rows, and what it means in a few lines."""

from collections.abc import Iterator, Sequence

from penstock.project.capacity.promises import said as promise_said
from penstock.project.capacity.records import Drill, Load
from penstock.serving.load.promise import Step

_VERDICTS = {
    "holds": "holds",
    "breaks": "BREAKS",
    "unsure": "not surely",
    "generator": "the generator is the limit",
}
# From here on, what the generator took of the machine belongs beside the result.
_GENERATOR_MATTERS = 0.5


def curve_rows(steps: Sequence[Step]) -> list[tuple[str, ...]]:
    """Return a row of text per step, the lowest rate first."""
    return [
        (
            _rate(step.rate_per_s),
            _rate(step.answered_per_s),
            *(_ms(value) for value in (step.p50_ms, step.p95_ms, step.p99_ms)),
            f"{step.errors + step.refused + step.unanswered:,}",
            f"{step.fallbacks:,}",
            "" if step.cpu_us is None else _ms(step.cpu_us / 1000),
            _VERDICTS[step.verdict],
        )
        for step in sorted(steps, key=lambda one: one.rate_per_s)
    ]


def summary(load: Load) -> Iterator[str]:
    """Yield what a load test means, a sentence each."""
    yield knee_said(load)
    if load.knee.rate_per_s is not None:
        yield from _for_whom(load)
    lag = _lag(load)
    if lag:
        yield lag
    if not load.is_whole:
        yield "It was broken off: what was measured until then is kept."


def knee_said(load: Load) -> str:
    """Return the knee with its promise, on what."""
    on = f"{load.workers} worker{'s' if load.workers > 1 else ''} on {load.cores} cores"
    promise = promise_said(load.promise)
    knee = load.knee
    if knee.rate_per_s is None:
        why = (
            "no rate was tried" if not load.steps else f"it is not kept at {_rate(load.steps[-1].rate_per_s)}/s either"
        )
        return f"{load.release} has no knee: {promise}, {why} ({on})."
    above = f" and not at {_rate(knee.broken_per_s)}/s ({knee.limit})" if knee.broken_per_s is not None else ""
    above = above or f"; {knee.limit}"
    step = load.at_knee
    cpu = "" if step is None or step.cpu_us is None else f", {step.cpu_us:,.0f} us of CPU each"
    return f"{load.release} keeps {promise} up to {_rate(knee.rate_per_s)} requests a second{above}; {on}{cpu}."


def drill_said(drill: Drill) -> str:
    """Return whether a release passed its drill, and what it did not."""
    failed = [part.name for part in drill.parts if not part.passed]
    if failed:
        return f"{drill.release} FAILED the drill ({', '.join(failed)})"
    return f"{drill.release} passed {'the drill' if drill.passed else 'a part of the drill'}"


def _for_whom(load: Load) -> Iterator[str]:
    if load.headroom is not None and load.busiest_per_s is not None:
        yield f"The busiest minute asked {_rate(load.busiest_per_s)} a second: {load.headroom:,.3g} times that fit."
    elif load.busiest_per_s is None:
        yield f"Nobody has asked it yet; the requests were {load.asked}."
    if load.forecast is not None:
        yield f"{load.forecast.said[:1].upper()}{load.forecast.said[1:]}."
    if load.target is not None:
        yield f"{_rate(load.target.rate_per_s)} a second take {load.target.said}, each at most 80 % full."


def _lag(load: Load) -> str:
    worst = max((step.generator_lag_ms for step in load.steps), default=0.0)
    used = max((step.generator_cpu for step in load.steps), default=0.0)
    if worst > 100 * load.promise.within_s:
        return (
            f"The machine was busy with other things: requests left up to {worst:,.0f} ms late (p99), "
            "which counts as latency; measure again when it is idle."
        )
    if used > _GENERATOR_MATTERS:
        return f"The generator used up to {used:.1f} cores of the same machine."
    return ""


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def _ms(value: float | None) -> str:
    if value is None:
        return "never"
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"
