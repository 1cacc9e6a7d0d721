"""Alerts from what no window finds: intakes that are refused, retrains that fail, the gate, the budget, quarantine.

Each is read from what the ledger has, and not reported by whoever did it: so nobody who dies between doing and telling
takes an alert along, and told twice it is the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
import structlog

from penstock.core.digest import digest_value
from penstock.core.errors import NotFoundError
from penstock.core.refs import RunRef
from penstock.core.states import NodeState, RolloutState, RunState
from penstock.project.alerting.cases import Fact
from penstock.project.alerting.follow import channels_of, opened, record
from penstock.project.alerting.judging import judge_facts
from penstock.project.alerting.slower import KIND as SLOWER
from penstock.project.alerting.slower import slower_facts
from penstock.project.intake import CAUSE
from penstock.project.workspace import Workspace
from penstock.store.ledger import alerts, attempts, causes, rollouts, runs, triggers

_events = structlog.get_logger("penstock.alerts")
_MOST_RUNS = 30
_MOST_LOST = 2  # a process that died once is begun again, and that is all; twice is a pattern
STANDING = frozenset({"intake", "retrain", "refused", "budget", "quarantine", "lost", "rollout", SLOWER})
LOOK = "look"


def notice(workspace: Workspace, pipelines: Iterable[str], now: datetime) -> None:
    """Open and resolve the alerts of pipelines by how their intakes and retrains stand.

    Raises:
        StoreError: The store is away.
    """
    # How long work takes on this machine says nothing of the months that a rehearsal lives through.
    read = standing if workspace.settings.is_replay else _standing_with_times
    for pipeline in pipelines:
        _judge(_Asked(workspace, pipeline, now), read, STANDING)


def notice_look(workspace: Workspace, pipeline: str, parts: Mapping[str, str | None], now: datetime) -> None:
    """Open and resolve the alerts about looking after a pipeline itself.

    Args:
        workspace: The project.
        pipeline: Which was looked after.
        parts: What was done, as "taking in rows", with what went wrong; None where it went well.
        now: UTC.

    Raises:
        StoreError: The store is away.
    """
    facts = [
        Fact(kind=LOOK, subject=part, mark=digest_value(said)[:16], at=now, said=f"{part}: {said}")
        for part, said in parts.items()
        if said is not None
    ]
    _judge(_Asked(workspace, pipeline, now), lambda *_: facts, frozenset(f"{LOOK} {part}" for part in parts))


@dataclass(frozen=True, slots=True)
class _Asked:
    workspace: Workspace
    pipeline: str
    now: datetime


def _judge(asked: _Asked, read: Callable[[sa.Connection, str], list[Fact]], scope: frozenset[str]) -> None:
    ledger, name = asked.workspace.ledger, asked.pipeline
    with ledger.read() as conn:  # mostly nothing is new, and readers hold up nobody
        before = opened(conn, name, asked.now)
        if judge_facts(before, read(conn, name), scope).cases == before.before:
            return
    with ledger.write() as conn:
        alerts.lock_alerts(conn)
        verdict = judge_facts(opened(conn, name, asked.now), read(conn, name), scope)
        record(conn, verdict, channels_of(asked.workspace.settings, name))


def standing(conn: sa.Connection, pipeline: str) -> list[Fact]:
    """Return what stands now and is worth hearing of."""
    found = [_quarantine(conn, pipeline), _retrain(conn, pipeline), _lost(conn, pipeline), _rollout(conn, pipeline)]
    found.append(_budget(conn, pipeline) if not any(f is not None and f.kind == "budget" for f in found) else None)
    return [*_intakes(conn, pipeline), *(fact for fact in found if fact is not None)]


def _standing_with_times(conn: sa.Connection, pipeline: str) -> list[Fact]:
    return [*standing(conn, pipeline), *slower_facts(conn, pipeline)]


def _intakes(conn: sa.Connection, pipeline: str) -> list[Fact]:
    """Return the datasets that the newest intake could not take in, and that no run has taken in since."""
    recent = runs.page(conn, pipeline=pipeline, limit=_MOST_RUNS)
    newest = next((r for r in recent if r.cause == CAUSE and r.state in {RunState.SUCCEEDED, RunState.FAILED}), None)
    if newest is None or newest.state is RunState.SUCCEEDED:
        return []
    later = [r for r in recent if r.id > newest.id and r.state is not RunState.RUNNING]
    good = {n.node for r in later for n in runs.nodes(conn, r.id) if n.state in {NodeState.SUCCEEDED, NodeState.REUSED}}
    failures = {a.node: a.failure for a in attempts.of_run(conn, newest.id) if a.failure is not None}
    failed = [n.node for n in runs.nodes(conn, newest.id) if n.state is NodeState.FAILED and n.node not in good]
    facts = []
    for name in failed:
        failure = failures.get(name) or newest.error
        said = "no reason was recorded" if failure is None else failure.message
        evidence = {"run": str(RunRef(newest.id)), "failure": "" if failure is None else failure.kind}
        at = newest.finished_at or newest.started_at
        # The same failure hour after hour is one; another reason is news.
        mark = digest_value(said)[:16]
        facts.append(Fact(kind="intake", subject=name, mark=mark, at=at, said=f"{name}: {said}", evidence=evidence))
    return facts


def _quarantine(conn: sa.Connection, pipeline: str) -> Fact | None:
    newest = causes.page(conn, pipeline=pipeline, kinds=[causes.QUARANTINE], limit=1)
    if not newest or newest[0].state != "running":
        return None
    mark = newest[0]
    return Fact(
        kind="quarantine",
        subject=pipeline,
        mark=mark.key,
        at=mark.decided_at,
        said=mark.reason,
        evidence={"failures": mark.figures.get("failures")},
    )


def _retrain(conn: sa.Connection, pipeline: str) -> Fact | None:
    """Return that the newest retrain that ended was refused, stopped by the budget or failed."""
    tried = causes.tried(conn, pipeline, limit=_MOST_RUNS)
    ended = next((c for c in tried if c.state in {"done", "failed"}), None)
    if ended is None or ended.figures.get("outcome") == "succeeded" or _is_released_since(conn, pipeline, ended):
        return None
    run = _run(conn, ended)
    kind, said = "retrain", ended.reason
    if ended.figures.get("outcome") == "refused":
        kind = "budget" if run is not None and run.error is not None and run.error.kind == "budget" else "refused"
    evidence = {"cause": ended.name, "run": None if run is None else str(RunRef(run.id))}
    at = ended.finished_at or ended.decided_at
    return Fact(kind=kind, subject=pipeline, mark=str(ended.id), at=at, said=said, evidence=evidence)


def _rollout(conn: sa.Connection, pipeline: str) -> Fact | None:
    """Return that the newest candidate was taken back by what was found of it; a newer one ends that."""
    newest = next(iter(rollouts.page(conn, pipeline, most=1)), None)
    if newest is None or newest.state is not RolloutState.ROLLED_BACK or newest.finished_at is None:
        return None
    broken = [guard for guard in newest.figures.get("guards", []) if guard.get("is_broken")]
    if not broken:  # a person did
        return None
    evidence = {"release": str(newest.ref), "stage": newest.stage_name, "guards": broken}
    said = f"{newest.ref} was taken back at {newest.stage_name}: {newest.reason}"
    at = newest.finished_at
    return Fact(kind="rollout", subject=pipeline, mark=str(newest.id), at=at, said=said, evidence=evidence)


def _lost(conn: sa.Connection, pipeline: str) -> Fact | None:
    """Return that the process of a retrain that is yet to end has died more than once."""
    tried = causes.tried(conn, pipeline, limit=1)
    if not tried or tried[0].state not in {"waiting", "running"}:
        return None
    cause, times = tried[0], int(tried[0].figures.get("lost", 0))
    if times < _MOST_LOST:
        return None
    evidence = {"cause": cause.name, "run": None if cause.run_id is None else str(RunRef(cause.run_id))}
    said = f"the process of the retrain of {cause.name} died {times} times; out of memory?"
    mark = f"{cause.id}/{times}"
    return Fact(kind="lost", subject=pipeline, mark=mark, at=cause.decided_at, said=said, evidence=evidence)


def _budget(conn: sa.Connection, pipeline: str) -> Fact | None:
    """Return that the newest cause waits, or was skipped, for want of budget."""
    own = [c for c in causes.page(conn, pipeline=pipeline, limit=_MOST_RUNS) if c.kind not in causes.MARKS]
    if not own:
        return None
    newest = own[0]
    figures = newest.figures.get("held", {}) if newest.state == "waiting" else newest.figures
    if newest.state not in {"waiting", "skipped"} or "cpu_s_per_day" not in figures:
        return None
    said = str(figures.get("reason", newest.reason))
    evidence = {name: figures[name] for name in ("spent_cpu_s", "usual_cpu_s", "cpu_s_per_day") if name in figures}
    at = newest.decided_at
    return Fact(kind="budget", subject=pipeline, mark=newest.name, at=at, said=said, evidence=evidence)


def _is_released_since(conn: sa.Connection, pipeline: str, cause: causes.Cause) -> bool:
    good = triggers.last_released(conn, pipeline)
    if good is None:
        return False
    number, at = good
    if cause.run_id is not None:
        return number > cause.run_id
    return cause.finished_at is not None and at > cause.finished_at


def _run(conn: sa.Connection, cause: causes.Cause) -> runs.Run | None:
    if cause.run_id is None:
        return None
    try:
        return runs.get(conn, cause.run_id)
    except NotFoundError:
        return None
