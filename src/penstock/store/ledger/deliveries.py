"""Deliveries: who has yet to hear of an alert. Rows are made in the transaction that makes the alert, so none is lost.

What is tried together (`next_at` alike, `tries` not 0) stays together, so that a message tried again is the same one.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

import msgspec
import sqlalchemy as sa

from penstock.core.errors import NotFoundError
from penstock.core.records import Record
from penstock.store.ledger import schema
from penstock.store.ledger.statements import fields, upsert

State = Literal["waiting", "sending", "sent", "dead"]


class Delivery(Record, frozen=True, kw_only=True):
    """One message to one channel.

    Attributes:
        event: What happened, as "opened", "resolved", "opened#2" for the second time.
        channel: "webhook", "slack" or "email".
        state: "sending" was being tried when the process died, if nobody holds the lease of sending.
        next_at: When it is tried next; once sent, when that was.
        error: Why the last try failed.
    """

    alert_id: int
    event: str
    channel: str
    state: State
    tries: int
    next_at: datetime
    error: str = ""

    @property
    def name(self) -> str:
        """How people call it: "a7/opened/webhook"."""
        return f"a{self.alert_id}/{self.event}/{self.channel}"


class Due(Delivery, frozen=True, kw_only=True):
    """A message and whose alert it is of."""

    pipeline: str


_T, _A = schema.deliveries, schema.alerts
_PUT = upsert(_T)
_ONE = sa.and_(
    _T.c.alert_id == sa.bindparam("of_alert"),
    _T.c.event == sa.bindparam("of_event"),
    _T.c.channel == sa.bindparam("of_channel"),
)
_CHANGE = sa.update(_T).where(_ONE)
_OF = sa.select(_T, _A.c.pipeline).join(_A, _A.c.id == _T.c.alert_id)
_ORDER = (_T.c.next_at, _T.c.alert_id, _T.c.event, _T.c.channel)
_DUE = (
    _OF.where(
        sa.or_(
            _T.c.state == "sending",
            sa.and_(_T.c.state == "waiting", _T.c.next_at <= sa.bindparam("of_now", type_=_T.c.next_at.type)),
        )
    )
    .order_by(*_ORDER)
    .limit(sa.bindparam("of_limit"))
)
_DEAD = _OF.where(_T.c.state == "dead").order_by(*_ORDER)
_SENT_AT = (
    sa.select(_A.c.pipeline, _T.c.channel, _T.c.next_at)
    .join(_A, _A.c.id == _T.c.alert_id)
    .where(_T.c.state == "sent", _T.c.next_at > sa.bindparam("of_time", type_=_T.c.next_at.type))
    .distinct()
)
_COUNT = sa.select(_T.c.state, sa.func.count()).group_by(_T.c.state)
_OF_ALERT = sa.select(_T).where(_T.c.alert_id == sa.bindparam("of_alert")).order_by(_T.c.event, _T.c.channel)


def put(conn: sa.Connection, alert_id: int, event: str, *, channels: Iterable[str], at: datetime) -> None:
    """Let each channel hear of an event; one that was put before stays as it is."""
    rows = [
        {"alert_id": alert_id, "event": event, "channel": channel}
        | {"state": "waiting", "tries": 0, "next_at": at, "error": ""}
        for channel in channels
    ]
    if rows:
        conn.execute(_PUT.on(conn), rows)


def due(conn: sa.Connection, now: datetime, *, limit: int) -> list[Due]:
    """Return what is to be sent: what is due, and what was being sent when somebody died; oldest first."""
    rows = conn.execute(_DUE, {"of_now": now, "of_limit": limit}).mappings()
    return [msgspec.convert(fields(row), Due) for row in rows]


def dead(conn: sa.Connection) -> list[Due]:
    """Return what is not tried any more."""
    return [msgspec.convert(fields(row), Due) for row in conn.execute(_DEAD).mappings()]


def of_alert(conn: sa.Connection, alert_id: int) -> list[Delivery]:
    """Return what was or is to be sent about an alert."""
    return [
        msgspec.convert(fields(row), Delivery) for row in conn.execute(_OF_ALERT, {"of_alert": alert_id}).mappings()
    ]


def sent_since(conn: sa.Connection, since: datetime) -> list[tuple[str, str, datetime]]:
    """Return (pipeline, channel, when) of the messages that were sent later than `since`; a digest is one."""
    return [(str(p), str(c), at) for p, c, at in conn.execute(_SENT_AT, {"of_time": since})]


def counts(conn: sa.Connection) -> dict[str, int]:
    """Return the number of messages by state."""
    return {str(state): int(count) for state, count in conn.execute(_COUNT)}


def change(conn: sa.Connection, found: Sequence[Delivery]) -> None:
    """Record how messages stand now."""
    for one in found:
        values = {"state": one.state, "tries": one.tries, "next_at": one.next_at, "error": one.error}
        conn.execute(_CHANGE.values(**values), _key(one))


def retry(conn: sa.Connection, wanted: str, at: datetime) -> list[Due]:
    """Let dead messages be tried again from the beginning.

    Args:
        conn: A writing transaction.
        wanted: "a7/opened/webhook", all of an alert "a7", or "all".
        at: When.

    Raises:
        NotFoundError: No dead message is called so.
    """
    found = [one for one in dead(conn) if wanted in {"all", one.name, f"a{one.alert_id}", str(one.alert_id)}]
    if not found:
        raise NotFoundError(f"No undeliverable message is called {wanted!r}.", hint="list them: penstock alerts --dead")
    again = [msgspec.structs.replace(one, state="waiting", tries=0, next_at=at, error="") for one in found]
    change(conn, again)
    return again


def _key(one: Delivery) -> dict[str, object]:
    return {"of_alert": one.alert_id, "of_event": one.event, "of_channel": one.channel}
