"""Makes the report of a rehearsal from the facts of its arms."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import polars as pl
import sqlalchemy as sa

from penstock.core.refs import RunRef
from penstock.core.states import RunState
from penstock.project.alerting.cases import Case, case_of
from penstock.project.workspace import Workspace
from penstock.store.ledger import alerts, causes, schema
from penstock.worker.rehearsal.compare import compared_with, mean_of
from penstock.worker.rehearsal.records import OTHERS, ArmName, Compared, Plan, Rehearsal
from penstock.worker.rehearsal.report.collect import Facts
from penstock.worker.rehearsal.report.fresh import freshness
from penstock.worker.rehearsal.report.promises import promises
from penstock.worker.rehearsal.report.records import (
    AlertTold,
    ArmSpan,
    Became,
    LiveQuality,
    LiveSlice,
    Report,
    Retrain,
    Skipped,
    Week,
)
from penstock.worker.rehearsal.report.words import LOOP

_WEEK = timedelta(days=7)
_HOUR_S = 3600.0
_EVERY = 1_000_000
_SLICE = "slice_quality"


def make_report(workspace: Workspace, rehearsal: Rehearsal, facts: Mapping[ArmName, Facts], *, wall_s: float) -> Report:
    """Return the report of a rehearsal.

    Args:
        workspace: That of the policy, whose alerts and evaluations are told.
        rehearsal: Its record.
        facts: By arm, from `collect`.
        wall_s: Real seconds that it took.
    """
    plan = rehearsal.plan
    arms = {name: facts[name] for name in (LOOP, *(other for other in reversed(OTHERS) if other in facts))}
    told = _alerts(workspace, plan, arms[LOOP])
    report = Report(
        pipeline=plan.pipeline,
        start=plan.start,
        end=plan.end,
        step_s=plan.step_s,
        wall_s=wall_s,
        whole={name: _arm(found, plan, plan.start, plan.end) for name, found in arms.items()},
        differences=rehearsal.compared,
        weeks=tuple(_week(arms, number, plan, told) for number in range(-(-(plan.end - plan.start) // _WEEK))),
        offline=arms[LOOP].offline,
        alerts=told,
        newcomers=rehearsal.newcomers,
        slices=_slices(workspace, plan),
    )
    return msgspec.structs.replace(report, promises=promises(report))


def _alerts(workspace: Workspace, plan: Plan, facts: Facts) -> tuple[AlertTold, ...]:
    """Return all alerts of the policy's arm, the oldest first."""
    with workspace.ledger.read() as conn:
        found = alerts.page(conn, pipeline=plan.pipeline, limit=_EVERY)[::-1]
    return tuple(_told(case_of(alert), facts, alert.disposition) for alert in found)


def _told(case: Case, facts: Facts, disposition: str | None) -> AlertTold:
    # What opened it is what was found, and that is said already.
    done = [d.what if d.what == "opened" or not d.said else f"{d.what}: {d.said}" for d in case.done]
    return AlertTold(
        alert=f"a{case.id}",
        kind=case.kind,
        subject=case.subject,
        raised_at=case.raised_at,
        resolved_at=case.resolved_at,
        release=case.release,
        said=case.found.worst.said,
        done=(*done[:1], *_retrained_for(case, facts), *done[1:]),
        disposition=disposition,
    )


def _retrained_for(case: Case, facts: Facts) -> Iterator[str]:
    """Yield what became of the retrains that the windows of an alert asked for."""
    for cause in facts.causes:
        if cause.key.startswith(f"{case.subject}@") and case.raised_at <= cause.decided_at <= case.seen_at:
            run = next((run for run in facts.retrains if run.id == cause.run_id), None)
            made = run.release if run is not None else None
            said = f"retrained, {made} stands" if made is not None else f"retrain {cause.state}: {cause.reason}"
            yield f"{said} ({cause.name})"


def _week(arms: Mapping[ArmName, Facts], number: int, plan: Plan, told: Sequence[AlertTold]) -> Week:
    start = plan.start + number * _WEEK
    end = min(start + _WEEK, plan.end)
    return Week(
        number=number + 1,
        start=start,
        end=end,
        arms={name: _arm(found, plan, start, end) for name, found in arms.items()},
        differences=tuple(_differences(arms, start, end)),
        raised=tuple(a.alert for a in told if start < a.raised_at <= end),
        resolved=tuple(a.alert for a in told if a.resolved_at is not None and start < a.resolved_at <= end),
    )


def _arm(facts: Facts, plan: Plan, start: datetime, end: datetime) -> ArmSpan:
    answers = _between(facts.answers, start, end)
    versions = [v for found in facts.versions.values() for v in found if _is_in(v.taken_at, start, end)]
    cpu_s = sum(one.cpu_s for one in facts.used if _is_in(one.at, start, end))
    live = facts.live_at(end)
    return ArmSpan(
        live=None if live is None else live.release,
        predictions=answers.height,
        fallbacks=int(answers["fallback"].sum()),
        errors=int(answers["failed"].sum()),
        quality=tuple(_live_quality(name, answers, truths) for name, truths in facts.truths.items()),
        fresh=freshness(facts, [at for step in range(plan.steps) if start < (at := plan.at(step + 1)) <= end]),
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


def _live_quality(outcome: str, answers: pl.DataFrame, truths: pl.DataFrame) -> LiveQuality:
    known = truths.join(answers.select("id"), on="id", how="semi")
    return LiveQuality(outcome=outcome, measure=mean_of(known), waiting=answers.height - known.height)


def _differences(arms: Mapping[ArmName, Facts], start: datetime, end: datetime) -> Iterator[Compared]:
    others = [(name, facts) for name, facts in arms.items() if name != LOOP]
    for outcome, truths in arms[LOOP].truths.items():
        ours = _between(truths, start, end)
        theirs = [(name, facts.truths[outcome]) for name, facts in others if outcome in facts.truths]
        found = [compared_with(outcome, name, ours, _between(truth, start, end)) for name, truth in theirs]
        yield from (one for one in found if one.difference.mean is not None)


def _slices(workspace: Workspace, plan: Plan) -> tuple[LiveSlice, ...]:
    table = schema.windows
    query = sa.select(table.c.start_at, table.c.findings).where(table.c.pipeline == plan.pipeline)
    found = []
    with workspace.ledger.read() as conn:
        for at, findings in conn.execute(query.order_by(table.c.start_at)):
            week = max(int((at - plan.start) / _WEEK) + 1, 1)
            found += [
                LiveSlice(subject=str(one["subject"]), week=week, said=str(one["said"]))
                for one in findings
                if one.get("kind") == _SLICE and one.get("is_alarm")
            ]
    return tuple(found)


def _between(answers: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    return answers.filter(pl.col("at") >= start, pl.col("at") < end)


def _is_in(moment: datetime | None, start: datetime, end: datetime) -> bool:
    # What a step came to is recorded at its end.
    return moment is not None and start < moment <= end
