"""Opening: created, recognised, migrated or refused with one clear error; real corrupt files and full disks."""

import multiprocessing
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from penstock.core.errors import DiskFullError, InputError, LedgerError
from penstock.store.ledger import Ledger, artifacts, runs
from penstock.store.ledger.doctor import check_ledger
from penstock.store.ledger.errors import backups_of

LOADED = """
import sys
from penstock.store.ledger import Ledger
Ledger.open(sys.argv[1]).close()
print('alembic' in sys.modules)
"""


def open_and_close(url: str) -> str:
    Ledger.open(url).close()
    return "opened"


def test_opening_imports_no_migrations_when_none_is_due(url: str) -> None:
    """A new ledger and a current one open without loading Alembic, which costs a quarter of a second."""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", LOADED, url], check=True, capture_output=True, text=True)
        assert done.stdout.strip() == "False"


def test_many_processes_may_open_first(url: str) -> None:
    """Eight processes that all find no ledger make one between them."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(open_and_close, [url] * 8, chunksize=1) == ["opened"] * 8
    ledger = Ledger.open(url)
    assert check_ledger(ledger) == []
    ledger.close()


def test_newer_ledger_is_refused(url: str) -> None:
    """Fault 30: a ledger of a later Penstock is left alone, and the message says what to do."""
    ledger = Ledger.open(url)
    with ledger.write() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '0099'")
    ledger.close()
    with pytest.raises(LedgerError, match=r"schema version 99; this Penstock knows versions up to .* upgrade Penstock"):
        Ledger.open(url)


@pytest.mark.parametrize("url", ["mysql://localhost/x", "sqlite://", "no url"])
def test_other_databases_are_refused(url: str) -> None:
    """Only a SQLite file or PostgreSQL holds a ledger."""
    with pytest.raises(InputError, match="write sqlite:///PATH or postgresql"):
        Ledger.open(url)


def test_file_that_is_no_database_is_refused_offering_the_backup(tmp_path: Path) -> None:
    """Fault 12: a corrupt file is refused with the newest backup and how to restore it; restoring works."""
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    backup = ledger.back_up()
    ledger.close()
    assert backup is not None
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(LedgerError, match=f"is damaged.*{backup.name}"):
        Ledger.open(f"sqlite:///{path}")
    path.write_bytes(backup.read_bytes())
    open_and_close(f"sqlite:///{path}")


def test_damage_within_the_file_is_found_by_doctor_and_refused_by_readers(tmp_path: Path, new_run: runs.NewRun) -> None:
    """Fault 12: overwritten pages never give wrong facts: doctor names the damage, reading raises."""
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    with ledger.write() as conn:
        for _ in range(500):
            runs.create(conn, new_run)
    ledger.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size * 2 // 3)
        file.write(os.urandom(size // 4))
    ledger = Ledger.open(f"sqlite:///{path}")
    [fault] = check_ledger(ledger)
    assert "is damaged" in fault
    with pytest.raises(LedgerError, match="is damaged"), ledger.read() as conn:
        runs.page(conn, limit=500)
    ledger.close()


def test_removed_wal_is_noticed(tmp_path: Path) -> None:
    """Fault 12: a WAL file that somebody removed took transactions with it, so start is refused."""
    path = tmp_path / "ledger.db"
    open_and_close(f"sqlite:///{path}")
    program = "import os, sys; from penstock.store.ledger import Ledger\nledger = Ledger.open(sys.argv[1])\n"
    program += "with ledger.write() as conn: conn.exec_driver_sql(\"INSERT INTO meta VALUES ('a', 'b')\")\nos._exit(9)"
    subprocess.run([sys.executable, "-c", program, f"sqlite:///{path}"], check=False)
    wal = Path(f"{path}-wal")
    assert wal.stat().st_size > 0
    wal.unlink()
    with pytest.raises(LedgerError, match=r"ledger.db-wal is gone"):
        Ledger.open(f"sqlite:///{path}")


def test_kill_while_closing_is_no_damage(tmp_path: Path) -> None:
    """SQLite removes the WAL, then its index: a process killed between the two has lost nothing."""
    path = tmp_path / "ledger.db"
    ledger = Ledger.open(f"sqlite:///{path}")
    with ledger.write() as conn:
        conn.exec_driver_sql("INSERT INTO meta VALUES ('a', 'b')")
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(PASSIVE)")
    index = Path(f"{path}-shm").read_bytes()
    ledger.close()
    Path(f"{path}-shm").write_bytes(index)
    ledger = Ledger.open(f"sqlite:///{path}")
    with ledger.read() as conn:
        assert conn.exec_driver_sql("SELECT value FROM meta").scalar() == "b"
    ledger.close()


def test_foreign_database_is_left_alone(tmp_path: Path) -> None:
    """A database that holds something else is not written into."""
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (id)")
    with pytest.raises(LedgerError, match=r"is no ledger: it holds \['customers'\]"):
        Ledger.open(f"sqlite:///{path}")


def test_lock_held_by_another_is_a_clear_error(sqlite_url: str, tmp_path: Path) -> None:
    """A transaction that never ends elsewhere is named, after the wait that was asked for."""
    ledger = Ledger.open(sqlite_url, busy_timeout_s=0.05)
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="stayed locked by another process"), ledger.write():
            pass
        with ledger.read() as conn:
            assert runs.page(conn) == []
    ledger.close()


def test_the_newest_three_backups_are_kept(sqlite_url: str, tmp_path: Path) -> None:
    """Backups are whole ledgers by themselves, and old ones make room."""
    ledger = Ledger.open(sqlite_url)
    made = [ledger.back_up() for _ in range(5)]
    ledger.close()
    kept = backups_of(tmp_path / "ledger.db")
    assert kept == made[2:]
    assert open_and_close(f"sqlite:///{kept[-1]}") == "opened"
    assert not list(tmp_path.glob("*half*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_disk_refuses_writes_and_keeps_what_was_recorded(small_disk: Path, new_run: runs.NewRun) -> None:
    """Fault 8: a full disk is a DiskFullError, reads go on, and writes do again when there is room."""
    ledger = Ledger.open(f"sqlite:///{small_disk / 'ledger.db'}")
    with ledger.write() as conn:
        runs.create(conn, new_run)
    ballast = small_disk / "ballast"
    with pytest.raises(DiskFullError, match="disk is full"):
        fill(ledger, ballast, new_run)
    with ledger.read() as conn:
        before = len(runs.page(conn, limit=10_000))
    assert before >= 1
    ballast.unlink()
    with ledger.write() as conn:
        runs.create(conn, new_run)
    with ledger.read() as conn:
        assert len(runs.page(conn, limit=10_000)) == before + 1
    assert check_ledger(ledger) == []
    ledger.close()


def fill(ledger: Ledger, ballast: Path, new_run: runs.NewRun) -> None:
    room = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        file.write(bytes(room.f_bavail * room.f_bsize - 64 * 1024))
    for _ in range(1000):
        with ledger.write() as conn:
            runs.create(conn, new_run)


def test_read_only_directory_is_a_clear_error(small_disk: Path) -> None:
    """A place that cannot be written is named with what to do, also when a ledger lies there."""
    for name in ("old", "new"):
        (small_disk / name).mkdir()
    open_and_close(f"sqlite:///{small_disk / 'old' / 'ledger.db'}")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for name in ("old", "new", "none"):
        with pytest.raises(LedgerError, match="set PENSTOCK_HOME to a directory"):
            Ledger.open(f"sqlite:///{small_disk / name / 'ledger.db'}")


def test_forked_child_does_not_use_its_parents_connections(ledger: Ledger, new_run: runs.NewRun) -> None:
    """After a fork both sides write, and nothing is lost or doubled."""
    with ledger.write() as conn:
        runs.create(conn, new_run)
    child = os.fork()
    if child == 0:
        with ledger.write() as conn:
            runs.create(conn, new_run)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with ledger.write() as conn:
        runs.create(conn, new_run)
    with ledger.read() as conn:
        assert len(runs.page(conn)) == 3
        assert artifacts.digests(conn) == set()
