"""Alerts: one row per cause and time it lasted; of each cause at most one is open, by the ledger's own unique key.

Belongs here: the rows and what windows they are read from. What is an alert: `penstock.project.alerting`. What has to
be sent to whom: `store.ledger.deliveries`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.store.ledger import events, schema
from penstock.store.ledger.statements import clock_of, fields, lock, upsert

Disposition = Literal["real", "noise"]
_EPOCH = datetime.fromtimestamp(0, UTC)


class Alert(Record, frozen=True, kw_only=True):
    """An alert as recorded.

    Attributes:
        id: 0 for one that is not recorded yet.
        kind: The family of what was found, as "drift", "quality", "quarantine".
        subject: The monitor that found it, as "data:ratings", or what else it is about.
        state: "open" or "resolved".
        raised_at: When it was opened; kept when the same cause comes back soon.
        seen_at: When something about it was last found.
        release: The release that was live, "movies@3".
        windows: Windows, or times, in which it was found.
        finding: Plain JSON: what, since when, how large, how sure, which rows.
        actions: What happened to it, oldest first: opened, joined by others, resolved.
    """

    pipeline: str
    kind: str
    subject: str
    raised_at: datetime
    seen_at: datetime
    id: int = 0
    state: Literal["open", "resolved"] = "open"
    resolved_at: datetime | None = None
    release: str | None = None
    windows: int = 1
    finding: dict[str, Any] = {}
    actions: list[dict[str, Any]] = []
    disposition: Disposition | None = None
    disposed_by: str | None = None

    @property
    def key(self) -> str:
        """What makes it this cause."""
        return f"{self.kind} {self.subject}"

    @property
    def ref(self) -> str:
        """How people call it: "a7"."""
        return f"a{self.id}"


class Recorded(Record, frozen=True, kw_only=True):
    """A window as the ledger has it."""

    monitor: str
    start_at: datetime
    end_at: datetime
    release: str | None
    rows: int
    findings: list[dict[str, Any]]
    computed_at: datetime


_T, _W, _M = schema.alerts, schema.windows, schema.meta
_GET = sa.select(_T).where(_T.c.id == sa.bindparam("of_id"))
_NEWEST_IDS = (
    sa.select(sa.func.max(_T.c.id))
    .where(_T.c.pipeline == sa.bindparam("of_pipeline"))
    .group_by(_T.c.kind, _T.c.subject)
)
_STANDING = sa.select(_T).where(_T.c.id.in_(_NEWEST_IDS)).order_by(_T.c.id)
_INSERT = sa.insert(_T).returning(_T.c.id)
_CHANGE = sa.update(_T).where(_T.c.id == sa.bindparam("of_id"))
_COMPUTED = (
    sa.select(*(_W.c[name] for name in Recorded.__struct_fields__))
    .where(
        _W.c.pipeline == sa.bindparam("of_pipeline"),
        _W.c.computed_at >= sa.bindparam("of_time", type_=_W.c.computed_at.type),
    )
    .order_by(_W.c.start_at, _W.c.monitor)
)
_SET_META = upsert(_M, "value")
_GET_META = sa.select(_M.c.value).where(_M.c.key == sa.bindparam("of_key"))
_DISPOSED = (
    sa.select(_T.c.kind, _T.c.subject, _T.c.disposition, sa.func.count())
    .where(_T.c.disposition.is_not(None))
    .group_by(_T.c.kind, _T.c.subject, _T.c.disposition)
    .order_by(_T.c.kind, _T.c.subject)
)


def lock_alerts(conn: sa.Connection) -> None:
    """Let one worker at a time say what is an alert, until its transaction ends."""
    lock(conn, "alerts")


def standing(conn: sa.Connection, pipeline: str) -> list[Alert]:
    """Return the newest alert of every cause that a pipeline ever had, open or resolved."""
    return [_alert(row) for row in conn.execute(_STANDING, {"of_pipeline": pipeline}).mappings()]


def put(conn: sa.Connection, alert: Alert) -> int:
    """Record an alert, new (id 0) or changed, and return its id; who disposed of it is left as it is."""
    kept = ("id", "disposition", "disposed_by")
    values = {name: value for name, value in msgspec.structs.asdict(alert).items() if name not in kept}
    values["open_key"] = alert.key if alert.state == "open" else None
    if alert.id == 0:
        return int(conn.execute(_INSERT, values).scalar_one())
    conn.execute(_CHANGE.values(**values), {"of_id": alert.id})
    return alert.id


def get(conn: sa.Connection, alert_id: int) -> Alert:
    """Return an alert.

    Raises:
        NotFoundError: There is no such alert.
    """
    row = conn.execute(_GET, {"of_id": alert_id}).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"There is no alert 'a{alert_id}'.", hint="`penstock alerts --all` lists those there are")
    return _alert(row)


def page(
    conn: sa.Connection,
    *,
    pipeline: str | None = None,
    is_open: bool | None = None,
    before: int | None = None,
    limit: int = 50,
    among: Sequence[str] | None = None,
) -> list[Alert]:
    """Return the newest alerts first; go on with `before` the last id received; `among` are pipelines, None for all."""
    query = sa.select(_T).order_by(_T.c.id.desc()).limit(limit)
    if among is not None:
        query = query.where(_T.c.pipeline.in_(among))
    if pipeline is not None:
        query = query.where(_T.c.pipeline == pipeline)
    if is_open is not None:
        query = query.where(_T.c.state == ("open" if is_open else "resolved"))
    if before is not None:
        query = query.where(_T.c.id < before)
    return [_alert(row) for row in conn.execute(query).mappings()]


def dispose(conn: sa.Connection, alert_id: int, disposition: Disposition, *, by: str, note: str = "") -> Alert:
    """Record whether an alert was worth hearing of; said again, the last word counts and every one is an event.

    Raises:
        NotFoundError: There is no such alert.
    """
    alert = get(conn, alert_id)
    conn.execute(_CHANGE.values(disposition=disposition, disposed_by=by), {"of_id": alert_id})
    details = {"pipeline": alert.pipeline, "disposition": disposition, "before": alert.disposition, "note": note}
    events.append(conn, actor=by, action="alert.disposed", target=alert.ref, details=details)
    return msgspec.structs.replace(alert, disposition=disposition, disposed_by=by)


def disposed(conn: sa.Connection, pipeline: str | None = None) -> dict[tuple[str, str], tuple[int, int]]:
    """Return how many alerts were real and how many noise, by kind and monitor."""
    query = _DISPOSED if pipeline is None else _DISPOSED.where(_T.c.pipeline == pipeline)
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for kind, subject, said, count in conn.execute(query):
        real, noise = found.get((kind, subject), (0, 0))
        found[kind, subject] = (real + count, noise) if said == "real" else (real, noise + count)
    return found


def computed_since(conn: sa.Connection, pipeline: str, since: datetime | None) -> list[Recorded]:
    """Return the windows of a pipeline that were computed at `since` or later, oldest first; all for None."""
    rows = conn.execute(_COMPUTED, {"of_pipeline": pipeline, "of_time": since or _EPOCH}).mappings()
    return [msgspec.convert(fields(row), Recorded) for row in rows]


def followed_to(conn: sa.Connection, pipeline: str) -> datetime | None:
    """Return up to when windows were followed; None when none ever was."""
    text = conn.execute(_GET_META, {"of_key": _followed(pipeline)}).scalar()
    return None if text is None else datetime.fromisoformat(str(text))


def set_followed(conn: sa.Connection, pipeline: str, moment: datetime) -> None:
    """Record that windows computed at `moment` and before were followed."""
    conn.execute(_SET_META.on(conn), {"key": _followed(pipeline), "value": moment.astimezone(UTC).isoformat()})


def parse_alert(text: str) -> int:
    """Return the id that "a7" or "7" stands for.

    Raises:
        InputError: The text is neither.
    """
    digits = text.removeprefix("a")
    if digits.isascii() and digits.isdigit() and len(digits) <= 18:
        return int(digits)
    raise InputError(f"{text!r} is no alert.", hint="write it as a7; `penstock alerts` lists them")


def now(conn: sa.Connection) -> datetime:
    """Return the time on the ledger's clock."""
    return clock_of(conn).now()


def _followed(pipeline: str) -> str:
    return f"alerts_followed/{pipeline}"


def _alert(row: sa.RowMapping) -> Alert:
    columns: Mapping[str, Any] = fields(row)
    return msgspec.convert({name: value for name, value in columns.items() if name != "open_key"}, Alert)
