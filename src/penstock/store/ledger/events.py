"""Events: who did what to what, append-only, each holding the hash of the one before.

A changed, removed or reordered event breaks the chain; `verify` says where. Appending takes a lock: do it last.
"""

from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.digest import digest_value
from penstock.core.records import Record
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, fields, lock, upsert
from penstock.store.ledger.types import encode_json


class Event(Record, frozen=True, kw_only=True):
    """One thing that somebody did.

    Attributes:
        actor: A person or a part of the platform.
        action: A verb in the past tense with its noun, as "release.created".
        target: What it was done to, as "movies@12".
        previous: Hash of the event before; "" for the first.
    """

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    details: dict[str, Any]
    previous: str
    hash: str


_T, _M = schema.events, schema.meta
_HEAD = "events_head"
_APPEND = sa.insert(_T)
_LAST = sa.select(_T.c.id, _T.c.hash).order_by(_T.c.id.desc()).limit(1)
_ALL = sa.select(_T).order_by(_T.c.id)
_SET_META = upsert(_M, "value")
_GET_META = sa.select(_M.c.value).where(_M.c.key == _HEAD)


def append(
    conn: sa.Connection, *, actor: str, action: str, target: str, details: dict[str, Any] | None = None
) -> Event:
    """Record that `actor` did something now, and return the event."""
    lock(conn, "events")
    last = conn.execute(_LAST).one_or_none()
    number, previous = (1, "") if last is None else (int(last.id) + 1, str(last.hash))
    at = clock_of(conn).now().astimezone(UTC)
    said: dict[str, Any] = {"actor": actor, "action": action, "target": target, "details": details or {}}
    chained = said | {"id": number, "at": at.isoformat(timespec="microseconds"), "previous": previous}
    found = _hash(chained)
    conn.execute(_APPEND, chained | {"hash": found})
    # Kept apart from the chain, so that events cut off at its end are missed too.
    conn.execute(_SET_META.on(conn), {"key": _HEAD, "value": f"{number} {found}"})
    return Event(id=number, at=at, previous=previous, hash=found, **said)


def verify(conn: sa.Connection) -> list[str]:
    """Follow the whole chain and return one sentence per break; an empty list when it is whole."""
    breaks = []
    number, previous = 0, ""
    for row in conn.execution_options(yield_per=1000).execute(_ALL).mappings():
        columns = fields(row)
        found = columns.pop("hash")
        if columns["id"] != number + 1 or columns["previous"] != previous:
            breaks.append(f"Event {columns['id']} does not follow event {number}: one was removed, added or reordered.")
        if _hash(columns) != found:
            breaks.append(f"Event {columns['id']} is not as it was recorded.")
        number, previous = columns["id"], found
    head = conn.execute(_GET_META).scalar() or "0 "
    if head != f"{number} {previous}":
        breaks.append(f"The chain ends at event {number}, but event {head.partition(' ')[0]} was the last recorded.")
    return breaks


def page(conn: sa.Connection, *, target: str | None = None, before: int | None = None, limit: int = 50) -> list[Event]:
    """Return the newest events first; go on with `before` the last id received."""
    query = sa.select(_T).order_by(_T.c.id.desc()).limit(limit)
    if target is not None:
        query = query.where(_T.c.target == target)
    if before is not None:
        query = query.where(_T.c.id < before)
    return [msgspec.convert(fields(row), Event) for row in conn.execute(query).mappings()]


def _hash(event: dict[str, Any]) -> str:
    # As text, in which NaN and infinities differ from null.
    return digest_value(encode_json(event))
