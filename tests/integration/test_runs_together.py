"""Two runs of one pipeline, a run that sleeps past its lease, a machine that restarts, clocks that jump."""

import signal
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.clock import Clock
from penstock.project.mending import examine
from penstock.store.ledger import leases, recovery, runs, schema
from project_folder import Project
from run_processes import (
    add_day,
    all_attempts,
    all_runs,
    assert_done_once,
    chain_project,
    end,
    executed,
    live_hash,
    processes_of,
    start,
    until,
)

FAN = """
import os
import time
from pathlib import Path

import polars as pl

from penstock import Pipeline

fan = Pipeline("fan")


def note(word: str) -> None:
    file = os.open("executed.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, f"{word}\\n".encode())
    os.close(file)


@fan.step
def rows() -> pl.DataFrame:
    note("rows")
    while Path("hold-rows").exists():
        time.sleep(0.01)
    return pl.DataFrame({"key": list(range(40)), "x": list(range(40))})


@fan.step(each="key")
def part(rows: pl.DataFrame, key: int) -> int:
    note(f"part-{key}")
    return sum(range(20_000)) + key


@fan.step
def whole(part: dict[str, int]) -> int:
    note("whole")
    return sum(part.values())
"""


def test_two_runs_at_once_do_the_work_once(tmp_path: Path) -> None:
    """One computes, the other waits for the result and uses it; both end well, with one release."""
    project = Project(tmp_path, "fan")
    project.write(FAN, "fan.py")
    (project.root / "hold-rows").touch()
    first = start(project)
    until(lambda: executed(project)["rows"])
    second = start(project)
    until(lambda: len(all_runs(project)) == 2)
    (project.root / "hold-rows").unlink()
    for process in (first, second):
        code, output = end(process)
        assert code == 0, output
    assert set(executed(project).values()) == {1}, executed(project)
    assert len(executed(project)) == 42
    assert_done_once(project)
    assert {r.release for r in all_runs(project)} == {"fan@1"}
    with project.opened() as workspace:
        assert examine(workspace, deep=True).faults == ()


def test_many_runs_at_once_take_each_row_in_once(tmp_path: Path) -> None:
    """Intakes of one dataset come one after the other, whoever asks for them."""
    project = chain_project(tmp_path)
    processes = [start(project) for _ in range(3)]
    for process in processes:
        code, output = end(process)
        assert code == 0, output
    assert [(v.version, v.rows) for v in project.versions("chain", "events")] == [(1, 100)]
    assert executed(project) == {"doubled": 1, "total": 1}
    assert {r.release for r in all_runs(project)} == {"chain@1"}
    assert_done_once(project)


def _expire(project: Project) -> None:
    """Let the time of every lease run out, as half a minute of sleep does."""
    with project.opened() as workspace, workspace.ledger.write() as conn:
        conn.execute(sa.update(schema.leases).values(expires_s=0.0))


def test_a_run_that_slept_past_its_lease_is_refused(tmp_path: Path) -> None:
    """Another run takes over; the sleeper's late result does not count, and it ends by itself."""
    project = chain_project(tmp_path)
    (project.root / "hold-doubled").touch()
    sleeper = start(project)
    until(lambda: executed(project)["doubled"])
    sleeper.send_signal(signal.SIGSTOP)
    until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_STOPPED)
    _expire(project)
    (project.root / "hold-doubled").unlink()
    report = project.run()
    assert (report.state, report.release) == ("succeeded", "chain@1")
    stands = live_hash(project)
    sleeper.send_signal(signal.SIGCONT)
    code, output = end(sleeper)
    assert code == 5, output
    assert "another process has taken over" in " ".join(output.split())
    assert [r.state.value for r in all_runs(project)] == ["lost", "succeeded"]
    found = [(a.run_id, a.node, a.state.value) for a in all_attempts(project) if a.node == "doubled"]
    assert found == [(1, "doubled", "lost"), (2, "doubled", "succeeded")]
    assert executed(project) == {"doubled": 2, "total": 1}
    assert live_hash(project) == stands
    until(lambda: not processes_of(project))


def test_only_the_unit_that_was_taken_over_is_refused(tmp_path: Path) -> None:
    """A run that still holds its own lease uses what the other one made, and goes on."""
    project = chain_project(tmp_path)
    (project.root / "hold-doubled").touch()
    process = start(project)
    until(lambda: executed(project)["doubled"])
    with project.opened() as workspace, workspace.ledger.write() as conn:
        (held,) = [one for one in leases.held(conn) if one.name.startswith("result/")]
        leases.revoke(conn, held.name)
    (project.root / "hold-doubled").unlink()
    code, output = end(process)
    assert code == 0, output
    found = [(a.number, a.state.value) for a in all_attempts(project) if a.node == "doubled"]
    assert found == [(1, "lost"), (2, "succeeded")]


def test_a_restart_of_the_machine_ends_what_ran_before_it(tmp_path: Path) -> None:
    """Leases of another boot expire at once, although their time has not come; the next run goes on."""
    project = chain_project(tmp_path)
    assert project.run().release == "chain@1"
    add_day(project, 2)
    (project.root / "hold-doubled").touch()
    process = start(project)
    until(lambda: executed(project)["doubled"] == 2)
    process.kill()
    end(process)
    (project.root / "hold-doubled").unlink()
    with project.opened() as workspace, workspace.ledger.write() as conn:
        # The process is dead either way: what counts is that its pid, which may be anybody's by now, is not asked.
        for lease in leases.held(conn):
            assert lease.owner is not None
            owner = {"host": lease.owner.host, "boot": "another", "pid": 1, "start": 0}
            values = {"boot": "another", "expires_s": 1e12, "owner": owner}
            conn.execute(sa.update(schema.leases).where(schema.leases.c.name == lease.name).values(**values))
    report = project.run()
    assert (report.state, report.release) == ("succeeded", "chain@2")
    assert [r.state.value for r in all_runs(project)] == ["succeeded", "lost", "succeeded"]


@pytest.mark.parametrize("jump", [timedelta(days=1), timedelta(days=-1), timedelta(hours=-1)])
def test_a_clock_that_jumps_expires_no_lease(jump: timedelta, tmp_path: Path) -> None:
    """Leases are timed by a clock that nobody sets: a run goes on, whatever the wall says."""
    project = chain_project(tmp_path)
    (project.root / "hold-doubled").touch()
    process = start(project)
    until(lambda: executed(project)["doubled"])
    real = Clock()
    moved = Clock(now=lambda: real.now() + jump)
    with project.opened(moved) as workspace, workspace.ledger.write() as conn:
        assert recovery.mark_lost(conn) == []
        free = [leases.is_free(conn, lease) for lease in leases.held(conn)]
    assert free == [False, False]
    (project.root / "hold-doubled").unlink()
    code, output = end(process)
    assert code == 0, output


def test_a_clock_that_goes_backwards_within_a_run_changes_nothing(tmp_path: Path) -> None:
    """Each look at the wall clock shows an hour less; the run and the one after it end as always."""
    project = chain_project(tmp_path)
    real, lock, looks = Clock(), threading.Lock(), [0]

    def earlier_each_time() -> datetime:
        with lock:
            looks[0] += 1
        return real.now() - timedelta(hours=looks[0])

    clock = Clock(now=earlier_each_time)
    assert project.run(clock=clock).release == "chain@1"
    add_day(project, 2)
    assert project.run(clock=clock).release == "chain@2"
    assert project.run(clock=clock).is_new_release is False
    with project.opened() as workspace, workspace.ledger.read() as conn:
        assert [r.state.value for r in runs.page(conn)] == ["succeeded"] * 3
