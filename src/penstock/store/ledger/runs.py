"""Runs: one execution of a pipeline each, and what became of every node in it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.errors import NotFoundError
from penstock.core.records import Failure, Owner, Record
from penstock.core.states import NodeState, RunState, change_run
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, fields, upsert


class NewRun(Record, frozen=True, kw_only=True):
    """What is known when a run starts.

    Attributes:
        cause: Why it runs, as "manual", "schedule 0 4 * * *", "resumes r40".
        now_at: Logical time of the run, ISO 8601, or None when no node asks for it.
        params: Run parameters by node.
    """

    pipeline: str
    cause: str
    owner: Owner
    graph_digest: str
    code_digest: str
    environment_digest: str
    engine: str = "local"
    now_at: str | None = None
    params: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


class Run(NewRun, frozen=True, kw_only=True):
    """A run as recorded.

    Attributes:
        release: Reference of the release that stands after it, as "movies@12".
        manifest_digest: The blob with everything it used and made; None until it has reached its end.
    """

    id: int
    state: RunState
    started_at: datetime
    finished_at: datetime | None = None
    error: Failure | None = None
    release: str | None = None
    manifest_digest: str | None = None


class RunNode(Record, frozen=True, kw_only=True):
    """What became of a node, or of one part of a fan-out, within a run.

    Attributes:
        part: Key of the fan-out as text; "" where the node does not fan out.
        reason: Why it was run or reused, in words.
        key: Its cache key once its inputs are known.
        result: Plain JSON that the engine wants to find again.
    """

    node: str
    state: NodeState
    part: str = ""
    reason: str = ""
    key: str | None = None
    result: Any = None


_T, _N = schema.runs, schema.run_nodes
_CREATE = sa.insert(_T).returning(_T.c.id)
_GET = sa.select(_T).where(_T.c.id == sa.bindparam("run"))
_LOCK = sa.select(_T.c.state).where(_T.c.id == sa.bindparam("run")).with_for_update()
_FINISH = sa.update(_T).where(_T.c.id == sa.bindparam("run"))
_NODES = sa.select(_N).where(_N.c.run_id == sa.bindparam("run")).order_by(_N.c.node, _N.c.part)
_SET_NODES = upsert(_N, "state", "reason", "key", "result")


def create(conn: sa.Connection, new: NewRun) -> int:
    """Record a run that starts now and return its id."""
    values = msgspec.structs.asdict(new) | {"state": RunState.RUNNING.value, "started_at": clock_of(conn).now()}
    return int(conn.execute(_CREATE, values).scalar_one())


def finish(conn: sa.Connection, run_id: int, state: RunState, *, error: Failure | None = None) -> None:
    """Record how a run ended.

    Raises:
        NotFoundError: There is no such run.
        StoreError: It has ended already.
    """
    before = conn.execute(_LOCK, {"run": run_id}).scalar()
    if before is None:
        raise _no_run(run_id)
    after = change_run(RunState(before), state)
    values = {"state": after.value, "finished_at": clock_of(conn).now(), "error": error}
    conn.execute(_FINISH.values(**values), {"run": run_id})


def attach_release(conn: sa.Connection, run_id: int, release: str) -> None:
    """Keep the reference of the release the run made, as "movies@12"."""
    conn.execute(_FINISH.values(release=release), {"run": run_id})


def attach_manifest(conn: sa.Connection, run_id: int, digest: str) -> None:
    """Keep the digest of the blob with everything the run used and made."""
    conn.execute(_FINISH.values(manifest_digest=digest), {"run": run_id})


def get(conn: sa.Connection, run_id: int) -> Run:
    """Return a run.

    Raises:
        NotFoundError: There is no such run.
    """
    row = conn.execute(_GET, {"run": run_id}).mappings().one_or_none()
    if row is None:
        raise _no_run(run_id)
    return _run(row)


def page(
    conn: sa.Connection,
    *,
    pipeline: str | None = None,
    state: RunState | None = None,
    before: int | None = None,
    limit: int = 50,
    among: Sequence[str] | None = None,
) -> list[Run]:
    """Return the newest runs first; go on with `before` the last id received.

    Args:
        conn: A transaction.
        pipeline: Only runs of this one.
        state: Only runs in it.
        before: Only runs begun before this one.
        limit: How many.
        among: Only runs of these pipelines; None for all.
    """
    query = page_query(pipeline, state, before).limit(limit)
    if among is not None:
        query = query.where(_T.c.pipeline.in_(among))
    return [_run(row) for row in conn.execute(query).mappings()]


def page_query(pipeline: str | None, state: RunState | None, before: int | None) -> sa.Select[Any]:
    """Return the query behind `page`: by key from where the last page ended, so that depth costs nothing."""
    query = sa.select(_T).order_by(_T.c.id.desc())
    if pipeline is not None:
        query = query.where(_T.c.pipeline == pipeline)
    if state is not None:
        query = query.where(_T.c.state == state.value)
    return query if before is None else query.where(_T.c.id < before)


def set_nodes(conn: sa.Connection, run_id: int, nodes: Sequence[RunNode]) -> None:
    """Record what became of nodes, replacing what was recorded of them in this run."""
    if nodes:
        rows = [msgspec.structs.asdict(node) | {"run_id": run_id, "state": node.state.value} for node in nodes]
        conn.execute(_SET_NODES.on(conn), rows)


def nodes(conn: sa.Connection, run_id: int) -> list[RunNode]:
    """Return what became of every node of a run, by name and part."""
    return [msgspec.convert(fields(row), RunNode) for row in conn.execute(_NODES, {"run": run_id}).mappings()]


def _run(row: sa.RowMapping) -> Run:
    return msgspec.convert(fields(row), Run)


def _no_run(run_id: int) -> NotFoundError:
    return NotFoundError(f"There is no run 'r{run_id}'.", hint="`penstock runs` lists those there are")
