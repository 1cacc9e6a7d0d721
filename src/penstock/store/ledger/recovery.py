"""What dead processes left behind: runs still marked running are recognised and marked lost, in one transaction."""

import sqlalchemy as sa

from penstock.core.process import is_known_dead, is_same_boot
from penstock.core.records import Failure
from penstock.core.states import AttemptState, NodeState, RunState
from penstock.store.ledger import attempts, events, leases, runs, schema

_R, _N = schema.runs, schema.run_nodes
_RUNNING = sa.select(_R.c.id).where(_R.c.state == RunState.RUNNING.value).order_by(_R.c.id)
_END_NODES = (
    sa.update(_N)
    .where(_N.c.run_id == sa.bindparam("run"), _N.c.state.in_([NodeState.RUNNING.value, NodeState.WAITING.value]))
    .values(state=NodeState.CANCELLED.value)
)


def find_lost(conn: sa.Connection) -> list[int]:
    """Return the runs that are marked running though nobody runs them; changes nothing."""
    return [run_id for run_id in conn.execute(_RUNNING).scalars() if _is_lost(conn, run_id)]


def mark_lost(conn: sa.Connection) -> list[int]:
    """Mark runs whose process is dead as lost, with their running attempts; return their ids.

    Whatever such a process might still write is refused: its lease is revoked. Nodes that ran or waited are
    cancelled; finished ones and their results stay.
    """
    lost = [run_id for run_id in conn.execute(_RUNNING.with_for_update()).scalars().all() if _is_lost(conn, run_id)]
    for run_id in lost:
        _mark(conn, run_id)
    for run_id in lost:
        events.append(conn, actor="penstock", action="run.lost", target=f"r{run_id}")
    return lost


def _is_lost(conn: sa.Connection, run_id: int) -> bool:
    lease = leases.get(conn, leases.run_lease(run_id))
    if lease is not None:
        return leases.is_free(conn, lease)
    owner = runs.get(conn, run_id).owner
    # Without a lease only a process seen alive from here is believed.
    return is_known_dead(owner) or not is_same_boot(owner)


def _mark(conn: sa.Connection, run_id: int) -> None:
    failure = Failure(
        kind="lost",
        message=f"The process that ran 'r{run_id}' ended without recording how.",
        hint="`penstock run` keeps every finished node and goes on",
    )
    leases.revoke(conn, leases.run_lease(run_id))
    runs.finish(conn, run_id, RunState.LOST, error=failure)
    attempts.end_running(conn, run_id, AttemptState.LOST, failure)
    conn.execute(_END_NODES, {"run": run_id})
