"""Makes the report of a rehearsal from the facts of its arms."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import sqlalchemy as sa

from penstock.core.refs import RunRef
from penstock.core.states import RunState
from penstock.project.quality import Quality
from penstock.project.showing import show_run
from penstock.project.workspace import Workspace
from penstock.store.ledger import causes, schema
from penstock.worker.rehearsal.report.collect import Facts
from penstock.worker.rehearsal.report.fresh import freshness
from penstock.worker.rehearsal.report.measure import difference, live_quality, with_whole_truth
from penstock.worker.rehearsal.report.records import (
    AlertTold,
    ArmSpan,
    Became,
    Difference,
    LiveSlice,
    Measure,
    OfflineQuality,
    PlantedTold,
    Report,
    Retrain,
    Skipped,
    Week,
)

LOOP = "loop"
_WEEK = timedelta(days=7)
_HOUR_S = 3600.0
_SLICE = "slice_quality"


def make_report(
    workspace: Workspace,
    pipeline: str,
    facts: Mapping[str, Facts],
    *,
    span: tuple[datetime, datetime],
    step: timedelta,
    wall_s: float,
) -> Report:
    """Return the report of a rehearsal.

    Args:
        workspace: That of the loop, whose alerts and evaluations are told.
        pipeline: What was rehearsed.
        facts: By arm, from `collect`; one of them is "loop".
        span: From when until when, simulated.
        step: Simulated time between two looks.
        wall_s: Real seconds that it took.
    """
    start, end = span
    arms = {name: facts[name] for name in sorted(facts, key=lambda name: (name != LOOP, name == "daily", name))}
    alerts = alerts_of(workspace, pipeline)
    return Report(
        pipeline=pipeline,
        start=start,
        end=end,
        step_s=step.total_seconds(),
        wall_s=wall_s,
        whole={name: _arm(found, start, end, step) for name, found in arms.items()},
        differences=_differences(arms, start, end),
        weeks=tuple(_week(arms, number, span, step=step, alerts=alerts) for number in range(_count(start, end))),
        offline=tuple(_offline(workspace, arms[LOOP])),
        alerts=alerts,
        slices=_slices(workspace, pipeline, start),
    )


def with_planted(report: Report, planted: Sequence[PlantedTold]) -> Report:
    """Return the report with the faults that were planted."""
    return Report(**{name: getattr(report, name) for name in report.__struct_fields__} | {"planted": tuple(planted)})


def alerts_of(workspace: Workspace, pipeline: str) -> tuple[AlertTold, ...]:
    """Return all alerts of a pipeline, the oldest first."""
    table = schema.alerts
    query = sa.select(table).where(table.c.pipeline == pipeline).order_by(table.c.id)
    with workspace.ledger.read() as conn:
        return tuple(
            AlertTold(
                alert=f"a{row['id']}",
                kind=row["kind"],
                subject=row["subject"],
                raised_at=row["raised_at"],
                resolved_at=row["resolved_at"],
                release=row["release"],
                said=str(row["finding"].get("said", "")),
                done=tuple(_done(action) for action in row["actions"]),
                disposition=row["disposition"],
            )
            for row in conn.execute(query).mappings()
        )


def _count(start: datetime, end: datetime) -> int:
    return -(-(end - start) // _WEEK)


def _week(
    arms: Mapping[str, Facts],
    number: int,
    span: tuple[datetime, datetime],
    *,
    step: timedelta,
    alerts: Sequence[AlertTold],
) -> Week:
    start = span[0] + number * _WEEK
    end = min(start + _WEEK, span[1])
    return Week(
        number=number + 1,
        start=start,
        end=end,
        arms={name: _arm(found, start, end, step) for name, found in arms.items()},
        differences=_differences(arms, start, end),
        raised=tuple(a.alert for a in alerts if start <= a.raised_at < end),
        resolved=tuple(a.alert for a in alerts if a.resolved_at is not None and start <= a.resolved_at < end),
    )


def _arm(facts: Facts, start: datetime, end: datetime, step: timedelta) -> ArmSpan:
    answers = _between(facts.answers, start, end)
    versions = [v for found in facts.versions.values() for v in found if _is_in(v.taken_at, start, end)]
    cpu_s = sum(one.cpu_s for one in facts.used if _is_in(one.at, start, end))
    live = facts.live_at(end)
    good = answers.filter(pl.col("error") == "") if answers.schema["error"] == pl.String else answers
    return ArmSpan(
        live=None if live is None else live.release,
        predictions=answers.height,
        fallbacks=int(answers["fallback"].sum()),
        errors=answers.height - good.height,
        quality=tuple(live_quality(name, answers, truths) for name, truths in facts.truths.items()),
        fresh=freshness(facts, start, end, step),
        intakes=len(versions),
        rows=sum(version.rows_added for version in versions),
        set_aside=sum(version.rows_quarantined for version in versions),
        releases=tuple(one.release for one in facts.live if _is_in(one.since, start, end)),
        retrains=_retrains(facts, start, end),
        skipped=tuple(
            Skipped(at=cause.decided_at, cause=cause.name, reason=cause.reason)
            for cause in facts.causes
            if cause.state == "skipped" and _is_in(cause.decided_at, start, end)
        ),
        cpu_s=cpu_s,
        money=cpu_s / _HOUR_S * facts.cost.cpu_hour + answers.height * facts.cost.prediction,
    )


def _retrains(facts: Facts, start: datetime, end: datetime) -> tuple[Retrain, ...]:
    by_run = {cause.run_id: cause for cause in facts.causes if cause.run_id is not None}
    used = {one.run_id: one.cpu_s for one in facts.used}
    first = {live.release for live in facts.live}
    found = []
    for run in facts.retrains:
        if not _is_in(run.started_at, start, end):
            continue
        cause = by_run.get(run.id)
        refused_by = facts.refusals.get(run.id, ())
        found.append(
            Retrain(
                run=str(RunRef(run.id)),
                at=run.started_at,
                cause=run.cause,
                reason=_reason(cause),
                became=_became(run.state, is_refused=bool(refused_by), is_new=_made(facts, run.id, run.release)),
                release=run.release if run.release in first else None,
                refused_by=refused_by,
                cpu_s=used.get(run.id, 0.0),
                said="" if run.error is None else run.error.message,
            )
        )
    return tuple(found)


def _made(facts: Facts, run_id: int, release: str | None) -> bool:
    """Return whether this run is the first after which its release stood."""
    first = next((run.id for run in facts.retrains if release is not None and run.release == release), None)
    return first == run_id


def _became(state: RunState, *, is_refused: bool, is_new: bool) -> Became:
    if state is RunState.SUCCEEDED:
        return "released" if is_new else "as before"
    if is_refused:
        return "refused"
    return "failed" if state is RunState.FAILED else "ended early"


def _reason(cause: causes.Cause | None) -> str:
    return "" if cause is None else cause.reason


def _differences(arms: Mapping[str, Facts], start: datetime, end: datetime) -> tuple[Difference, ...]:
    loop = arms[LOOP]
    found = []
    for outcome, truths in loop.truths.items():
        own = with_whole_truth(_between(loop.answers, start, end), truths)
        for name, other in arms.items():
            if name != LOOP and outcome in other.truths:
                others = with_whole_truth(_between(other.answers, start, end), other.truths[outcome])
                found.append(difference(outcome, name, own, others))
    return tuple(one for one in found if one is not None)


def _offline(workspace: Workspace, facts: Facts) -> list[OfflineQuality]:
    made = {live.release: live for live in facts.live}
    found = []
    for run in facts.retrains:
        if run.release in made and _made(facts, run.id, run.release):
            shown = show_run(run.id, workspace)
            since = made[run.release or ""].since
            found += [one for q in shown.quality if (one := _evaluated(q, run.release or "", since)) is not None]
    return found


def _evaluated(quality: Quality, release: str, at: datetime) -> OfflineQuality | None:
    for model in quality.models:
        if model.role == "candidate" and model.metric == quality.metric and model.mean is not None:
            return OfflineQuality(
                release=release,
                at=at,
                evaluation=quality.evaluation,
                metric=quality.metric,
                model=model.model,
                measure=Measure(mean=model.mean, low=model.low, high=model.high, n=model.n),
                lifts=model.lifts,
                worst=quality.worst,
            )
    return None


def _slices(workspace: Workspace, pipeline: str, start: datetime) -> tuple[LiveSlice, ...]:
    table = schema.windows
    query = sa.select(table.c.start_at, table.c.findings).where(table.c.pipeline == pipeline).order_by(table.c.start_at)
    found = []
    with workspace.ledger.read() as conn:
        for at, findings in conn.execute(query):
            week = max(int((at - start) / _WEEK) + 1, 1)
            found += [
                LiveSlice(subject=str(one["subject"]), week=week, said=str(one["said"]))
                for one in findings
                if one.get("kind") == _SLICE and one.get("is_alarm")
            ]
    return tuple(found)


def _done(action: Any) -> str:
    return str(action.get("said") or action.get("action") or action) if isinstance(action, dict) else str(action)


def _between(answers: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    return answers.filter(pl.col("at") >= start, pl.col("at") < end)


def _is_in(moment: datetime | None, start: datetime, end: datetime) -> bool:
    return moment is not None and start <= moment < end
