"""Causes: why a run exists, or why there was none. One row per (pipeline, kind, key), whoever decides it.

A cause waits until a run begins for it, in one transaction (`begin`); so whoever dies in between leaves it waiting, and
of two workers one begins. Belongs here: the rows and their lawful changes. What is decided: `penstock.worker`.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from penstock.core.errors import LeaseLostError, NotFoundError
from penstock.core.records import Owner, Record
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, fields, lock, upsert

State = Literal["waiting", "running", "done", "skipped", "failed"]
# What is recorded beside causes of runs, under the same unique key: from when a schedule holds, and a quarantine.
SCHEDULED, QUARANTINE = "scheduled", "quarantine"
MARKS = (SCHEDULED, QUARANTINE)


class NewCause(Record, frozen=True, kw_only=True):
    """A reason to run, or a mark.

    Attributes:
        kind: "schedule", "new_data", "drift", "quality", "stale", "upstream", "manual", "webhook".
        key: What makes it this one: a slot's instant, a dataset version, a window.
        reason: In words; for a skipped one, why not.
        figures: Plain JSON that the reason rests on.
    """

    pipeline: str
    kind: str
    key: str
    state: State = "waiting"
    priority: int = 0
    reason: str = ""
    figures: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """What a run says about itself: "new_data:ratings@8"."""
        return f"{self.kind}:{self.key}"


class Cause(NewCause, frozen=True, kw_only=True):
    """A cause as recorded.

    Attributes:
        run_id: The newest run that was begun for it.
        owner: The process that began that run.
    """

    id: int
    decided_at: datetime
    finished_at: datetime | None = None
    run_id: int | None = None
    owner: Owner | None = None


_T, _R = schema.causes, schema.runs
_OPEN = ("waiting", "running")
_PUT = upsert(_T)
_GET = sa.select(_T).where(_T.c.id == sa.bindparam("of_id"))
_OF_KEY = sa.select(_T).where(
    _T.c.pipeline == sa.bindparam("of_pipeline"),
    _T.c.kind == sa.bindparam("of_kind"),
    _T.c.key == sa.bindparam("of_key"),
)
_IS_OPEN = sa.and_(_T.c.state.in_(_OPEN), _T.c.kind.not_in(MARKS))
_ALL_OPEN = sa.select(_T).where(_IS_OPEN).order_by(_T.c.priority.desc(), _T.c.id)
_RUNNING = sa.select(_T.c.pipeline).where(_T.c.state == "running", _T.c.kind.not_in(MARKS))
_SLOTS = (_T.c.pipeline == sa.bindparam("of_pipeline"), _T.c.kind == "schedule")
_LAST_SLOT = sa.select(sa.func.max(_T.c.key)).where(*_SLOTS, _T.c.key <= sa.bindparam("of_now"))
_LATER_SLOTS = sa.select(_T.c.key).where(*_SLOTS, _T.c.key > sa.bindparam("of_now")).order_by(_T.c.key)
_CHANGE = sa.update(_T).where(_T.c.id == sa.bindparam("of_id"), _T.c.state == sa.bindparam("of_state"))


def lock_causes(conn: sa.Connection) -> None:
    """Let one worker at a time decide, until its transaction ends."""
    lock(conn, "causes")


def put(conn: sa.Connection, new: NewCause) -> bool:
    """Record a cause unless it is there; return whether it was not."""
    now = clock_of(conn).now()
    ended = None if new.state in _OPEN else now
    values = msgspec.structs.asdict(new) | {"decided_at": now, "finished_at": ended}
    values["figures"] = msgspec.to_builtins(new.figures)
    statement = _PUT.on(conn).execution_options(preserve_rowcount=True)
    return conn.execute(statement, values).rowcount == 1


def get(conn: sa.Connection, cause_id: int) -> Cause:
    """Return a cause.

    Raises:
        NotFoundError: There is no such cause.
    """
    row = conn.execute(_GET, {"of_id": cause_id}).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"There is no cause {cause_id}.", hint="`penstock status` lists what waits and runs")
    return _cause(row)


def by_key(conn: sa.Connection, pipeline: str, kind: str, key: str) -> Cause | None:
    """Return the cause of this name, None when it was never decided."""
    values = {"of_pipeline": pipeline, "of_kind": kind, "of_key": key}
    row = conn.execute(_OF_KEY, values).mappings().one_or_none()
    return None if row is None else _cause(row)


def open_causes(conn: sa.Connection) -> list[Cause]:
    """Return what waits or runs, in the order in which it is to be run."""
    return [_cause(row) for row in conn.execute(_ALL_OPEN).mappings()]


def page(
    conn: sa.Connection,
    *,
    pipeline: str | None = None,
    kinds: Collection[str] = (),
    before: int | None = None,
    limit: int = 50,
) -> list[Cause]:
    """Return the newest causes first; go on with `before` the last id received."""
    query = sa.select(_T).order_by(_T.c.id.desc()).limit(limit)
    if pipeline is not None:
        query = query.where(_T.c.pipeline == pipeline)
    if kinds:
        query = query.where(_T.c.kind.in_(kinds))
    if before is not None:
        query = query.where(_T.c.id < before)
    return [_cause(row) for row in conn.execute(query).mappings()]


def tried(conn: sa.Connection, pipeline: str, *, limit: int = 50) -> list[Cause]:
    """Return the newest causes for which a run was begun or could not be, newest first."""
    query = sa.select(_T).where(_T.c.pipeline == pipeline, _T.c.kind.not_in(MARKS))
    query = query.where(sa.or_(_T.c.run_id.is_not(None), _T.c.state == "failed"))
    return [_cause(row) for row in conn.execute(query.order_by(_T.c.id.desc()).limit(limit)).mappings()]


def slots_around(conn: sa.Connection, pipeline: str, now: str) -> list[str]:
    """Return the keys of the decided cron slots that are later than `now`, and of the newest that is not."""
    values = {"of_pipeline": pipeline, "of_now": now}
    last = conn.execute(_LAST_SLOT, values).scalar()
    later = [str(key) for key in conn.execute(_LATER_SLOTS, values).scalars()]
    return later if last is None else [str(last), *later]


def begin(conn: sa.Connection, cause_id: int, run_id: int, owner: Owner, *, most: int) -> None:
    """Let a run be the run of a waiting cause; call it in the transaction that makes the run.

    Args:
        conn: A writing transaction.
        cause_id: Which cause.
        run_id: The run made here.
        owner: The process that runs it.
        most: Runs that may be under way at once, over all workers.

    Raises:
        LeaseLostError: Another worker was quicker, its pipeline has a run under way, or `most` are.
    """
    lock_causes(conn)
    cause = get(conn, cause_id)
    running = [str(name) for name in conn.execute(_RUNNING).scalars()]
    if cause.state != "waiting" or cause.pipeline in running or len(running) >= most:
        raise LeaseLostError(
            f"{cause.name!r} of {cause.pipeline!r} cannot begin: it is {cause.state}, {len(running)} of {most} run.",
            hint="nothing to mend: another worker does it, or it waits its turn",
        )
    values = {"state": "running", "run_id": run_id, "owner": owner}
    conn.execute(_CHANGE.values(**values), {"of_id": cause_id, "of_state": "waiting"})


def end(conn: sa.Connection, cause: Cause, state: State, *, reason: str, figures: dict[str, Any]) -> bool:
    """Record what became of a cause; return False when somebody else has recorded something since it was read."""
    values = {"state": state, "reason": reason, "figures": msgspec.to_builtins(figures)}
    values["finished_at"] = None if state in _OPEN else clock_of(conn).now()
    query = _CHANGE.values(**values).where(_T.c.run_id.is_not_distinct_from(sa.bindparam("of_run")))
    done = conn.execute(query, {"of_id": cause.id, "of_state": cause.state, "of_run": cause.run_id})
    return done.rowcount == 1


def _cause(row: sa.RowMapping) -> Cause:
    return msgspec.convert(fields(row), Cause)
