"""Two workers on one ledger, workers killed anywhere, a hundred equal wishes at once, alarms that never cease."""

import collections
import itertools
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

sys.path.insert(0, str(Path(__file__).parents[1]))
from loop_project import Loop, ask, chain_loop
from penstock.core.process import is_running
from penstock.store.ledger import causes, schema
from project_folder import COMMAND
from run_processes import all_runs, end, executed, processes_of, until

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STILL = 'retrain_on = ["drift"]\nintake = "4000d"'


def _runs_of(loop: Loop, name: str) -> list[str]:
    return [run.state.value for run in all_runs(loop.project) if run.cause == name]


def _start_up(loop: Loop, *words: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*COMMAND, "up", "--every", "200ms", *words],
        cwd=loop.project.root,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    "point",
    ["tick_before_decision", "tick_after_decision", "cause_before_run", "release_before_commit", "cause_after_run"],
)
def test_a_tick_that_is_killed_is_finished_by_the_next(tmp_path: Path, point: str) -> None:
    """Fault 18: wherever the worker is killed, the cause gets one run that comes to its end."""
    loop = chain_loop(tmp_path, STILL)
    ask(loop, "webhook", "w1")
    loop.project.change("* 2)", "* 3)", "chain.py")
    killed = loop.project.command("tick", PENSTOCK_FAULT=f"{point}:kill")
    assert killed.returncode == -signal.SIGKILL
    done = loop.project.command("tick")
    assert done.returncode == 0, done.stderr
    assert loop.told() == [("webhook:w1", "done")]
    assert [state for state in _runs_of(loop, "webhook:w1") if state != "lost"] == ["succeeded"]
    assert loop.project.live("chain") == "chain@2"


def test_a_hundred_equal_wishes_at_once_are_one_retrain(tmp_path: Path) -> None:
    """Fault 17: the key is the wish; whoever is late is told that it was recorded before."""
    loop = chain_loop(tmp_path, STILL)
    with ThreadPoolExecutor(20) as pool:
        was_new = list(pool.map(lambda _: ask(loop, "webhook", "the-same"), range(100)))
    assert sum(was_new) == 1
    with ThreadPoolExecutor(3) as pool:
        ticks = list(pool.map(lambda _: loop.project.command("tick"), range(3)))
    assert [tick.returncode for tick in ticks] == [0, 0, 0], [tick.stderr for tick in ticks]
    assert _runs_of(loop, "webhook:the-same") == ["succeeded"]


def test_two_workers_share_the_work_and_one_takes_over_from_the_other(tmp_path: Path) -> None:
    """Fault 18: each cause is run once by either; a worker killed in a retrain is followed at once by the other."""
    loop = chain_loop(tmp_path, STILL)
    workers = [_start_up(loop), _start_up(loop)]
    try:
        for key in ("a", "b", "c"):
            ask(loop, "webhook", key)
        until(lambda: all(state == "done" for _, state in loop.told()))
        assert collections.Counter(run.cause for run in all_runs(loop.project)) == {
            "manual": 1,
            "webhook:a": 1,
            "webhook:b": 1,
            "webhook:c": 1,
        }
        (loop.project.root / "hold-doubled").touch()
        loop.project.change("* 2)", "* 3)", "chain.py")
        before = executed(loop.project)["doubled"]
        ask(loop, "webhook", "d")
        until(lambda: executed(loop.project)["doubled"] > before)
        (owner,) = [cause.owner for cause in loop.causes() if cause.state == "running"]
        assert owner is not None
        performing = next(p for p in processes_of(loop.project) if p.pid == owner.pid)
        victim = next(worker for worker in workers if worker.pid == performing.ppid())
        os.kill(victim.pid, signal.SIGKILL)
        until(lambda: not is_running(owner.pid))
        (loop.project.root / "hold-doubled").unlink()
        until(lambda: dict(loop.told())["webhook:d"] == "done")
        assert sorted(_runs_of(loop, "webhook:d")) == ["lost", "succeeded"]
    finally:
        outputs = []
        for worker in workers:
            worker.terminate()
            outputs.append(end(worker))
    assert sorted(code for code, _ in outputs) == [-signal.SIGKILL, 0], outputs
    until(lambda: not processes_of(loop.project))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_stop_cancels_its_retrain_and_leaves_it_waiting(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Fault 3: no process stays, the run says that it was cancelled, and the next worker does it."""
    loop = chain_loop(tmp_path, STILL)
    (loop.project.root / "hold-doubled").touch()
    loop.project.change("* 2)", "* 3)", "chain.py")
    ask(loop, "webhook", "w1")
    worker = _start_up(loop)
    until(lambda: executed(loop.project)["doubled"] == 2)
    worker.send_signal(number)
    code, output = end(worker)
    assert code == 0, output
    assert "Stopped" in output
    until(lambda: not processes_of(loop.project))
    assert loop.told() == [("webhook:w1", "waiting")]
    (loop.project.root / "hold-doubled").unlink()
    loop.project.command("tick")
    assert _runs_of(loop, "webhook:w1") == ["cancelled", "succeeded"]


def test_a_worker_that_is_asked_to_stop_in_an_intake_ends(tmp_path: Path) -> None:
    """Fault 3: an intake under way is cancelled and recorded so; the worker does not go on to the next thing."""
    loop = chain_loop(tmp_path, 'intake = "1ms"\nretrain_on = []')
    (loop.project.root / "hold-events").touch()
    loop.project.change(
        "    rows = pl.scan", '    note("events")\n    wait_while("hold-events")\n    rows = pl.scan', "chain.py"
    )
    worker = _start_up(loop)
    until(lambda: executed(loop.project)["events"] == 1)
    worker.send_signal(signal.SIGTERM)
    code, output = end(worker)
    assert code == 0, output
    until(lambda: not processes_of(loop.project))
    assert [(run.cause, run.state.value) for run in all_runs(loop.project)][1:] == [("intake", "cancelled")]


def test_a_worker_takes_up_changed_policy(tmp_path: Path) -> None:
    """The engineer edits `penstock.toml`; the next look follows it."""
    loop = chain_loop(tmp_path, STILL)
    policy = loop.project.root / "penstock.toml"
    worker = _start_up(loop)
    try:
        policy.write_text('[chain]\nretrain_on = []\nintake = "4000d"\nschedule = "0 4 1 1 *"\n')
        until(lambda: [cause.kind for cause in loop.causes()] == ["scheduled"])
        assert worker.poll() is None
    finally:
        worker.terminate()
        code, output = end(worker)
    assert code == 0, output
    assert loop.causes()[0].figures == {"schedule": "0 4 1 1 *", "timezone": "UTC"}


def test_alarms_that_never_cease_retrain_no_more_than_the_cooldown_lets(tmp_path: Path) -> None:
    """The retrain loop: an alarm each twenty minutes for 13 hours gives three retrains; the gate decides on each."""
    loop = chain_loop(tmp_path, STILL + '\ncooldown = "6h"')
    for minute in range(0, 13 * 60, 20):
        _alarm(loop, minute)
        loop.tick(20 * MINUTE)
    runs = [run for run in all_runs(loop.project) if run.cause.startswith("drift:")]
    assert [run.state.value for run in runs] == ["succeeded"] * 3
    gaps = [after.started_at - before.started_at for before, after in itertools.pairwise(runs)]
    assert min(gaps) >= 6 * HOUR
    states = collections.Counter(state for _, state in loop.told())
    assert states["done"] == 3
    assert states["waiting"] <= 1
    assert loop.project.live("chain") == "chain@1"


def test_an_alarm_decided_long_ago_is_not_decided_again(tmp_path: Path) -> None:
    """Hundreds of decisions later a window is still one cause, and the cool-down still counts from its retrain."""
    loop = chain_loop(tmp_path, STILL)
    _alarm(loop, 0)
    loop.tick(HOUR)
    with loop.project.opened() as workspace, workspace.ledger.write() as conn:
        for number in range(400):
            causes.put(conn, causes.NewCause(pipeline="chain", kind="webhook", key=str(number), state="skipped"))
    assert loop.tick(HOUR).actions == ()
    assert len(_runs_of(loop, loop.told()[0][0])) == 1
    _alarm(loop, 60)
    loop.tick(HOUR)
    assert loop.causes()[-1].figures["held"]["reason"] == "cooling down after the last retrain"


def _alarm(loop: Loop, minute: int) -> None:
    finding = {"kind": "data_drift", "subject": "events.x", "is_alarm": True, "effect": 0.5, "said": "x moved"}
    start = loop.now - DAY + minute * MINUTE
    row = {"pipeline": "chain", "monitor": f"data:{minute}", "start_at": start, "end_at": start + DAY, "release": None}
    row |= {"rows": 100, "findings": [finding], "profile": None, "basis": 0, "computed_at": loop.now + MINUTE}
    with loop.project.opened() as workspace, workspace.ledger.write() as conn:
        conn.execute(sa.insert(schema.windows), row)
