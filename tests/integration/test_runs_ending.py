"""How a step can end: raising, dying, outgrowing its limits, being cancelled; each is told with its cause."""

import itertools
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.engine.events import Event, UnitEnded
from project_folder import Project
from run_processes import (
    all_attempts,
    all_runs,
    chain_project,
    end,
    executed,
    kill_group,
    processes_of,
    start,
    until,
    worker_of,
)

ENDINGS = """
import ctypes
import os
import itertools
import signal
import sys
from pathlib import Path

from penstock import Pipeline

ends = Pipeline("ends")


def tries() -> int:
    with Path("tries.txt").open("a") as file:
        file.write("x")
    return len(Path("tries.txt").read_text())


@ends.step
def raises(*, times: int = 0) -> int:
    if tries() <= times:
        print("about to fail")
        raise ValueError("not this time")
    return 1


@ends.step
def dies(*, how: str = "") -> int:
    match how:
        case "exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "abort":
            os.abort()
        case "sys.exit":
            sys.exit(4)
    return 1


@ends.step
def forks(dies: int, *, how: str = "") -> int:
    if how == "kill" and os.fork() == 0:
        while True:
            signal.pause()
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


@ends.step
def lasts(*, forever: bool = False) -> int:
    while forever:
        pass
    return 1


@ends.step
def grows(*, mebibytes: int = 1) -> int:
    kept = []
    for _ in range(mebibytes):
        kept.append(b"x" * 2**20)
    while mebibytes > 100:
        pass
    return len(kept)


@ends.check
def one_is_one(raises: int) -> None:
    assert raises == 1
"""


@pytest.fixture
def ends(tmp_path: Path) -> Project:
    project = Project(tmp_path, "ends")
    project.write(ENDINGS, "ends.py")
    return project


def test_an_exception_is_shown_as_the_user_knows_it(ends: Project) -> None:
    """The traceback has the user's frames and the file they edit; what was printed is kept; others go on."""
    report = ends.run(params={"raises.times": 9})
    failure = report.failures["raises"]
    assert failure.kind == "exception"
    assert "raised ValueError: not this time" in failure.message
    assert str(ends.root / "ends.py") in failure.traceback
    assert "penstock/engine" not in failure.traceback
    assert "penstock debug raises" in failure.hint
    assert report.nodes == {
        "raises": "failed", "dies": "succeeded", "forks": "succeeded", "lasts": "succeeded", "grows": "succeeded",
        "one_is_one": "skipped",
    }  # fmt: skip
    assert [a.log for a in all_attempts(ends) if a.node == "raises"] == ["about to fail\n"]
    assert report.release is None


def test_exceptions_are_retried_as_the_policy_says(ends: Project) -> None:
    """Each wait is twice the one before; the result of the last try counts, and every try is recorded."""
    ends.write('[ends.steps.raises]\nretries = 2\nretry_wait = "150ms"\n', "penstock.toml")
    told: list[Event] = []
    report = ends.run(params={"raises.times": 2}, listener=told.append)
    assert report.state == "succeeded"
    found = [a for a in all_attempts(ends) if a.node == "raises"]
    assert [(a.number, a.state.value) for a in found] == [(1, "failed"), (2, "failed"), (3, "succeeded")]
    assert [e.will_retry for e in told if isinstance(e, UnitEnded) and e.node == "raises"] == [True, True, False]
    waits = [
        (after.started_at - before.finished_at).total_seconds()
        for before, after in itertools.pairwise(found)
        if before.finished_at is not None
    ]
    assert waits[0] >= 0.15
    assert waits[1] >= 0.30


def test_exceptions_are_not_retried_without_a_policy(ends: Project) -> None:
    """A fault in the code is not mended by doing it again."""
    ends.run(params={"raises.times": 1})
    assert [a.number for a in all_attempts(ends) if a.node == "raises"] == [1]


@pytest.mark.parametrize(
    ("how", "kind", "words", "tries"),
    [
        ("exit", "exit", "exit code 3", 1),
        ("segfault", "crash", "SIGSEGV", 1),
        ("abort", "crash", "SIGABRT", 1),
        ("kill", "signal", r"SIGKILL \(out of memory\?\)", 3),
    ],
)
def test_a_step_that_dies_is_reported_with_its_cause(
    how: str, kind: str, words: str, tries: int, ends: Project
) -> None:
    """Cause, signal and peak memory are told; only the loss of a process is tried again, twice."""
    report = ends.run(params={"dies.how": how})
    failure = report.failures["dies"]
    assert failure.kind == kind
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(failure.message)
    assert "its memory peaked at" in failure.message
    found = [a for a in all_attempts(ends) if a.node == "dies"]
    assert [a.state.value for a in found] == ["killed"] * tries
    assert all(a.peak_bytes for a in found)
    assert report.nodes["forks"] == "skipped"
    assert report.nodes["lasts"] == "succeeded"


def test_leaving_by_sys_exit_is_a_failure_like_any_other(ends: Project) -> None:
    """`sys.exit` in a step does not end the run process in silence."""
    report = ends.run(params={"dies.how": "sys.exit"})
    assert report.failures["dies"].kind in {"exit", "exception"}
    assert "4" in report.failures["dies"].message


def test_what_a_step_forked_does_not_hide_its_death(ends: Project) -> None:
    """A child that keeps the process's channel open neither delays the report nor stays behind."""
    report = ends.run(params={"forks.how": "kill"})
    assert report.failures["forks"].kind == "signal"
    until(lambda: not processes_of(ends))


def test_a_step_past_its_time_is_ended(ends: Project) -> None:
    """The limit is named; the rest of the run goes on."""
    ends.write('[ends.steps.lasts]\ntimeout = "300ms"\n', "penstock.toml")
    report = ends.run(params={"lasts.forever": True})
    assert report.failures["lasts"].kind == "timeout"
    assert "limit of 0.3 s" in report.failures["lasts"].message
    assert [a.state.value for a in all_attempts(ends) if a.node == "lasts"] == ["timed_out"]


def test_a_step_past_its_memory_is_ended(ends: Project) -> None:
    """Used and allowed memory are named, the peak is recorded, and it is not tried again at the same size."""
    ends.write('[ends.steps.grows]\nmemory = "300MiB"\n', "penstock.toml")
    report = ends.run(params={"grows.mebibytes": 400})
    assert report.failures["grows"].kind == "memory"
    assert "more than its limit of 0.29 GiB" in report.failures["grows"].message
    found = [a for a in all_attempts(ends) if a.node == "grows"]
    assert [a.state.value for a in found] == ["killed"]
    assert (found[0].peak_bytes or 0) > 300 * 2**20


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("whole_group", [True, False])
def test_a_signal_stops_a_run_cleanly(number: int, code: int, whole_group: bool, tmp_path: Path) -> None:
    """Attempt and run are cancelled with the reason, nothing stays behind, and the next run goes on."""
    project = chain_project(tmp_path)
    (project.root / "hold-doubled").touch()
    process = start(project)
    until(lambda: executed(project)["doubled"])
    if whole_group:
        kill_group(process, number)
    else:
        process.send_signal(number)
    found, output = end(process)
    assert found == code, output
    until(lambda: not processes_of(project))
    run = all_runs(project)[0]
    assert run.state.value == "cancelled"
    assert run.error is not None
    assert ("Ctrl-C" if number == signal.SIGINT else "SIGTERM") in run.error.message
    assert {(a.node, a.state.value) for a in all_attempts(project)} == {
        ("events", "succeeded"),
        ("doubled", "cancelled"),
    }
    (project.root / "hold-doubled").unlink()
    assert project.run().state == "succeeded"
    assert list((project.root / ".penstock" / "tmp" / "logs").iterdir()) == []


def test_a_killed_supervisor_takes_its_processes_along(tmp_path: Path) -> None:
    """Also what a step started itself; the next run says that the run is lost, and goes on."""
    project = chain_project(tmp_path)
    project.change(
        '    note("doubled")\n',
        "    __import__('subprocess').Popen(['sleep', '600'])\n    note(\"doubled\")\n",
        "chain.py",
    )
    (project.root / "hold-doubled").touch()
    process = start(project)
    until(lambda: executed(project)["doubled"])
    assert any("sleep" in p.name() for p in processes_of(project))
    process.kill()
    end(process)
    until(lambda: not processes_of(project))
    (project.root / "hold-doubled").unlink()
    assert project.run().state == "succeeded"
    assert [r.state.value for r in all_runs(project)] == ["lost", "succeeded"]
    assert [(a.node, a.state.value) for a in all_attempts(project)][1] == ("doubled", "lost")
    assert [p.name() for p in processes_of(project)] == []


def test_a_stopped_run_process_is_ended_and_its_work_done_again(tmp_path: Path) -> None:
    """A run process that somebody stopped and nobody continued does not hold the run up for ever."""
    project = chain_project(tmp_path)
    (project.root / "hold-doubled").touch()
    process = start(project)
    until(lambda: executed(project)["doubled"])
    worker_of(process).send_signal(signal.SIGSTOP)
    (project.root / "hold-doubled").unlink()
    code, output = end(process)
    assert code == 0, output
    assert [a.state.value for a in all_attempts(project) if a.node == "doubled"] == ["lost", "succeeded"]
