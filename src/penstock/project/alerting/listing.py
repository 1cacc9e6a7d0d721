"""Which alerts there are, what was done about each, and how many were worth hearing of. Reads the ledger."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa

from penstock.checks.statistics import Grouped, mean_intervals
from penstock.core.errors import NotFoundError
from penstock.core.records import Record
from penstock.core.refs import RunRef
from penstock.project.alerting.cases import Case, case_of
from penstock.project.alerting.words import Summary, clean, headline, summary
from penstock.project.moving import person
from penstock.project.workspace import Workspace
from penstock.store.ledger import alerts, causes, deliveries, releases, runs

_MOST_CAUSES = 300
_MOST_DEEDS = 20
_MOST_ROWS = 3
_AFTER = timedelta(days=1)  # what was done so long after an alert was resolved may still be about it


class Shown(Summary, frozen=True, kw_only=True):
    """An alert with who judged it and whether people heard.

    Attributes:
        title: One line.
        rows: Which rows moved it, "qty from 4 to 14: 1,129 rows"; sent nowhere, for these are values.
        disposition: "real", "noise", or None where nobody has said.
        unheard: Messages about it that have not arrived, "a7/opened/webhook: it answered 500".
    """

    title: str
    rows: list[str]
    disposition: str | None
    disposed_by: str | None
    unheard: list[str]


class Precision(Record, frozen=True, kw_only=True):
    """Of the alerts of one monitor that people disposed of, how many were real.

    Attributes:
        share: Real of disposed, with its 95 % interval (Wilson).
    """

    kind: str
    monitor: str
    real: int
    disposed: int
    share: float
    low: float
    high: float


class Listed(Record, frozen=True, kw_only=True):
    """Alerts, newest first.

    Attributes:
        overall: Precision of all monitors together; None where nobody has disposed of any.
        dead: Messages that could not be delivered, and are not tried any more.
    """

    alerts: tuple[Shown, ...]
    precision: tuple[Precision, ...]
    overall: Precision | None
    dead: int


class DeadMessage(Record, frozen=True, kw_only=True):
    """A message that is not tried any more."""

    message: str
    pipeline: str
    tries: int
    error: str


def list_alerts(
    workspace: Workspace,
    *,
    pipeline: str | None = None,
    is_all: bool = False,
    limit: int = 50,
    among: Sequence[str] | None = None,
) -> Listed:
    """Return the open alerts, or all, newest first; with the measured precision of each monitor.

    Args:
        workspace: The project.
        pipeline: Only those of this one.
        is_all: Those that are resolved too.
        limit: How many.
        among: Only those of these pipelines; None for all.

    Raises:
        NotFoundError: There is nothing known of such a pipeline.
    """
    with workspace.ledger.read() as conn:
        found = alerts.page(conn, pipeline=pipeline, is_open=None if is_all else True, limit=limit, among=among)
        if not found and pipeline is not None:
            _refuse_unknown(conn, pipeline)
        said = alerts.disposed(conn, pipeline)
        return Listed(
            alerts=tuple(show_alert(conn, alert) for alert in found),
            precision=tuple(_precision(kind, subject, *counts) for (kind, subject), counts in said.items()),
            overall=_precision("", "", *(sum(c[i] for c in said.values()) for i in (0, 1))) if said else None,
            dead=deliveries.counts(conn).get("dead", 0),
        )


def list_dead(workspace: Workspace) -> tuple[DeadMessage, ...]:
    """Return the messages that are not tried any more."""
    with workspace.ledger.read() as conn:
        return tuple(_dead(row) for row in deliveries.dead(conn))


def retry(workspace: Workspace, wanted: str) -> tuple[DeadMessage, ...]:
    """Let dead messages be tried again, from the beginning; the next tick sends them.

    Args:
        workspace: The project.
        wanted: "a7/opened/webhook", all of an alert as "a7", or "all".

    Raises:
        NotFoundError: No dead message is called so.
    """
    with workspace.ledger.write() as conn:
        return tuple(_dead(row) for row in deliveries.retry(conn, wanted, workspace.clock.now()))


def dispose(
    workspace: Workspace, alert: str, disposition: alerts.Disposition, note: str = "", *, by: str | None = None
) -> Shown:
    """Record whether an alert was worth hearing of.

    Args:
        workspace: The project.
        alert: "a7".
        disposition: "real" or "noise".
        note: Why, kept in the event.
        by: Who says so; the account of this process when None.

    Raises:
        NotFoundError: There is no such alert.
    """
    number = alerts.parse_alert(alert)
    with workspace.ledger.write() as conn:
        alerts.dispose(conn, number, disposition, by=by or person(), note=note)
    with workspace.ledger.read() as conn:
        return show_alert(conn, alerts.get(conn, number))


def show_alert(conn: sa.Connection, alert: alerts.Alert) -> Shown:
    """Return an alert with what was done about it."""
    case = case_of(alert)
    own = [f"{one.at:%Y-%m-%d %H:%M} {one.what}{f': {one.said}' if one.said else ''}" for one in case.done]
    unheard = [d for d in deliveries.of_alert(conn, alert.id) if d.state != "sent"]
    said = summary(alert, case.found, [*own, *deeds(conn, case)])
    return Shown(
        **msgspec.structs.asdict(said),
        title=headline(alert, case.found),
        rows=[clean(one) for one in _rows(case.found.worst.evidence)],
        disposition=alert.disposition,
        disposed_by=alert.disposed_by,
        unheard=[f"{d.name}: {d.state}{f' after {d.tries} tries, {d.error}' if d.tries else ''}" for d in unheard],
    )


def _rows(evidence: Mapping[str, Any]) -> Iterator[str]:
    """Return which rows moved it, where the monitor says so."""
    moved = evidence.get("moved")
    for one in moved[:_MOST_ROWS] if isinstance(moved, list) else ():
        if isinstance(one, dict) and "said" in one:
            count = one.get("rows")
            yield f"{one['said']}: {count:,} rows" if isinstance(count, int) else str(one["said"])


def deeds(conn: sa.Connection, case: Case) -> list[str]:
    """Return what the platform and people did while an alert was open: retrains, skips, releases."""
    until = None if case.resolved_at is None else case.resolved_at + _AFTER
    recent = causes.page(conn, pipeline=case.pipeline, limit=_MOST_CAUSES)
    own = [c for c in recent if c.kind not in causes.MARKS and _is_between(c.decided_at, case.raised_at, until)]
    said = [(c.decided_at, _deed(conn, c)) for c in own]
    made = [r for r in releases.of_pipeline(conn, case.pipeline) if _is_between(r.made_at, case.raised_at, until)]
    said += [(r.made_at, f"{r.ref} was released{'' if r.run_id is None else f' by r{r.run_id}'}") for r in made]
    ordered = sorted(said)
    left = len(ordered) - _MOST_DEEDS
    shown = [f"{at:%Y-%m-%d %H:%M} {text}" for at, text in ordered[:_MOST_DEEDS]]
    return [*shown, f"and {left} more"] if left > 0 else shown


def _deed(conn: sa.Connection, cause: causes.Cause) -> str:
    if cause.run_id is None:
        return f"{cause.name} {cause.state}: {cause.reason}"
    run = runs.get(conn, cause.run_id)
    came = f", {run.release} stands" if run.release is not None else ""
    why = f": {cause.reason}" if cause.state == "failed" or cause.figures.get("outcome") == "refused" else ""
    return f"{cause.name} retrained in {RunRef(cause.run_id)}, {cause.figures.get('outcome', cause.state)}{came}{why}"


def _is_between(moment: datetime, since: datetime, until: datetime | None) -> bool:
    return moment >= since and (until is None or moment <= until)


def _precision(kind: str, monitor: str, real: int, noise: int) -> Precision:
    found = mean_intervals(Grouped.of(np.repeat(np.array([1.0, 0.0]), [real, noise])), "share")
    return Precision(
        kind=kind,
        monitor=monitor,
        real=real,
        disposed=real + noise,
        share=real / (real + noise),
        low=float(found.low[0]),
        high=float(found.high[0]),
    )


def _dead(row: deliveries.Due) -> DeadMessage:
    return DeadMessage(message=row.name, pipeline=row.pipeline, tries=row.tries, error=row.error)


def _refuse_unknown(conn: sa.Connection, pipeline: str) -> None:
    known: Sequence[str] = sorted({r.pipeline for r in releases.of_pipeline(conn)})
    if pipeline not in known and not runs.page(conn, pipeline=pipeline, limit=1):
        hint = f"there are {', '.join(known)}" if known else "release one first: penstock run"
        raise NotFoundError(f"Nothing is known of a pipeline {pipeline!r}.", hint=hint)
