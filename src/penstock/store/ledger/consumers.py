"""Consumers: the applications that ask a pipeline, with the hash of their key, quota, promise and contract."""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.tokens import Token
from penstock.store.ledger import events, schema
from penstock.store.ledger.statements import clock_of, fields


class Quota(Record, frozen=True, kw_only=True):
    """How often an application may ask, over all workers of a server; None for no limit.

    Attributes:
        rate_per_s: Requests per second in the long run.
        burst: Requests at once after a rest; as many as in a second where it is not said.
    """

    rate_per_s: float | None = None
    burst: float | None = None


class Promise(Record, frozen=True, kw_only=True):
    """What an application was promised; None for nothing.

    Attributes:
        percent: Of its requests, this share is answered within `ms`.
    """

    ms: float | None = None
    percent: float = 99.0


class Contract(Record, frozen=True, kw_only=True):
    """What an application relies on; empty where it said nothing.

    Attributes:
        function: The serve function that it asks; "" for any.
        fields: The fields that it sends; empty: those seen in the log, else all.
        answer: The fields of an answer that it reads; empty: all.
    """

    function: str = ""
    fields: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()


class NewConsumer(Record, frozen=True, kw_only=True):
    """An application to be registered."""

    pipeline: str
    name: str
    quota: Quota = Quota()
    promise: Promise = Promise()
    contract: Contract = Contract()


class Consumer(NewConsumer, frozen=True, kw_only=True):
    """An application as recorded.

    Attributes:
        key_id: Names its key; no secret.
        key_hash: SHA-256 of the key's secret.
        revoked_at: Since when its key is refused.
    """

    key_id: str
    key_hash: str
    made_at: datetime
    made_by: str
    revoked_at: datetime | None = None


_T = schema.consumers
_ADD = sa.insert(_T)
_IS = (_T.c.pipeline == sa.bindparam("of_pipeline"), _T.c.name == sa.bindparam("of_name"))
_GET = sa.select(_T).where(*_IS)
_OF = sa.select(_T).where(_T.c.pipeline == sa.bindparam("of_pipeline")).order_by(_T.c.name)
_ALL = sa.select(_T).order_by(_T.c.pipeline, _T.c.name)
_CHANGE = sa.update(_T).where(*_IS)
_DELETE = sa.delete(_T).where(*_IS)


def add(conn: sa.Connection, new: NewConsumer, token: Token, *, by: str) -> Consumer:
    """Register an application; one of this name whose key was revoked is replaced.

    Raises:
        InputError: There is one of this name already.
    """
    known = find(conn, new.pipeline, new.name)
    if known is not None and known.revoked_at is None:
        raise InputError(
            f"Consumer {new.name!r} of {new.pipeline!r} is registered already.",
            hint=f"give it a new key: penstock consumers rotate {new.pipeline} {new.name}; or revoke it first",
        )
    if known is not None:
        conn.execute(_DELETE, _name(new.pipeline, new.name))
    values = msgspec.to_builtins(new) | {
        "key_id": token.id,
        "key_hash": token.hash,
        "made_at": clock_of(conn).now(),
        "made_by": by,
    }
    conn.execute(_ADD, values)
    details = {"key": token.id, **{name: values[name] for name in ("quota", "promise", "contract")}}
    _say(conn, "added", new.pipeline, new.name, by=by, details=details)
    return get(conn, new.pipeline, new.name)


def rotate(conn: sa.Connection, pipeline: str, name: str, token: Token, *, by: str) -> Consumer:
    """Give an application a new key; the old one is refused from now on.

    Raises:
        NotFoundError: There is no such application.
        InputError: Its key was revoked.
    """
    known = get(conn, pipeline, name)
    if known.revoked_at is not None:
        raise InputError(
            f"The key of consumer {name!r} was revoked.",
            hint=f"register it anew: penstock consumers add {pipeline} {name}",
        )
    conn.execute(_CHANGE.values(key_id=token.id, key_hash=token.hash), _name(pipeline, name))
    _say(conn, "rotated", pipeline, name, by=by, details={"before": known.key_id, "key": token.id})
    return get(conn, pipeline, name)


def revoke(conn: sa.Connection, pipeline: str, name: str, *, by: str) -> Consumer:
    """Refuse the key of an application from now on; what it relies on is remembered, and no longer watched over.

    Raises:
        NotFoundError: There is no such application.
    """
    known = get(conn, pipeline, name)
    if known.revoked_at is None:
        conn.execute(_CHANGE.values(revoked_at=clock_of(conn).now()), _name(pipeline, name))
        _say(conn, "revoked", pipeline, name, by=by, details={"key": known.key_id})
    return get(conn, pipeline, name)


def find(conn: sa.Connection, pipeline: str, name: str) -> Consumer | None:
    """Return an application, None when it was never registered."""
    row = conn.execute(_GET, _name(pipeline, name)).mappings().one_or_none()
    return None if row is None else msgspec.convert(fields(row), Consumer)


def get(conn: sa.Connection, pipeline: str, name: str) -> Consumer:
    """Return an application.

    Raises:
        NotFoundError: It was never registered.
    """
    found = find(conn, pipeline, name)
    if found is None:
        raise NotFoundError(
            f"Pipeline {pipeline!r} has no consumer {name!r}.", hint=f"list them: penstock consumers {pipeline}"
        )
    return found


def of_pipeline(conn: sa.Connection, pipeline: str | None = None) -> list[Consumer]:
    """Return the applications of one pipeline, or of all, by name; those whose key was revoked too."""
    rows = conn.execute(_ALL) if pipeline is None else conn.execute(_OF, {"of_pipeline": pipeline})
    return [msgspec.convert(fields(row), Consumer) for row in rows.mappings()]


def active(conn: sa.Connection, pipeline: str) -> list[Consumer]:
    """Return the applications of a pipeline whose key is good, by name."""
    return [one for one in of_pipeline(conn, pipeline) if one.revoked_at is None]


def _name(pipeline: str, name: str) -> dict[str, Any]:
    return {"of_pipeline": pipeline, "of_name": name}


def _say(conn: sa.Connection, done: str, pipeline: str, name: str, *, by: str, details: dict[str, Any]) -> None:
    events.append(conn, actor=by, action=f"consumer.{done}", target=f"{pipeline}/{name}", details=details)
