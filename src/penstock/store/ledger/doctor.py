"""What `penstock doctor` says of the ledger: one sentence per fault, with the way to mend it."""

from pathlib import Path

import sqlalchemy as sa

from penstock.core.errors import LedgerError
from penstock.core.process import is_known_dead
from penstock.core.states import AttemptState, RunState
from penstock.store.ledger import events, leases, recovery, schema
from penstock.store.ledger.connect import Ledger, found_version
from penstock.store.ledger.errors import damaged

_ORPHANS = (
    sa.select(schema.attempts.c.id)
    .join(schema.runs, schema.runs.c.id == schema.attempts.c.run_id)
    .where(schema.attempts.c.state == AttemptState.RUNNING.value, schema.runs.c.state != RunState.RUNNING.value)
    .order_by(schema.attempts.c.id)
)


def check_ledger(ledger: Ledger) -> list[str]:
    """Look for faults in the ledger and return one sentence for each; an empty list when it is sound."""
    try:
        with ledger.read() as conn:
            return _faults(conn, ledger.path)
    except LedgerError as error:
        return [str(error)]


def _faults(conn: sa.Connection, path: Path | None) -> list[str]:
    if path is not None:
        found = [str(text) for text in conn.exec_driver_sql("PRAGMA quick_check(20)").scalars()]
        if found != ["ok"]:
            return [str(damaged(path, "; ".join(found)))]
    version = found_version(conn)
    faults = [] if version == schema.VERSION else [f"The ledger has schema version {version}, not {schema.VERSION}."]
    if path is not None and conn.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        faults.append("The ledger holds facts about runs or releases that it does not know. Restore a backup.")
    faults += [f"{sentence} The audit trail cannot be trusted from there on." for sentence in events.verify(conn)]
    faults += [
        f"Run 'r{run_id}' is marked running, but its process is dead. `penstock run` marks it lost and goes on."
        for run_id in recovery.find_lost(conn)
    ]
    faults += [
        f"The lease {lease.name!r} is held by process {lease.owner.pid}, which is dead. It is free to be taken."
        for lease in leases.held(conn)
        if lease.owner is not None and is_known_dead(lease.owner)
    ]
    faults += [
        f"Attempt {found} is marked running in a run that has ended." for found in conn.execute(_ORPHANS).scalars()
    ]
    return faults
