"""Leases and fencing, with real processes and real signals, on both databases."""

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from lease_process import Holder

from penstock.core.clock import Clock
from penstock.core.errors import LeaseLostError
from penstock.core.process import this_process
from penstock.store.ledger import Ledger, attempts, events, leases, recovery, runs
from penstock.store.ledger.doctor import check_ledger

Hold = Callable[[float], Holder]


def take(ledger: Ledger, ttl_s: float = 30.0) -> int | None:
    with ledger.write() as conn:
        return leases.acquire(conn, "work", this_process(), ttl_s)


def take_soon(ledger: Ledger, deadline_s: float = 10.0) -> int:
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        token = take(ledger)
        if token is not None:
            return token
    raise AssertionError("the lease did not become free")


def test_a_lease_has_one_holder_and_its_tokens_only_grow(ledger: Ledger) -> None:
    """Whoever comes second gets nothing until the first gives back; then a larger token."""
    first = take(ledger)
    assert take(ledger) is None
    with ledger.write() as conn:
        leases.release(conn, "work", first or 0)
    second = take(ledger)
    assert (first, second) == (1, 2)


def test_late_renew_check_and_release_are_told_apart(ledger: Ledger) -> None:
    """An old token renews nothing, checks nothing, and releases nothing of the new holder's."""
    with ledger.write() as conn:
        leases.acquire(conn, "work", this_process(), 30)
        leases.revoke(conn, "work")
        assert leases.acquire(conn, "work", this_process(), 30) == 3
        leases.release(conn, "work", 1)
        leases.check(conn, "work", 3)
        leases.renew(conn, "work", 3, 30)
        with pytest.raises(LeaseLostError, match="token 1"):
            leases.check(conn, "work", 1)
        with pytest.raises(LeaseLostError, match="token 1"):
            leases.renew(conn, "work", 1, 30)


def test_two_processes_contend_and_one_wins(ledger: Ledger, hold: Hold) -> None:
    """Of processes that want the same work one gets it; its commit is accepted."""
    contenders = [hold(30), hold(30)]
    winners = [one for one in contenders if one.has_it]
    assert len(winners) == 1
    winners[0].say("commit")
    assert winners[0].hear() == "committed"
    assert take(ledger) is None


def test_killed_owner_is_known_dead_at_once(ledger: Ledger, hold: Hold) -> None:
    """Fault 1: after kill -9 its lease of an hour is free at once, before its parent even looked (a zombie)."""
    holder = hold(3600)
    assert take(ledger) is None
    holder.process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.process.pid, os.WEXITED | os.WNOWAIT)
    assert take(ledger) == 2


def test_killed_run_is_marked_lost_and_its_work_can_go_on(ledger: Ledger, hold: Hold) -> None:
    """T8: a dead run is recognised: run and attempt are lost, the event says so, doctor named it before."""
    holder = hold(3600)
    with ledger.read() as conn:
        assert recovery.find_lost(conn) == []
    holder.end()
    assert any(f"r{holder.run_id}" in fault for fault in check_ledger(ledger))
    with ledger.write() as conn:
        assert recovery.mark_lost(conn) == [holder.run_id]
        assert recovery.mark_lost(conn) == []
    with ledger.read() as conn:
        run, [attempt] = runs.get(conn, holder.run_id), attempts.of_run(conn, holder.run_id)
        [event] = events.page(conn)
    assert (run.state, attempt.state, event.action) == ("lost", "lost", "run.lost")
    assert run.error is not None
    assert run.error.kind == "lost"
    take(ledger)
    assert check_ledger(ledger) == []


def test_stopped_process_is_fenced_when_it_wakes(ledger: Ledger, hold: Hold) -> None:
    """Fault 19: paused past its lease, then continued, its late commit is refused and leaves nothing."""
    holder = hold(0.2)
    holder.process.send_signal(signal.SIGSTOP)
    token = take_soon(ledger)
    holder.process.send_signal(signal.SIGCONT)
    holder.say("commit")
    assert holder.hear() == "lost"
    with ledger.write() as conn:
        leases.check(conn, "work", token)
        assert events.page(conn) == []


def test_wall_clock_jumps_change_nothing(url: str) -> None:
    """Fault 16: a wall clock a day ahead or an hour back frees no lease and extends none."""
    moment = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    taken = Ledger.open(url, Clock(now=lambda: moment))
    assert take(taken, ttl_s=60) == 1
    taken.close()
    for jump in (timedelta(days=1), timedelta(hours=-1)):
        ledger = Ledger.open(url, Clock(now=lambda jump=jump: moment + jump))  # type: ignore[misc]  # a default binds it
        assert take(ledger) is None
        ledger.close()


def test_monotonic_time_ends_a_lease(sqlite_url: str) -> None:
    """On SQLite a lease lasts its seconds since boot, to the instant, though its owner lives."""
    seconds = [1000.0]
    ledger = Ledger.open(sqlite_url, Clock(monotonic_s=lambda: seconds[0]))
    assert take(ledger, ttl_s=30) == 1
    seconds[0] += 29.9
    assert take(ledger) is None
    seconds[0] += 0.1
    assert take(ledger) == 2
    ledger.close()


@pytest.mark.parametrize("change", [{"boot": "another"}, {"start": 1}, {"pid": 2**22 + 1}])
def test_owner_of_another_life_is_dead(ledger: Ledger, change: dict[str, object]) -> None:
    """Fault 5: another boot of this host, a recycled pid, a pid that is no more: the lease is free."""
    with ledger.write() as conn:
        leases.acquire(conn, "work", msgspec.structs.replace(this_process(), **change), 3600)
    assert take(ledger) == 2


def test_owner_on_another_host_is_believed_until_the_lease_expires(ledger: Ledger) -> None:
    """Nothing is known from here about a pid elsewhere: only time tells."""
    with ledger.write() as conn:
        elsewhere = msgspec.structs.replace(this_process(), host="elsewhere", pid=1, start=1)
        leases.acquire(conn, "work", elsewhere, 3600)
    assert take(ledger) is None
    with ledger.write() as conn:
        leases.renew(conn, "work", 1, -1)
    assert take(ledger) == 2
