"""Runs as processes of their own, to be killed, stopped and starved; what became of them is read from the ledger."""

import collections
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import psutil

from penstock.store.ledger import attempts, releases, runs
from penstock.store.ledger.attempts import Attempt
from penstock.store.ledger.runs import Run
from project_folder import COMMAND, Project

PATIENCE_S = 60.0

# Steps write down that they ran, outside of everything Penstock keeps, and wait where a test asks them to.
CHAIN = """
import os
import time
from datetime import datetime
from pathlib import Path

import polars as pl

from penstock import Pipeline

chain = Pipeline("chain", goal="A chain short enough to be broken everywhere.")


def note(word: str) -> None:
    file = os.open("executed.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, f"{word}\\n".encode())
    os.close(file)


def wait_while(name: str) -> None:
    while Path(name).exists():
        time.sleep(0.01)


@chain.dataset(key="id", time="at")
def events(since: datetime | None) -> pl.LazyFrame:
    rows = pl.scan_parquet("events-*.parquet")
    return rows if since is None else rows.filter(pl.col("at") > since)


@chain.step
def doubled(events: pl.DataFrame) -> pl.DataFrame:
    note("doubled")
    wait_while("hold-doubled")
    return events.with_columns(x=pl.col("x") * 2)


@chain.model
def total(doubled: pl.DataFrame) -> dict[str, float]:
    note("total")
    return {"x": float(doubled["x"].sum())}


@chain.check
def total_is_positive(total: dict[str, float]) -> None:
    assert total["x"] > 0


@chain.serve(examples=[{"factor": 2}])
def answer(total: dict[str, float], *, factor: int) -> float:
    return total["x"] * factor
"""


def chain_project(root: Path) -> Project:
    """Write the chain and its first day of data."""
    project = Project(root, "chain")
    project.write(CHAIN, "chain.py")
    add_day(project, 1)
    return project


def add_day(project: Project, day: int) -> None:
    """Write one more file of rows, the same for the same day."""
    ids = range(100 * day, 100 * day + 100)
    at = [86_400_000_000 * day + n for n in range(100)]
    frame = pl.DataFrame({"id": list(ids), "at": at, "x": [float(i % 7) for i in ids]})
    path = project.root / f"half-written-{day}"
    frame.with_columns(pl.col("at").cast(pl.Datetime("us"))).write_parquet(path)
    path.rename(project.root / f"events-{day:03}.parquet")


def start(project: Project, *words: str, **environment: str) -> "subprocess.Popen[str]":
    """Start `penstock run` in a session of its own, as a terminal does."""
    return subprocess.Popen(
        [*COMMAND, "run", *words],
        cwd=project.root,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for a process and return its exit code and output."""
    with process:
        output, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, output


def until(what: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def executed(project: Project) -> "collections.Counter[str]":
    """Return how often each step was entered."""
    path = project.root / "executed.txt"
    return collections.Counter(path.read_text().split() if path.exists() else ())


def processes_of(project: Project) -> list[psutil.Process]:
    """Return every live process that works in the project's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            is_ours = process.cwd() == str(project.root) and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if is_ours and process.pid != os.getpid():
            found.append(process)
    return found


def worker_of(process: "subprocess.Popen[str]") -> psutil.Process:
    """Return the run process of a supervisor."""
    found: list[psutil.Process] = []

    def is_there() -> bool:
        children = psutil.Process(process.pid).children()
        found[:] = [c for c in children if "penstock.engine.worker" in " ".join(c.cmdline())]
        return bool(found)

    until(is_there)
    return found[0]


def all_runs(project: Project) -> list[Run]:
    """Return every run, the oldest first."""
    with project.opened() as workspace, workspace.ledger.read() as conn:
        return runs.page(conn, limit=10_000)[::-1]


def all_attempts(project: Project) -> list[Attempt]:
    """Return every attempt of every run."""
    with project.opened() as workspace, workspace.ledger.read() as conn:
        return [a for run in runs.page(conn, limit=10_000)[::-1] for a in attempts.of_run(conn, run.id)]


def live_hash(project: Project) -> str:
    """Return the hash of the live release."""
    with project.opened() as workspace, workspace.ledger.read() as conn:
        found = releases.live(conn, project.name or "")
    assert found is not None
    return found.hash


def assert_done_once(project: Project) -> None:
    """Nothing is left running, and no node's work was committed twice for the same key."""
    found = all_attempts(project)
    assert "running" not in {a.state.value for a in found}
    assert "running" not in {r.state.value for r in all_runs(project)}
    kept = collections.Counter(
        (a.node, a.part, a.key) for a in found if a.state.value == "succeeded" and a.node != "events"
    )
    assert max(kept.values()) == 1, kept


def kill_group(process: "subprocess.Popen[str]", number: int = signal.SIGKILL) -> None:
    """Send a signal to a process and what shares its terminal."""
    os.killpg(process.pid, number)
