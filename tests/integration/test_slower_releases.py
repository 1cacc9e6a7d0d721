"""A step that becomes slower is an alert with the node, the runs and the commits between which it did."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.clock import Clock
from penstock.core.settings import load_settings
from penstock.project.alerting import notice
from penstock.project.alerting.listing import Shown, list_alerts
from penstock.project.alerting.why import why
from penstock.project.crew import Kept
from penstock.project.running import RunOptions, run_graph
from penstock.project.showing import list_runs, show_run
from penstock.project.targets import find_graph
from penstock.project.timing import recorded
from penstock.project.workspace import open_store
from project_folder import Project

FLOW = """
import time

import polars as pl

from penstock import Pipeline

flow = Pipeline("flow", goal="Work that takes its time.")
WORK_S = 0.1


def work() -> int:
    ends, count = time.process_time() + WORK_S, 0
    while time.process_time() < ends:
        count += 1
    return count


@flow.dataset(key="id")
def items() -> pl.DataFrame:
    return pl.DataFrame({"id": range(90), "shop": ["a", "b", "c"] * 30})


@flow.step(each="shop")
def per_shop(items: pl.DataFrame) -> int:
    return items.height


@flow.model
def slow(items: pl.DataFrame) -> int:
    work()
    return items.height


@flow.serve(examples=[{"n": 2}])
def answer(slow: int, *, n: int) -> int:
    return slow * n
"""
BEFORE, AFTER = 6, 3


def commit(root: Path, message: str) -> str:
    """Commit the pipeline's file, as a person does, and return the hash."""
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "flow.py"], [*who, "commit", "-q", "-m", message]):
        subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextmanager
def runner(project: Project) -> Iterator[Callable[..., None]]:
    """Run the pipeline again and again in processes that stay, so that a test of many runs is short."""
    settings, crew = load_settings(project.root), Kept()
    with closing(crew), open_store(settings, Clock(), crew) as workspace:

        def run(*force: str) -> None:
            options = RunOptions(params={}, force=frozenset(force))
            assert run_graph(find_graph(workspace, "flow"), workspace, options).state == "succeeded"

        yield run


def looked(project: Project) -> tuple[Shown, ...]:
    """Look at the pipeline as a tick does, and return the open alerts."""
    with project.opened() as workspace:
        notice(workspace, ["flow"], workspace.clock.now())
        return list_alerts(workspace).alerts


def test_a_slower_step_is_an_alert_with_its_commits(tmp_path: Path) -> None:
    """M7, tO6: real work made ten times as long is found by the third run, with node, runs, commits and the change."""
    project = Project(tmp_path)
    project.write(FLOW)
    first = commit(tmp_path, "quick")
    with runner(project) as run:
        for _ in range(BEFORE):
            run("slow")
        assert looked(project) == ()

        project.change("WORK_S = 0.1", "WORK_S = 1.0")
        second = commit(tmp_path, "slow")
        for number in range(AFTER):
            assert looked(project) == ()
            run(*(["slow"] if number else []))
    (alert,) = looked(project)

    assert (alert.kind, alert.subject) == ("slower", "slow")
    assert f"It began with r{BEFORE + 1}, after r{BEFORE}: commits {first[:10]}..{second[:10]}" in alert.what
    with project.opened() as workspace:
        found = why(workspace, alert.alert)
        (newest, *_) = list_runs(workspace)
        shown = {node.node: node for node in show_run(BEFORE + AFTER, workspace).nodes}
    assert any("flow.py" in said and "changed" in said for said in found.suspects[:2]), found.suspects
    assert f"all that differs: penstock diff r{BEFORE} r{BEFORE + 1}" in found.suspects
    assert newest.factor is not None
    assert newest.factor > 3
    assert shown["slow"].factor is not None
    assert shown["slow"].factor > 5
    told = project.command("runs").stdout.splitlines()
    assert "x the usual" in told[0]
    assert "x the usual" not in told[-1]
    assert "an answer of answer: " in project.command("show", f"r{BEFORE + 1}").stdout


def test_a_project_without_git_has_runs_instead_of_commits(tmp_path: Path) -> None:
    """tO6: where no git is, the times of a run are kept all the same, and unchanged work is never called slower."""
    project = Project(tmp_path)
    project.write(FLOW)
    with runner(project) as run:
        for _ in range(8):
            run("slow")
    assert looked(project) == ()
    with project.opened() as workspace:
        slow = {node.node: node for node in show_run(8, workspace).nodes}["slow"]
        with workspace.ledger.read() as conn:
            first, *_, last = recorded(conn, "flow")
    assert slow.usual_cpu_s is not None
    assert slow.factor is not None
    assert (first.run, first.commit, first.nodes["slow"].rows) == ("r1", None, 90)
    assert (first.nodes["items"].rows, first.nodes["per_shop"].rows) == (90, 30)
    assert {"slow"} <= last.nodes.keys()
    assert "per_shop" not in last.nodes  # reused, so it has no time
