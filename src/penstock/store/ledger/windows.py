"""Windows: what each monitor found between two moments, one row per (pipeline, monitor, start), whoever computes it.

Belongs here: the rows, and keeping the same thing twice without a trace. What is found: `penstock.project.watching`.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.records import Record
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, fields, upsert


class NewWindow(Record, frozen=True, kw_only=True):
    """What a monitor found in one window.

    Attributes:
        monitor: Which, as "data:ratings".
        rows: Rows, predictions or truths that it looked at.
        release: The release that was live, "movies@3".
        findings: Plain JSON, see `monitoring.findings.Finding`.
        profile: Digest of the blob that holds the profile of its rows.
        basis: Version of the table that it was computed from; 0 where there is none.
    """

    monitor: str
    start_at: datetime
    end_at: datetime
    rows: int
    release: str | None = None
    findings: list[dict[str, Any]] = []
    profile: str | None = None
    basis: int = 0

    @property
    def is_alarm(self) -> bool:
        """Whether any of its findings is beyond the alarm budget."""
        return any(finding.get("is_alarm") for finding in self.findings)


class KeptWindow(NewWindow, frozen=True, kw_only=True):
    """A window as recorded."""

    computed_at: datetime


class Mark(Record, frozen=True, kw_only=True):
    """How far a monitor has come.

    Attributes:
        first_at: Start of its first window.
        end_at: End of its newest window.
        basis: Highest version that any of its windows was computed from.
        windows: How many there are.
    """

    monitor: str
    first_at: datetime
    end_at: datetime
    basis: int
    windows: int


_T = schema.windows
_OWN = tuple(NewWindow.__struct_fields__)
_PUT = upsert(_T, *(name for name in (*_OWN, "computed_at") if name not in {"monitor", "start_at"}))
_OF = sa.select(*(_T.c[name] for name in (*_OWN, "computed_at"))).where(_T.c.pipeline == sa.bindparam("of_pipeline"))
_OF_MONITOR = _OF.where(_T.c.monitor == sa.bindparam("of_monitor"))
_MARKS = (
    sa.select(
        _T.c.monitor,
        sa.func.min(_T.c.start_at).label("first_at"),
        sa.func.max(_T.c.end_at).label("end_at"),
        sa.func.max(_T.c.basis).label("basis"),
        sa.func.count().label("windows"),
    )
    .where(_T.c.pipeline == sa.bindparam("of_pipeline"))
    .group_by(_T.c.monitor)
)
_PROFILES = sa.select(_T.c.pipeline, _T.c.profile).where(_T.c.profile.is_not(None)).distinct()


def put(conn: sa.Connection, pipeline: str, windows: Iterable[NewWindow]) -> int:
    """Record windows; one that is recorded with the same content stays untouched, so that nobody hears of it twice.

    Returns:
        How many were new or changed.
    """
    changed = 0
    for window in windows:
        kept = get(conn, pipeline, window.monitor, window.start_at)
        values = msgspec.structs.asdict(window) | {"findings": msgspec.to_builtins(window.findings)}
        if kept is not None and {name: getattr(kept, name) for name in _OWN} == values:
            continue
        conn.execute(_PUT.on(conn), values | {"pipeline": pipeline, "computed_at": clock_of(conn).now()})
        changed += 1
    return changed


def get(conn: sa.Connection, pipeline: str, monitor: str, start: datetime) -> KeptWindow | None:
    """Return a window by its start; None when it was never computed."""
    query = _OF_MONITOR.where(_T.c.start_at == sa.bindparam("of_time", type_=_T.c.start_at.type))
    names = {"of_pipeline": pipeline, "of_monitor": monitor, "of_time": start}
    row = conn.execute(query, names).mappings().one_or_none()
    return None if row is None else _window(row)


def page(
    conn: sa.Connection,
    pipeline: str,
    monitor: str,
    *,
    since: datetime | None = None,
    before: datetime | None = None,
    limit: int = 56,
) -> list[KeptWindow]:
    """Return the newest windows of a monitor, the oldest of them first.

    Args:
        conn: A transaction.
        pipeline: Whose.
        monitor: Which, as "data:ratings".
        since: Only those that start at this time or later.
        before: Only those that start before this time.
        limit: Most that are returned.
    """
    query, names = _OF_MONITOR, {"of_pipeline": pipeline, "of_monitor": monitor}
    if since is not None:
        query = query.where(_T.c.start_at >= since)
    if before is not None:
        query = query.where(_T.c.start_at < before)
    rows = conn.execute(query.order_by(_T.c.start_at.desc()).limit(limit), names).mappings()
    return [_window(row) for row in rows][::-1]


def marks(conn: sa.Connection, pipeline: str) -> dict[str, Mark]:
    """Return how far each monitor of a pipeline has come, by its name."""
    rows = conn.execute(_MARKS, {"of_pipeline": pipeline}).mappings()
    return {found.monitor: found for found in (msgspec.convert(fields(row), Mark) for row in rows)}


def profiles(conn: sa.Connection) -> list[tuple[str, str]]:
    """Return (pipeline, digest) of every profile that a window refers to."""
    return [(str(pipeline), str(digest)) for pipeline, digest in conn.execute(_PROFILES)]


def _window(row: sa.RowMapping) -> KeptWindow:
    return msgspec.convert(fields(row), KeptWindow)
