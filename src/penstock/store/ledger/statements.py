"""What the nouns' modules share: the clock and the kind of database behind a connection, and upserts for both kinds."""

import functools
import importlib
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from penstock.core.clock import Clock

_LOCK = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
CLOCK = "penstock_clock"  # execution option of every engine of a ledger


def clock_of(conn: sa.Connection) -> Clock:
    """Return the clock the ledger was opened with."""
    clock = conn.get_execution_options()[CLOCK]
    if not isinstance(clock, Clock):
        raise TypeError(f"the connection carries {type(clock).__name__} where the ledger's clock should be")
    return clock


def is_sqlite(conn: sa.Connection) -> bool:
    """Return whether the ledger is a file of this host."""
    return conn.dialect.name == "sqlite"


def fields(row: sa.RowMapping) -> dict[str, Any]:
    """Return a row by plain column names; SQLAlchemy's own are a subclass of `str`, which msgspec refuses as keys."""
    return {str(name): value for name, value in row.items()}


def lock(conn: sa.Connection, name: str) -> None:
    """Let one writer at a time pass until its transaction ends; on SQLite every writer already is alone."""
    if not is_sqlite(conn):
        conn.execute(_LOCK, {"name": f"penstock/{name}"})


@dataclass(frozen=True, slots=True)
class Upsert:
    """Insert rows, and where the primary key is there already, change `columns` (none: leave the row as it is)."""

    table: sa.Table
    columns: tuple[str, ...]

    def on(self, conn: sa.Connection) -> sa.Executable:
        """Return the statement in the words of the connection's database; the same one each time."""
        return _built(self.table, self.columns, conn.dialect.name)


def upsert(table: sa.Table, *columns: str) -> Upsert:
    """Return the upsert of `table`."""
    return Upsert(table, columns)


@functools.cache  # SQLAlchemy compiles a statement once that is the same object each time
def _built(table: sa.Table, columns: tuple[str, ...], dialect: str) -> sa.Executable:
    # By name: the connection has loaded the module of its own database, and the other one's takes as long as a query.
    insert: Any = importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert(table)
    if not columns:
        return insert.on_conflict_do_nothing()  # type: ignore[no-any-return]  # the dialects share no type
    keys = [column.name for column in table.primary_key.columns]
    changed = {name: insert.excluded[name] for name in columns}
    return insert.on_conflict_do_update(index_elements=keys, set_=changed)  # type: ignore[no-any-return]  # as above
