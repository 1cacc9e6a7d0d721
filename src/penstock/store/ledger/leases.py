"""Leases with fencing tokens: who may work on something, known dead at once, and refused when late.

SQLite is one host, so its leases are timed by that host's monotonic clock; PostgreSQL's by the server's.
The monotonic clock stands still while a laptop sleeps, as the owner does: waking up expires nothing.
"""

import msgspec
import sqlalchemy as sa

from penstock.core.clock import boot_id
from penstock.core.errors import LeaseLostError
from penstock.core.process import is_known_dead
from penstock.core.records import Owner, Record
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, fields, is_sqlite, upsert


class Lease(Record, frozen=True, kw_only=True):
    """A lease as recorded.

    Attributes:
        owner: Who holds it; None once released.
        token: Grows with every change of owner and never shrinks.
        expires_s: On the clock of the ledger: seconds since boot (SQLite) or since 1970 on the server (PostgreSQL).
        boot: Boot of the machine that took it.
    """

    name: str
    owner: Owner | None
    token: int
    expires_s: float
    boot: str


_T = schema.leases
_OF = sa.select(_T).where(_T.c.name == sa.bindparam("of_name"))
_FOR_UPDATE = _OF.with_for_update()
# Held to the end of the transaction, so that nobody takes the lease over between this look and the commit.
_TOKEN = sa.select(_T.c.token, _T.c.owner).where(_T.c.name == sa.bindparam("of_name")).with_for_update(read=True)
_ALL = sa.select(_T).where(_T.c.owner.is_not(None)).order_by(_T.c.name)
_NEW = upsert(_T)
_TAKE = sa.update(_T).where(_T.c.name == sa.bindparam("of_name"))
_MINE = _TAKE.where(_T.c.token == sa.bindparam("of_token"), _T.c.owner.is_not(None))
_SERVER_S = sa.text("SELECT extract(epoch FROM clock_timestamp())::double precision")


def acquire(conn: sa.Connection, name: str, owner: Owner, ttl_s: float) -> int | None:
    """Take a lease if it is free, expired, or its owner is known dead.

    Args:
        conn: A writing transaction.
        name: What is to be worked on, as "run/41".
        owner: Who takes it: `core.process.this_process()`.
        ttl_s: Seconds until it expires unless renewed.

    Returns:
        The fencing token for every write under this lease, or None when somebody else holds it.
    """
    row = conn.execute(_FOR_UPDATE, {"of_name": name}).mappings().one_or_none()
    if row is None:
        expires_s = _now_s(conn) + ttl_s
        taken = {"name": name, "owner": owner, "token": 1, "expires_s": expires_s, "boot": owner.boot}
        insert = _NEW.on(conn).execution_options(preserve_rowcount=True)
        if conn.execute(insert, taken).rowcount == 1:
            return 1
        row = conn.execute(_FOR_UPDATE, {"of_name": name}).mappings().one()  # somebody was quicker
    lease = msgspec.convert(fields(row), Lease)
    now_s = _now_s(conn)
    if not _is_free(lease, now_s, one_host=is_sqlite(conn)):
        return None
    values = {"owner": owner, "token": lease.token + 1, "expires_s": now_s + ttl_s, "boot": owner.boot}
    conn.execute(_TAKE.values(**values), {"of_name": name})
    return lease.token + 1


def renew(conn: sa.Connection, name: str, token: int, ttl_s: float) -> None:
    """Hold a lease for `ttl_s` seconds from now.

    Raises:
        LeaseLostError: Somebody else has taken it, or it was released.
    """
    values = {"of_name": name, "of_token": token}
    if conn.execute(_MINE.values(expires_s=_now_s(conn) + ttl_s), values).rowcount != 1:
        raise _lost(name, token)


def check(conn: sa.Connection, name: str, token: int) -> None:
    """Refuse to go on unless `token` still holds the lease; call it in the transaction that commits the work.

    Raises:
        LeaseLostError: Somebody else has taken it, or it was released.
    """
    row = conn.execute(_TOKEN, {"of_name": name}).one_or_none()
    if row is None or row.owner is None or row.token != token:
        raise _lost(name, token)


def release(conn: sa.Connection, name: str, token: int) -> None:
    """Give a lease back; nothing happens when it is no longer held under `token`."""
    conn.execute(_MINE.values(owner=None, expires_s=0.0), {"of_name": name, "of_token": token})


def revoke(conn: sa.Connection, name: str) -> None:
    """Take a lease away from whoever holds it: what is still written under it is refused."""
    conn.execute(_TAKE.values(owner=None, expires_s=0.0, token=_T.c.token + 1), {"of_name": name})


def get(conn: sa.Connection, name: str) -> Lease | None:
    """Return a lease, None when it was never taken."""
    row = conn.execute(_OF, {"of_name": name}).mappings().one_or_none()
    return None if row is None else msgspec.convert(fields(row), Lease)


def is_free(conn: sa.Connection, lease: Lease) -> bool:
    """Return whether anybody may take the lease now."""
    return _is_free(lease, _now_s(conn), one_host=is_sqlite(conn))


def held(conn: sa.Connection) -> list[Lease]:
    """Return all leases that were not released, also those whose owner is dead."""
    return [msgspec.convert(fields(row), Lease) for row in conn.execute(_ALL).mappings()]


def run_lease(run_id: int) -> str:
    """Return the name of the lease that the process behind a run holds."""
    return f"run/{run_id}"


def _is_free(lease: Lease, now_s: float, *, one_host: bool) -> bool:
    if lease.owner is None or is_known_dead(lease.owner):
        return True
    if one_host and lease.boot != boot_id():
        return True  # seconds since another boot say nothing here, and whoever counted them went down with it
    return lease.expires_s <= now_s


def _now_s(conn: sa.Connection) -> float:
    return clock_of(conn).monotonic_s() if is_sqlite(conn) else float(conn.execute(_SERVER_S).scalar_one())


def _lost(name: str, token: int) -> LeaseLostError:
    return LeaseLostError(
        f"The lease {name!r} is no longer held under token {token}: another process has taken over this work.",
        hint="nothing to mend: what that process records stands; look at it with `penstock runs`",
    )
