"""Carries decisions out: records them in the transaction that decided, begins runs, and records what became of those.

Belongs here: writes. It decides nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from penstock.core import faults
from penstock.core.errors import BudgetError, LeaseLostError, LedgerError, NotFoundError, PenstockError, StoreError
from penstock.core.records import Record
from penstock.core.refs import RunRef
from penstock.core.states import RunState
from penstock.engine import logs
from penstock.engine.events import Event, Listener, UnitEnded, ignore
from penstock.engine.stopping import CancelledRunError
from penstock.project.running import RunOptions, RunReport, run_graph
from penstock.project.targets import find_graph
from penstock.project.workspace import Workspace
from penstock.store.ledger import causes, events, recovery, runs, triggers
from penstock.worker.decide import DAY, state_after
from penstock.worker.gather import is_quarantined, rules_of
from penstock.worker.state import Action, Follow, Hold, Open, Outcome, Quarantine, Queue, Readmit, Skip, Start

_events = structlog.get_logger("penstock.worker")
ACTOR = "worker"
_OUTCOMES: dict[RunState, Outcome] = {
    RunState.SUCCEEDED: "succeeded",
    RunState.FAILED: "failed",
    RunState.LOST: "lost",
    RunState.CANCELLED: "cancelled",
}
# A gate that refuses and a purse that is empty say nothing bad about the pipeline.
_NO_FAILURES = frozenset({"check", BudgetError.code})
# Nor does a store that failed under a run: it begins again, as one whose process died. A full disk would fail it again.
_STORE_FAILED = frozenset({StoreError.code, LedgerError.code})


class Settled(Record, frozen=True, kw_only=True):
    """What became of the run of a cause.

    Attributes:
        cause: "new_data:ratings@8".
        outcome: "succeeded", "refused" by a check, "failed", or "lost" and "cancelled", which begin again.
        release: The release that stands after it.
    """

    pipeline: str
    cause: str
    run: str
    outcome: Outcome
    release: str | None = None
    said: str = ""


def record(conn: sa.Connection, actions: Sequence[Action]) -> None:
    """Record decisions; one that was recorded before changes nothing."""
    for action in actions:
        match action:
            case Queue():
                _put(conn, action, "waiting")
            case Skip():
                _skip(conn, action)
            case Hold():
                _hold(conn, action)
            case Follow():
                _follow(conn, action)
            case Quarantine():
                _quarantine(conn, action)
            case Readmit():
                _readmit(conn, action)
            case Start():  # begun with its run, in one transaction
                pass


def settle(workspace: Workspace) -> list[Settled]:
    """Record what became of runs that ended, here or with a process that is dead; told twice, nothing changes."""
    with workspace.ledger.write() as conn:
        lost = recovery.mark_lost(conn)
        causes.lock_causes(conn)
        running = [c for c in causes.open_causes(conn) if c.state == "running" and c.run_id is not None]
        found = [settled for cause in running if (settled := _settle(conn, cause)) is not None]
    logs.forget(workspace.home, lost)
    return found


def perform(workspace: Workspace, cause: Open, *, slot: datetime | None = None) -> RunReport | None:
    """Run what a cause asks for; None when another worker has begun it, or it could not begin at all.

    Args:
        workspace: The project.
        cause: A waiting cause with its number.
        slot: The logical time of the run; when the cause was decided by default.

    Raises:
        StoreError: The store is away; the cause waits.
        CancelledRunError: This process was asked to stop; the cause waits.
    """
    faults.point("cause_before_run")
    policy = workspace.settings.policy(cause.pipeline).economics
    options = RunOptions(
        params={},
        now=slot or cause.decided_at,
        cause=cause.name,
        cause_id=cause.id,
        earlier=policy.releases - 1 if policy.weigh else 0,
    )
    try:
        report = run_graph(find_graph(workspace, cause.pipeline), workspace, options, _purse(workspace, cause))
    except LeaseLostError as error:
        _events.info("cause_taken", pipeline=cause.pipeline, cause=cause.name, reason=error.message)
        return None
    except (StoreError, CancelledRunError):
        raise
    except PenstockError as error:
        _fail_unbegun(workspace, cause, error)
        return None
    faults.point("cause_after_run")
    return report


def _purse(workspace: Workspace, cause: Open) -> Listener:
    """Return what listens to a run and ends it when its pipeline's budget is used up, between two of its tasks."""
    most = rules_of(workspace.settings.policy(cause.pipeline)).cpu_s_per_day
    if most is None or cause.kind == "manual":
        return ignore
    with workspace.ledger.read() as conn:
        before_s = sum(u.cpu_s for u in triggers.used_since(conn, cause.pipeline, workspace.clock.now() - DAY))
    used_s = 0.0

    def listen(event: Event) -> None:
        nonlocal used_s
        if not isinstance(event, UnitEnded):
            return
        used_s += event.usage.cpu_s
        if before_s + used_s > most:
            raise BudgetError(
                f"The retrain of {cause.pipeline!r} was stopped: it used {used_s:.1f} CPU seconds after "
                f"{before_s:.1f} in the last day, and policy grants {most:g}.",
                hint="raise budget in penstock.toml, or run it yourself: penstock run; what was finished is kept",
            )

    return listen


def _fail_unbegun(workspace: Workspace, cause: Open, error: PenstockError) -> None:
    """Record that a cause could not even begin; where a run was begun, that run says what became of it."""
    _events.error("retrain_failed", pipeline=cause.pipeline, cause=cause.name, reason=error.message)
    with workspace.ledger.write() as conn:
        kept = causes.get(conn, cause.id)
        if kept.state == "waiting":
            figures = kept.figures | {"outcome": "failed", "error": error.code}
            causes.end(conn, kept, "failed", reason=error.message, figures=figures)


def _settle(conn: sa.Connection, cause: causes.Cause) -> Settled | None:
    try:
        run = runs.get(conn, cause.run_id or 0)
    except NotFoundError:
        return None
    if run.state is RunState.RUNNING:
        return None
    outcome = _outcome(run)
    said = "" if run.error is None else run.error.message
    times = int(cause.figures.get("lost", 0)) + (outcome == "lost")
    figures = {k: v for k, v in cause.figures.items() if k != "held"} | {"outcome": outcome, "lost": times}
    state = state_after(outcome, times)
    if outcome == "lost" and state == "failed":
        said = f"its process died, or the store failed under it, {times} times"
    causes.end(conn, cause, state, reason=said or cause.reason, figures=figures)
    return Settled(
        pipeline=cause.pipeline,
        cause=cause.name,
        run=str(RunRef(run.id)),
        outcome=outcome,
        release=run.release,
        said=said,
    )


def _outcome(run: runs.Run) -> Outcome:
    kind = "" if run.error is None or run.state is not RunState.FAILED else run.error.kind
    if kind in _NO_FAILURES:
        return "refused"
    return "lost" if kind in _STORE_FAILED else _OUTCOMES[run.state]


def _put(conn: sa.Connection, action: Queue | Skip, state: causes.State) -> bool:
    new = causes.NewCause(
        pipeline=action.pipeline,
        kind=action.kind,
        key=action.key,
        state=state,
        priority=action.priority if isinstance(action, Queue) else 0,
        reason=action.reason,
        figures=action.figures,
    )
    return causes.put(conn, new)


def _skip(conn: sa.Connection, action: Skip) -> None:
    if _put(conn, action, "skipped"):
        return
    kept = causes.by_key(conn, action.pipeline, action.kind, action.key)
    if kept is not None and kept.state == "waiting":
        figures = kept.figures | msgspec.to_builtins(action.figures) | {"asked": kept.reason}
        causes.end(conn, kept, "skipped", reason=action.reason, figures=figures)


def _hold(conn: sa.Connection, action: Hold) -> None:
    kept = causes.by_key(conn, action.pipeline, action.kind, action.key)
    if kept is not None and kept.state == "waiting":
        held = {"reason": action.reason, "until": action.until, **action.figures}
        causes.end(conn, kept, "waiting", reason=kept.reason, figures=kept.figures | {"held": held})


def _follow(conn: sa.Connection, action: Follow) -> None:
    newest = causes.page(conn, pipeline=action.pipeline, kinds=[causes.SCHEDULED], limit=1)
    number = 1 if not newest else int(newest[0].key) + 1
    figures = {"schedule": action.schedule, "timezone": action.timezone}
    new = causes.NewCause(
        pipeline=action.pipeline, kind=causes.SCHEDULED, key=str(number), state="done", figures=figures
    )
    causes.put(conn, new)


def _quarantine(conn: sa.Connection, action: Quarantine) -> None:
    new = causes.NewCause(
        pipeline=action.pipeline,
        kind=causes.QUARANTINE,
        key=action.key,
        state="running",
        reason=action.reason,
        figures=msgspec.to_builtins(action.figures),
    )
    if causes.put(conn, new):
        _tell(conn, "pipeline.quarantined", action.pipeline, {"reason": action.reason, **new.figures})


def _readmit(conn: sa.Connection, action: Readmit) -> None:
    kept = is_quarantined(conn, action.pipeline)
    if kept is not None:
        causes.end(conn, kept, "done", reason=kept.reason, figures=kept.figures | {"left": action.reason})
        _tell(conn, "pipeline.readmitted", action.pipeline, {"reason": action.reason})


def _tell(conn: sa.Connection, action: str, pipeline: str, details: dict[str, Any]) -> None:
    events.append(conn, actor=ACTOR, action=action, target=pipeline, details=details)
