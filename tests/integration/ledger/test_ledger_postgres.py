"""What only a server can do to a ledger: restart, refuse writes, be away; and many writers at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa

from penstock.core.errors import LedgerError
from penstock.store.ledger import Ledger, connect, events, releases, runs


def test_connections_cut_by_the_server_are_replaced(postgres_url: str, new_run: runs.NewRun) -> None:
    """Fault 13: after the server dropped every connection, the next transaction goes through, once."""
    ledger = Ledger.open(postgres_url)
    with ledger.write() as conn:
        runs.create(conn, new_run)
        pid = conn.exec_driver_sql("SELECT pg_backend_pid()").scalar()
    other = Ledger.open(postgres_url)
    with other.write() as conn:
        assert conn.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid}).scalar()
    other.close()
    with ledger.write() as conn:
        runs.create(conn, new_run)
    with ledger.read() as conn:
        assert len(runs.page(conn)) == 2
    ledger.close()


def test_connection_cut_within_a_transaction_is_a_clear_error(postgres_url: str, new_run: runs.NewRun) -> None:
    """Fault 13: a transaction under way is lost whole and says so; nothing of it stays."""
    ledger, other = Ledger.open(postgres_url), Ledger.open(postgres_url)

    def be_cut_half_way() -> None:
        with ledger.write() as conn:
            runs.create(conn, new_run)
            pid = conn.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            with other.write() as cut:
                cut.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            runs.create(conn, new_run)

    with pytest.raises(LedgerError, match="cannot be reached"):
        be_cut_half_way()
    with ledger.read() as conn:
        assert runs.page(conn) == []
    ledger.close()
    other.close()


def test_read_only_server_refuses_writes_clearly(postgres_url: str, new_run: runs.NewRun) -> None:
    """Fault 14: after a fail-over to a read-only server writes are refused with the way out, reads go on."""
    ledger = Ledger.open(postgres_url)
    with ledger.write() as conn:
        conn.exec_driver_sql(f"ALTER DATABASE {ledger.url.database} SET default_transaction_read_only = on")
    ledger.close()
    with pytest.raises(LedgerError, match="does not take writes"), ledger.write() as conn:
        runs.create(conn, new_run)
    with ledger.read() as conn:
        assert runs.page(conn) == []
    ledger.close()


def test_server_that_is_away_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable server is one clear error after a bounded wait, and no secret is in it."""
    monkeypatch.setattr(connect, "_RECONNECT_WAITS_S", (0.01,))
    with pytest.raises(LedgerError, match="cannot be reached") as caught:
        Ledger.open("postgresql://ann:canary-secret@127.0.0.1:1/ledger")
    assert "canary-secret" not in str(caught.value)


def test_writers_at_once_keep_the_chain_and_the_versions_whole(postgres_url: str) -> None:
    """Transactions that run side by side append to one unbroken chain and give each version once."""
    ledger = Ledger.open(postgres_url)
    together = threading.Barrier(4)

    def work(worker: int) -> list[int]:
        together.wait()
        return [release(ledger, f"{worker}/{n}") for n in range(10)]

    with ThreadPoolExecutor(4) as pool:
        versions = [number for numbers in pool.map(work, range(4)) for number in numbers]
    assert sorted(versions) == list(range(1, 41))
    with ledger.read() as conn:
        assert events.verify(conn) == []
        assert events.page(conn)[0].id == 40
    ledger.close()


def release(ledger: Ledger, name: str) -> Any:
    with ledger.write() as conn:
        made = releases.create(conn, "movies", release_hash=name, manifest_digest=name, run_id=None)
        events.append(conn, actor="ann", action="release.created", target=str(made.ref))
    return made.version
