"""Attempts: each try at one node, with what it used and how it ended. Started and finished in batches."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.errors import StoreError
from penstock.core.records import Failure, Record, Usage
from penstock.core.states import AttemptState, change_attempt
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, fields


class NewAttempt(Record, frozen=True, kw_only=True):
    """A try that starts.

    Attributes:
        number: 1 for the first try at this node and part within the run.
        token: Fencing token of the lease it works under.
        worker: Who runs it, as plain JSON (host, pid, engine).
    """

    run_id: int
    node: str
    number: int
    token: int
    part: str = ""
    key: str | None = None
    worker: dict[str, Any] | None = None


class Ended(Record, frozen=True, kw_only=True):
    """How the attempt `id` ended."""

    id: int
    state: AttemptState
    usage: Usage = Usage()
    failure: Failure | None = None
    log: str = ""


class Attempt(NewAttempt, frozen=True, kw_only=True):
    """An attempt as recorded; what it used is None until it ends."""

    id: int
    state: AttemptState
    started_at: datetime
    finished_at: datetime | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_bytes: int | None = None
    failure: Failure | None = None
    log: str = ""


_T = schema.attempts
_RUNNING = AttemptState.RUNNING.value
_START = sa.insert(_T).returning(_T.c.id)
_START_ALL = sa.insert(_T).returning(_T.c.id, sort_by_parameter_order=True)
# "running" stands in the statement itself: an attempt that has ended is never written again, whoever is late.
_FINISH = (
    sa.update(_T)
    .where(_T.c.id == sa.bindparam("attempt"), _T.c.state == _RUNNING)
    .values({name: sa.bindparam(f"new_{name}") for name in ("state", "finished_at", "wall_s", "cpu_s", "peak_bytes")})
    .values({name: sa.bindparam(f"new_{name}") for name in ("failure", "log")})
)
_END_RUNNING = sa.update(_T).where(_T.c.run_id == sa.bindparam("run"), _T.c.state == _RUNNING)
_STATES = sa.select(_T.c.id, _T.c.state).where(_T.c.id.in_(sa.bindparam("ids", expanding=True)))
_OF_RUN = sa.select(_T).where(_T.c.run_id == sa.bindparam("run")).order_by(_T.c.id)
_LATEST = sa.select(sa.func.max(_T.c.number)).where(
    _T.c.run_id == sa.bindparam("run"), _T.c.node == sa.bindparam("of_node"), _T.c.part == sa.bindparam("of_part")
)


def start(conn: sa.Connection, new: NewAttempt) -> int:
    """Record that an attempt starts now and return its id."""
    return int(conn.execute(_START, _starting(new, clock_of(conn).now())).scalar_one())


def start_all(conn: sa.Connection, new: Sequence[NewAttempt]) -> list[int]:
    """Record that attempts start now and return their ids in the same order."""
    if not new:
        return []
    now = clock_of(conn).now()
    return [int(found) for found in conn.execute(_START_ALL, [_starting(one, now) for one in new]).scalars()]


def finish_all(conn: sa.Connection, ended: Sequence[Ended]) -> None:
    """Record how attempts ended.

    Raises:
        StoreError: One of them is not running: it has ended already or never started. Nothing may be committed then.
    """
    if not ended:
        return
    now = clock_of(conn).now()
    changed = conn.execute(_FINISH, [_ending(one, now) for one in ended]).rowcount
    if changed != len(ended):
        raise _not_running(conn, ended)


def end_running(conn: sa.Connection, run_id: int, state: AttemptState, failure: Failure) -> None:
    """Record that whatever still runs in a run ended now, and why: the run was stopped, or its process is dead."""
    after = change_attempt(AttemptState.RUNNING, state)
    values = {"state": after.value, "finished_at": clock_of(conn).now(), "failure": failure}
    conn.execute(_END_RUNNING.values(**values), {"run": run_id})


def of_run(conn: sa.Connection, run_id: int) -> list[Attempt]:
    """Return the attempts of a run in the order in which they started."""
    return [msgspec.convert(fields(row), Attempt) for row in conn.execute(_OF_RUN, {"run": run_id}).mappings()]


def latest_number(conn: sa.Connection, run_id: int, node: str, part: str = "") -> int:
    """Return the number of the latest attempt at a node within a run, 0 when there was none."""
    return int(conn.execute(_LATEST, {"run": run_id, "of_node": node, "of_part": part}).scalar() or 0)


def _starting(new: NewAttempt, now: datetime) -> dict[str, Any]:
    return msgspec.structs.asdict(new) | {"state": _RUNNING, "started_at": now, "log": ""}


def _ending(ended: Ended, now: datetime) -> dict[str, Any]:
    after = change_attempt(AttemptState.RUNNING, ended.state)
    return {
        "attempt": ended.id,
        "new_state": after.value,
        "new_finished_at": now,
        "new_wall_s": ended.usage.wall_s,
        "new_cpu_s": ended.usage.cpu_s,
        "new_peak_bytes": ended.usage.peak_bytes,
        "new_failure": ended.failure,
        "new_log": ended.log,
    }


def _not_running(conn: sa.Connection, ended: Sequence[Ended]) -> StoreError:
    ids = [one.id for one in ended]
    known = {int(found) for found in conn.execute(_STATES, {"ids": ids}).scalars()}
    unknown = sorted(set(ids) - known)
    hint = "another process has recorded an end for them; start new attempts"
    if unknown:
        return StoreError(f"Attempts {unknown!r} cannot end: they never started.", hint=hint)
    return StoreError(
        f"Some of the attempts {ids!r} cannot end: they have ended already or are given twice.", hint=hint
    )
