"""Whether a waiting cause may run now: cool-down, quarantine, budget and what a retrain is expected to gain.

Pure. The first obstacle counts. What was asked for by a person only waits for its turn.
"""

from datetime import datetime, timedelta
from typing import Any

from penstock.worker.state import STANDING, Hold, Open, PipelineState, Skip

_DAY = timedelta(hours=24)
_HOUR_S = 3600.0
_LONGEST = timedelta(days=7)


def judge(pipeline: PipelineState, cause: Open, now: datetime) -> Hold | Skip | None:
    """Return why a waiting cause does not run now; None when it may."""
    running = next((c for c in pipeline.open if c.state == "running"), None)
    if running is not None:
        return _hold(cause, f"the retrain of {running.name} is under way", None, {})
    if cause.kind == "manual":
        return None
    for look in (_in_quarantine, _cooling_down, _over_budget, _not_worth):
        found = look(pipeline, cause, now)
        if found is not None:
            return found
    return None


def retry_at(pipeline: PipelineState) -> datetime | None:
    """Return when a pipeline that keeps failing is tried again: the wait doubles with each failure, up to a week."""
    over = pipeline.failures - pipeline.rules.quarantine_after
    if over < 0 or pipeline.failed_at is None:
        return None
    first = timedelta(seconds=max(pipeline.rules.cooldown_s, _HOUR_S))
    return pipeline.failed_at + min(first * (1 << min(over, 20)), _LONGEST)


def _in_quarantine(pipeline: PipelineState, cause: Open, now: datetime) -> Hold | Skip | None:
    until = retry_at(pipeline)
    # A moment too far ahead was written by a clock that was wrong; nobody waits years for it.
    if until is None or now >= until or until - now > _LONGEST:
        return None
    figures = {"failures": pipeline.failures, "until": until}
    return _not_now(cause, f"in quarantine after {pipeline.failures} failures in a row", until, figures)


def _cooling_down(pipeline: PipelineState, cause: Open, now: datetime) -> Hold | None:
    if cause.kind not in STANDING or cause.is_begun or pipeline.began_at is None:
        return None
    rest = timedelta(seconds=pipeline.rules.cooldown_s)
    until = pipeline.began_at + rest
    # Before its own beginning by more than the rest: the clock was wrong when it was written.
    if now >= until or pipeline.began_at - now > rest:
        return None
    return _hold(cause, "cooling down after the last retrain", until, {"began_at": pipeline.began_at})


def _over_budget(pipeline: PipelineState, cause: Open, now: datetime) -> Hold | Skip | None:
    most = pipeline.rules.cpu_s_per_day
    if most is None:
        return None
    counted = [s for s in pipeline.spent if now - _DAY < s.at < now + _DAY]
    spent = sum(s.cpu_s for s in counted)
    if spent + pipeline.usual_cpu_s <= most and spent < most:
        return None
    figures = {
        "spent_cpu_s": round(spent, 3),
        "usual_cpu_s": round(pipeline.usual_cpu_s, 3),
        "cpu_s_per_day": most,
        "spent_money": round(spent / _HOUR_S * pipeline.rules.cpu_hour, 4),
    }
    reason = f"the budget of {most:g} CPU seconds in 24 hours does not allow it"
    return _not_now(cause, reason, min((s.at for s in counted), default=now) + _DAY, figures)


def _not_worth(pipeline: PipelineState, cause: Open, _: datetime) -> Skip | None:
    worth = pipeline.worth
    if cause.kind not in pipeline.rules.weighed or cause.is_begun or worth is None or worth.is_worth:
        return None
    return Skip(pipeline=pipeline.name, kind=cause.kind, key=cause.key, reason=worth.said, figures=worth.figures)


def _not_now(cause: Open, reason: str, until: datetime, figures: dict[str, Any]) -> Hold | Skip:
    """Hold what stands for how things are; skip what was for one moment: its next comes by itself."""
    if cause.kind in STANDING or cause.is_begun:
        return _hold(cause, reason, until, figures)
    return Skip(pipeline=cause.pipeline, kind=cause.kind, key=cause.key, reason=reason, figures=figures)


def _hold(cause: Open, reason: str, until: datetime | None, figures: dict[str, Any]) -> Hold:
    return Hold(pipeline=cause.pipeline, kind=cause.kind, key=cause.key, reason=reason, until=until, figures=figures)
