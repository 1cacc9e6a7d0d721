"""What a step came to, read from the ledger by its simulated time: the same after any number of kills."""

from datetime import datetime

from penstock.core.errors import BudgetError
from penstock.core.states import RunState
from penstock.project.intake import CAUSE as INTAKE
from penstock.project.workspace import Workspace, read_manifest
from penstock.store.ledger import causes, releases, runs
from penstock.worker.rehearsal.records import Day, Plan, Retrained, Skipped

_RECENT = 50
_NOT_RETRAINS = frozenset({INTAKE, "rehearsal"})
_REFUSALS = frozenset({"check", BudgetError.code})


def day_of(workspace: Workspace, plan: Plan, step: int, *, answered_by: str, problems: tuple[str, ...] = ()) -> Day:
    """Return what a step of an arm came to.

    Args:
        workspace: The arm.
        plan: The rehearsal.
        step: The newest step that was done.
        answered_by: The release that answered during it.
        problems: What its tick could not do.
    """
    at = plan.at(step + 1)
    with workspace.ledger.read() as conn:
        live = releases.live(conn, plan.pipeline)
        newest = runs.page(conn, pipeline=plan.pipeline, limit=_RECENT)
        recent = causes.page(conn, pipeline=plan.pipeline, limit=_RECENT)
    made = {} if live is None else {live.run_id: str(live.ref)}
    rows, quarantined = _rows(workspace, plan, live, at)
    return Day(
        step=step,
        at=at,
        answered_by=answered_by,
        live="" if live is None else str(live.ref),
        rows=rows,
        quarantined=quarantined,
        retrains=tuple(_retrained(run, made) for run in reversed(newest) if _is_retrain(run, at)),
        skipped=tuple(
            Skipped(cause=cause.name, reason=cause.reason)
            for cause in reversed(recent)
            if cause.state == "skipped" and cause.finished_at == at
        ),
        problems=problems,
    )


def _is_retrain(run: runs.Run, at: datetime) -> bool:
    # A run whose process was killed with the rehearsal's was begun again, and that one counts.
    is_over = run.state not in {RunState.LOST, RunState.CANCELLED, RunState.RUNNING}
    return run.started_at == at and run.cause not in _NOT_RETRAINS and is_over


def _retrained(run: runs.Run, made: dict[int | None, str]) -> Retrained:
    said = "" if run.error is None else run.error.message
    outcome = "succeeded"
    if run.state is not RunState.SUCCEEDED:
        outcome = "refused" if run.error is not None and run.error.kind in _REFUSALS else "failed"
    return Retrained(cause=run.cause, outcome=outcome, release=run.release, is_new=run.id in made, said=said)


def _rows(
    workspace: Workspace, plan: Plan, live: releases.Release | None, at: datetime
) -> tuple[dict[str, int], dict[str, int]]:
    names = [] if live is None else sorted(read_manifest(live.manifest_digest, workspace).datasets)
    found, aside = {}, {}
    for name in names:
        version = workspace.lake.table(plan.pipeline, name).latest()
        if version is not None:
            found[name] = version.rows
            if version.taken_at == at and version.rows_quarantined:
                aside[name] = version.rows_quarantined
    return found, aside
