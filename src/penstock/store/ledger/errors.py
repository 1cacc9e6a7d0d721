"""What a database's error means to a person, as one of our errors with the next action."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from penstock.core.errors import DiskFullError, LedgerError, StoreError

_ENOUGH_BYTES = 256 * 1024  # an I/O error with less free than this is a full disk: WAL and its index grow by pages
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_CLOSED = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
_FORBIDDEN_STATES = frozenset({"25006", "42501"})
_LOCKED_STATES = frozenset({"55P03", "40P01", "40001"})


@contextmanager
def translated(url: sa.URL) -> Iterator[None]:
    """Turn every error of the database within the block into one of ours, naming the ledger at `url`.

    Raises:
        DiskFullError: No space is left.
        LedgerError: Damaged, locked, not reachable, not writable.
        StoreError: A fact conflicts with one already kept.
    """
    try:
        yield
    except sa.exc.IntegrityError as error:
        raise StoreError(
            f"The ledger {_name(url)} already keeps a fact that conflicts with this one: {error.orig}.",
            hint="another process recorded it first; look at what it recorded and try again",
        ) from error
    except sa.exc.DBAPIError as error:
        cause = error.orig
        if isinstance(cause, sqlite3.Error):
            raise explain_sqlite(cause, Path(url.database or "")) from error
        raise _explain_postgres(error, url) from error
    except sqlite3.Error as error:
        raise explain_sqlite(error, Path(url.database or "")) from error


def explain_sqlite(error: sqlite3.Error, path: Path) -> StoreError:
    """Return what an error of the SQLite file at `path` means."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    full = code == sqlite3.SQLITE_FULL
    if full or (code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN} and _free_bytes(path) < _ENOUGH_BYTES):
        return DiskFullError(
            f"The ledger {str(path)!r} cannot be written: its disk is full ({_free_bytes(path)} bytes free).",
            hint="make room on that disk and try again; everything recorded before is intact",
        )
    if code in _DAMAGED:
        return damaged(path, str(error))
    if code in _BUSY:
        return LedgerError(
            f"The ledger {str(path)!r} stayed locked by another process.",
            hint="see who holds it (fuser on the file) and try again when that process is done",
        )
    if code in _CLOSED:
        return LedgerError(
            f"The ledger {str(path)!r} cannot be opened for writing: {error}.",
            hint=f"make {str(path.parent)!r} and the files in it writable, or set PENSTOCK_HOME to a directory that is",
        )
    return LedgerError(f"The ledger {str(path)!r} failed: {error}.", hint="run `penstock doctor`")


def damaged(path: Path, found: str) -> LedgerError:
    """Return the error for a file that is no sound ledger, offering the newest backup."""
    backups = backups_of(path)
    hint = (
        f"restore the last backup: stop Penstock, move {path.name} and {path.name}-wal aside, "
        f"and copy {str(backups[-1])!r} to {str(path)!r}"
        if backups
        else "there is no backup beside it; move the file aside to start an empty ledger (blobs and lake are kept)"
    )
    return LedgerError(f"The ledger {str(path)!r} is damaged: {found}.", hint=hint)


def backups_of(path: Path) -> list[Path]:
    """Return the backups beside the ledger file, oldest first."""
    return sorted(path.parent.glob(f"{path.name}.backup-*[0-9Z]"), key=lambda backup: backup.name.rpartition("-")[2])


def _free_bytes(path: Path) -> int:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return _ENOUGH_BYTES  # the directory is gone: certainly not a full disk


def _explain_postgres(error: sa.exc.DBAPIError, url: sa.URL) -> StoreError:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    name = _name(url)
    if state == "53100":
        return DiskFullError(f"The ledger {name} cannot be written: its server's disk is full.", hint="make room there")
    if state in _FORBIDDEN_STATES:
        return LedgerError(
            f"The ledger {name} does not take writes: {error.orig}.",
            hint="point PENSTOCK_LEDGER at the primary server and a user who may write",
        )
    if state in _LOCKED_STATES:
        return LedgerError(f"The ledger {name} stayed locked: {error.orig}.", hint="try again")
    if error.connection_invalidated or not state or state.startswith(("08", "57P", "28", "3D")):
        return LedgerError(
            f"The ledger {name} cannot be reached: {error.orig}.",
            hint="check that the server runs and that PENSTOCK_LEDGER names it; then try again",
        )
    return LedgerError(f"The ledger {name} failed: {error.orig}.", hint="run `penstock doctor`")


def _name(url: sa.URL) -> str:
    return repr(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
