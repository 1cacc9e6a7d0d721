"""Causes in real SQLite and PostgreSQL: one row per key, one run per cause, whoever is at it at once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from penstock.core.clock import Clock
from penstock.core.errors import LeaseLostError, NotFoundError
from penstock.core.process import this_process
from penstock.store.ledger import Ledger, causes, runs

WISH = causes.NewCause(pipeline="movies", kind="webhook", key="w1", reason="asked", figures={"by": "ci"})


def _put(ledger: Ledger, new: causes.NewCause = WISH) -> bool:
    with ledger.write() as conn:
        return causes.put(conn, new)


def _begin(ledger: Ledger, new_run: runs.NewRun, cause_id: int, most: int = 1) -> int | None:
    try:
        with ledger.write() as conn:
            run_id = runs.create(conn, new_run)
            causes.begin(conn, cause_id, run_id, this_process(), most=most)
    except LeaseLostError:
        return None
    return run_id


def test_a_hundred_equal_causes_at_once_are_one(ledger: Ledger) -> None:
    """Fault 17: the unique key decides; exactly one is told that it was the first."""
    with ThreadPoolExecutor(16) as pool:
        was_new = list(pool.map(lambda _: _put(ledger), range(100)))
    assert sum(was_new) == 1
    with ledger.read() as conn:
        (kept,) = causes.open_causes(conn)
    assert (kept.name, kept.state, kept.reason, kept.figures) == ("webhook:w1", "waiting", "asked", {"by": "ci"})


def test_of_many_who_begin_at_once_one_makes_a_run(ledger: Ledger, new_run: runs.NewRun) -> None:
    """Fault 18: the run begins with the cause in one transaction; the others leave no run behind."""
    _put(ledger)
    with ThreadPoolExecutor(16) as pool:
        begun = [run for run in pool.map(lambda _: _begin(ledger, new_run, 1), range(40)) if run is not None]
    with ledger.read() as conn:
        kept = causes.get(conn, 1)
        assert [run.id for run in runs.page(conn)] == begun == [kept.run_id]
    assert (kept.state, kept.owner) == ("running", this_process())


def test_no_more_begin_than_may_and_one_per_pipeline(ledger: Ledger, new_run: runs.NewRun) -> None:
    """The limit holds in the transaction itself, whatever each worker saw before."""
    wishes = [("movies", "a"), ("movies", "b"), ("books", "c"), ("songs", "d")]
    for pipeline, key in wishes:
        _put(ledger, causes.NewCause(pipeline=pipeline, kind="webhook", key=key))
    assert [_begin(ledger, new_run, number, most=2) is not None for number in (1, 2, 3, 4)] == [
        True,
        False,
        True,
        False,
    ]
    with ledger.write() as conn:
        assert causes.end(conn, causes.get(conn, 1), "done", reason="", figures={})
    assert _begin(ledger, new_run, 2, most=2) is not None


def test_who_is_late_with_an_end_changes_nothing(ledger: Ledger, new_run: runs.NewRun) -> None:
    """An end said about an earlier run of the cause, or said twice, is not recorded."""
    _put(ledger)
    _begin(ledger, new_run, 1)
    with ledger.write() as conn:
        stale = causes.get(conn, 1)
        assert causes.end(conn, stale, "waiting", reason="lost", figures={})
    _begin(ledger, new_run, 1)
    with ledger.write() as conn:
        assert not causes.end(conn, stale, "done", reason="late", figures={})
        assert causes.get(conn, 1).state == "running"


def test_slots_are_found_around_a_moment(ledger: Ledger) -> None:
    """The newest decided slot that is not in the future, and those that are: a clock jumped."""
    for day in (1, 2, 3, 4):
        key = f"2026-03-0{day}T04:00:00Z"
        _put(ledger, causes.NewCause(pipeline="movies", kind="schedule", key=key, state="done"))
    with ledger.read() as conn:
        assert causes.slots_around(conn, "movies", "2026-03-02T05:00:00Z") == [
            "2026-03-02T04:00:00Z",
            "2026-03-03T04:00:00Z",
            "2026-03-04T04:00:00Z",
        ]
        assert causes.slots_around(conn, "books", "2026-03-02T05:00:00Z") == []


def test_what_waits_comes_in_its_order_and_marks_are_left_out(ledger: Ledger) -> None:
    """Priority first, then age; a quarantine is recorded beside causes and is not run."""
    for priority, key in ((0, "a"), (5, "b"), (5, "c")):
        _put(ledger, causes.NewCause(pipeline=key, kind="webhook", key=key, priority=priority))
    _put(ledger, causes.NewCause(pipeline="a", kind=causes.QUARANTINE, key="q", state="running"))
    with ledger.read() as conn:
        assert [cause.key for cause in causes.open_causes(conn)] == ["b", "c", "a"]
        assert [cause.key for cause in causes.page(conn, pipeline="a")] == ["q", "a"]
        assert [cause.key for cause in causes.page(conn, pipeline="a", kinds=["webhook"], before=4)] == ["a"]
        with pytest.raises(NotFoundError, match="no cause 99"):
            causes.get(conn, 99)


def test_a_cause_carries_the_time_of_the_ledgers_clock(url: str) -> None:
    """A rehearsal's causes are decided in its own time."""
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    ledger = Ledger.open(url, Clock(now=lambda: moment + timedelta(hours=1)))
    _put(ledger)
    with ledger.read() as conn:
        assert causes.by_key(conn, "movies", "webhook", "w1") == causes.get(conn, 1)
        assert causes.get(conn, 1).decided_at == moment + timedelta(hours=1)
        assert causes.by_key(conn, "movies", "webhook", "w2") is None
    ledger.close()
