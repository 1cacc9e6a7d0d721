"""Backups of a ledger file, made while it is in use: whole, named by schema version and time, the newest three kept."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC
from pathlib import Path

from penstock.core.clock import Clock
from penstock.store.ledger.errors import backups_of

_KEPT = 3


def back_up_file(path: Path, clock: Clock) -> Path:
    """Copy the SQLite ledger at `path` as of this moment and return the copy: `ledger.db.backup-<version>-<time>`.

    Raises:
        sqlite3.Error: The file cannot be read or its copy not be written; nothing half-written stays.
    """
    stamp = clock.now().astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    half = path.with_name(f"{path.name}.backup-half-{os.getpid()}")
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(half)) as copy:
            source.backup(copy)
            # One file, complete in itself: no WAL beside a backup that could be forgotten when it is restored.
            copy.execute("PRAGMA journal_mode=DELETE")
            version = _version(copy)
        done = path.with_name(f"{path.name}.backup-{version:04}-{stamp}")
        _flush(half)
        half.replace(done)
    finally:
        half.unlink(missing_ok=True)
    for old in backups_of(path)[:-_KEPT]:
        old.unlink(missing_ok=True)
    return done


def _version(copy: sqlite3.Connection) -> int:
    row = copy.execute("SELECT version_num FROM alembic_version").fetchone()
    return int(row[0]) if row is not None else 0


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
