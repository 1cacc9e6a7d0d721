"""Opening the ledger: create, migrate or refuse, and the two kinds of transaction.

Belongs here: connections and their settings. What is written through them: one module per noun.
"""

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from penstock.core.clock import Clock
from penstock.core.errors import InputError, LedgerError
from penstock.store.ledger import schema
from penstock.store.ledger.backups import back_up_file
from penstock.store.ledger.errors import damaged, translated
from penstock.store.ledger.statements import CLOCK, is_sqlite

_WRITES = "penstock_writes"
# A server that restarts is back within seconds; after half a minute in all the caller is told.
_RECONNECT_WAITS_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0)
_SCHEMA_LOCK = 0x70656E73746F636B  # any number, the same in every process: advisory lock around create and migrate


class Ledger:
    """The facts, in SQLite or PostgreSQL.

    Make one with `Ledger.open`; close it when done.

    Attributes:
        url: Where it is.
        clock: Where its times come from.
        path: The file, or None for PostgreSQL.
    """

    __slots__ = ("_engine", "_hasty_writer", "_pid", "_reader", "_writer", "clock", "path", "url")

    def __init__(self, url: sa.URL, clock: Clock, *, busy_timeout_s: float) -> None:
        self.url = url
        self.clock = clock
        self.path = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
        self._engine = _engine(url, busy_timeout_s).execution_options(**{CLOCK: clock})
        self._writer = self._engine.execution_options(**{_WRITES: "FULL"})
        self._hasty_writer = self._engine.execution_options(**{_WRITES: "NORMAL"})
        self._reader = self._engine
        if self.path is None:  # a reader sees one moment throughout, as SQLite gives by itself
            self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._pid = os.getpid()

    @classmethod
    def open(cls, url: str, clock: Clock | None = None, *, busy_timeout_s: float = 30.0) -> Self:
        """Open the ledger at a SQLAlchemy `url`; create it when absent, migrate it (backup first) when older.

        Args:
            url: `sqlite:////path/ledger.db` or `postgresql://user@host/database`.
            clock: Where times come from; the system's clock by default.
            busy_timeout_s: Longest wait for another process's transaction.

        Raises:
            InputError: The URL is not one of SQLite or PostgreSQL, or its driver is not installed.
            LedgerError: The ledger is damaged, newer than this Penstock, locked, unreachable or not writable.
            DiskFullError: No space is left.

        Example:
            >>> import tempfile
            >>> folder = tempfile.TemporaryDirectory()
            >>> ledger = Ledger.open(f"sqlite:///{folder.name}/ledger.db")
            >>> ledger.close()
            >>> folder.cleanup()
        """
        parsed = _parse(url)
        if parsed.get_backend_name() == "sqlite":
            _prepare_file(Path(parsed.database or ""))
        ledger = cls(parsed, clock or Clock(), busy_timeout_s=busy_timeout_s)
        try:
            ledger._bring_up_to_date()
        except BaseException:
            ledger.close()
            raise
        return ledger

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """Open one writing transaction: all of it is kept when the block ends, nothing when it raises.

        Args:
            durable: Whether to wait for the disk. Without, a killed process still loses nothing, but a power failure
                may take the last transactions: right for starts and heartbeats, wrong for results and releases.
        """
        engine = self._writer if durable else self._hasty_writer
        with translated(self.url), self._connected(engine) as conn, conn.begin():
            yield conn

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open one reading transaction: everything in it is seen as of one moment, and no writer is held up."""
        with translated(self.url), self._connected(self._reader) as conn, conn.begin():
            yield conn

    def back_up(self) -> Path | None:
        """Copy the ledger file beside itself while it is in use and return the copy; None for PostgreSQL."""
        if self.path is None:
            return None
        with translated(self.url):
            return back_up_file(self.path, self.clock)

    def close(self) -> None:
        """Give back all connections; the ledger may be used again and then reconnects."""
        self._engine.dispose()

    def _connected(self, engine: sa.Engine) -> sa.Connection:
        if self._pid != os.getpid():  # forked: the parent's connections are not ours to use or to close
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        for wait_s in _RECONNECT_WAITS_S if self.path is None else ():
            try:
                return engine.connect()
            except sa.exc.OperationalError:
                time.sleep(wait_s)
        return engine.connect()

    def _bring_up_to_date(self) -> None:
        with self.read() as conn:
            found = found_version(conn)
        if found == schema.VERSION:
            return
        if found is None:
            self._create()
            return
        _refuse_newer(found, self.url)
        # Alembic costs a quarter of a second to import, so only those who migrate pay for it.
        from penstock.store.ledger.migrations import migrate  # noqa: PLC0415  # see above

        self.back_up()
        with self.write() as conn:
            _lock_schema(conn)
            found = found_version(conn)  # another process may have migrated while this one waited
            if found != schema.VERSION:
                migrate(conn)

    def _create(self) -> None:
        with self.write() as conn:
            _lock_schema(conn)
            if found_version(conn) is None:
                schema.metadata.create_all(conn, checkfirst=False)
                conn.execute(sa.insert(schema.version), {"version_num": f"{schema.VERSION:04}"})
        if self.path is not None:
            # Without its WAL file the ledger must still be a ledger, never an empty file taken for a new one.
            with translated(self.url), closing(sqlite3.connect(self.path)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def found_version(conn: sa.Connection) -> int | None:
    """Return the schema version; None when there is no ledger yet, 0 when one was begun but holds nothing.

    Raises:
        LedgerError: The database holds tables that are not Penstock's.
    """
    names = _tables(conn)
    if "alembic_version" not in names:
        foreign = names & set(schema.metadata.tables) if not is_sqlite(conn) else names
        if foreign:
            raise LedgerError(
                f"The database {conn.engine.url.render_as_string()!r} is no ledger: it holds {sorted(foreign)!r}.",
                hint="set PENSTOCK_LEDGER to an empty database of its own",
            )
        return None
    found = conn.execute(sa.select(schema.version.c.version_num)).scalar()
    if found is None:
        return 0
    if not found.isdecimal():
        raise LedgerError(f"The ledger's version {found!r} is not one of Penstock's.", hint="restore a backup")
    return int(found)


def _tables(conn: sa.Connection) -> set[str]:
    if is_sqlite(conn):
        rows = conn.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    else:
        rows = conn.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    return {str(name) for (name,) in rows}


def _refuse_newer(found: int, url: sa.URL) -> None:
    if found > schema.VERSION:
        raise LedgerError(
            f"The ledger {url.render_as_string()!r} has schema version {found}; "
            f"this Penstock knows versions up to {schema.VERSION}.",
            hint="upgrade Penstock, or restore the backup that was made before the ledger was migrated",
        )


def _lock_schema(conn: sa.Connection) -> None:
    if not is_sqlite(conn):  # on SQLite BEGIN IMMEDIATE is that lock
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.cast(_SCHEMA_LOCK, sa.BigInteger))))


def _parse(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise InputError(f"{url!r} is not a database URL.", hint="write sqlite:///PATH or postgresql://...") from error
    match parsed.get_backend_name():
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            return parsed.set(database=str(Path(parsed.database).absolute()))
        case "postgresql":
            return parsed.set(drivername="postgresql+psycopg")
        case _:
            raise InputError(
                f"{parsed.render_as_string()!r} cannot hold a ledger.", hint="write sqlite:///PATH or postgresql://..."
            )


def _prepare_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LedgerError(
            f"The directory {str(path.parent)!r} for the ledger cannot be made: {error.strerror}.",
            hint="set PENSTOCK_HOME to a directory that can be written",
        ) from error
    wal = Path(f"{path}-wal")
    if path.exists() and not wal.exists() and _frames_only_in_wal(Path(f"{path}-shm")):
        raise damaged(path, f"{wal.name} is gone, and with it the transactions that were not yet in {path.name}")


def _frames_only_in_wal(index: Path) -> bool:
    """Return whether the WAL's index says that the database file does not hold all of the WAL.

    Layout: https://sqlite.org/walformat.html, "The WAL-Index File Format": last frame at byte 16, frames copied at 96.
    """
    try:
        data = index.read_bytes()[:100]
    except FileNotFoundError:
        return False
    if len(data) < 100:
        return False
    last, copied = (int.from_bytes(data[at : at + 4], sys.byteorder) for at in (16, 96))
    return last > copied


def _engine(url: sa.URL, busy_timeout_s: float) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        # isolation_level None: Python's driver must not begin transactions of its own, `_begin_sqlite` does.
        arguments: dict[str, Any] = {"timeout": busy_timeout_s, "isolation_level": None, "check_same_thread": False}
        engine = sa.create_engine(url, connect_args=arguments, hide_parameters=True)
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    options = {"options": f"-c lock_timeout={int(busy_timeout_s * 1000)}"}
    try:
        engine = sa.create_engine(url, connect_args=options, hide_parameters=True, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise InputError(
            "A ledger in PostgreSQL needs the driver psycopg.", hint="pip install 'penstock[postgres]'"
        ) from error
    sa.event.listen(engine, "begin", _begin_postgres)
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in ("foreign_keys=ON", "journal_mode=WAL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(conn: sa.Connection) -> None:
    level = conn.get_execution_options().get(_WRITES)
    if level is None:
        conn.exec_driver_sql("BEGIN")
        return
    conn.exec_driver_sql(f"PRAGMA synchronous={level}")  # has no effect inside a transaction
    # A reader that later wants to write may find itself refused; a writer therefore says so at once.
    conn.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_postgres(conn: sa.Connection) -> None:
    if conn.get_execution_options().get(_WRITES) == "NORMAL":
        conn.exec_driver_sql("SET LOCAL synchronous_commit = off")
