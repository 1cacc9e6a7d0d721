"""What runs, what is reused and what is skipped: the scheduler's promises, on real run processes."""

import sys
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.engine.events import Event, NodeEnded, UnitStarted
from project_folder import Project, reruns
from run_processes import all_attempts, chain_project, end, executed, start, until

PLAN = """
import time
from pathlib import Path

import polars as pl

from penstock import Pipeline

plan = Pipeline("plan")


@plan.check
def counts_are_right(count: int, *, expected: int = 3) -> None:
    assert count == expected


@plan.step
def last(middle: int) -> int:
    return middle


@plan.step
def middle(count: int) -> int:
    return count


@plan.step
def rows(*, keys: int = 3) -> pl.DataFrame:
    return pl.DataFrame({"key": list(range(keys)), "x": [1.0] * keys}, schema={"key": pl.Int64, "x": pl.Float64})


@plan.step(each="key")
def part(rows: pl.DataFrame, key: int, *, broken: int = -1) -> float:
    if key == broken:
        raise ValueError(f"no such shop {key}")
    return float(rows["x"].sum())


@plan.step
def count(part: dict[str, float]) -> int:
    return len(part)


@plan.step
def apart(*, nap_s: float = 0.0) -> str:
    time.sleep(nap_s)
    return "independent"


@plan.step
def even(*, number: int = 2) -> bool:
    return number % 2 == 0


@plan.step
def after_even(even: bool) -> str:
    return str(even)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path, "plan")
    project.write(PLAN, "plan.py")
    return project


def test_the_order_of_the_file_does_not_matter(project: Project) -> None:
    """Nodes run when what they need is there, and each ends once."""
    told: list[Event] = []
    report = project.run(listener=told.append)
    assert report.state == "succeeded", report.failures
    ended = [e.node for e in told if isinstance(e, NodeEnded)]
    assert len(ended) == len(set(ended))
    assert (
        ended.index("rows") < ended.index("part") < ended.index("count") < ended.index("middle") < ended.index("last")
    )


def test_a_failed_part_skips_all_that_rests_on_it_and_nothing_else(project: Project) -> None:
    """However far away and in whatever order of the file; the other parts are kept for the next run."""
    report = project.run(params={"part.broken": 1})
    assert report.nodes == {
        "rows": "succeeded", "part": "failed", "count": "skipped", "counts_are_right": "skipped",
        "middle": "skipped", "last": "skipped",
        "apart": "succeeded", "even": "succeeded", "after_even": "succeeded",
    }  # fmt: skip
    assert "for '1' raised ValueError: no such shop 1" in report.failures["part"].message
    assert "running" not in {a.state.value for a in all_attempts(project)}


def test_a_fan_out_without_keys_is_done(project: Project) -> None:
    """What needs it gets nothing, and runs."""
    report = project.run(params={"rows.keys": 0, "counts_are_right.expected": 0})
    assert report.state == "succeeded", report.failures
    assert project.output(report, "last") == 0


def test_a_failed_check_stops_what_rests_on_the_same_data(project: Project) -> None:
    """Values stand in the message; independent nodes are finished; there is no release."""
    report = project.run(params={"counts_are_right.expected": 4})
    assert report.state == "failed"
    assert report.release is None
    assert report.nodes["counts_are_right"] == "failed"
    assert report.nodes["middle"] == "skipped"
    assert report.nodes["last"] == "skipped"
    assert report.nodes["apart"] == "succeeded"
    assert "3" in report.failures["counts_are_right"].message
    assert "4" in report.failures["counts_are_right"].message


def test_an_unchanged_output_stops_the_wave(project: Project) -> None:
    """A step that ran again and made the same bytes lets everything behind it be reused."""
    project.run()
    assert reruns(project.run(params={"even.number": 4})) == {"even"}
    assert reruns(project.run(params={"even.number": 3})) == {"even", "after_even"}


def test_one_changed_key_runs_alone(project: Project) -> None:
    """Parts whose rows are the same are reused."""
    project.run()
    told: list[Event] = []
    report = project.run(params={"rows.keys": 4, "counts_are_right.expected": 4}, listener=told.append)
    assert report.state == "succeeded"
    assert [e.part for e in told if isinstance(e, UnitStarted) and e.node == "part" and e.part != "#split"] == ["3"]


def test_force_runs_what_is_kept(project: Project) -> None:
    """The node runs, says why, and what it made the same stops the wave."""
    project.run()
    told: list[Event] = []
    report = project.run(force=frozenset({"count"}), listener=told.append)
    assert reruns(report) == {"count"}
    assert [e.reason for e in told if isinstance(e, UnitStarted)] == ["asked for with --force"]


def test_a_forced_node_is_tried_again_rather_than_reused(project: Project) -> None:
    """A kept result must not stand in for a forced try that was lost."""
    project.write('[plan.steps.apart]\nretries = 1\nretry_wait = "10ms"\ntimeout = "200ms"\n', "penstock.toml")
    project.change("    time.sleep(nap_s)\n", "    time.sleep(5.0 * Path('slow').exists())\n", "plan.py")
    assert project.run().state == "succeeded"
    (project.root / "slow").touch()
    report = project.run(force=frozenset({"apart"}))
    assert report.nodes["apart"] == "failed"
    states = [a.state.value for a in all_attempts(project) if a.node == "apart" and a.run_id == report.run_id]
    assert states == ["timed_out", "timed_out"]


def test_waiting_for_another_run_costs_no_processor(tmp_path: Path) -> None:
    """A run with nothing to do but wait sleeps between its looks."""
    project = chain_project(tmp_path)
    (project.root / "hold-doubled").touch()
    first = start(project)
    until(lambda: executed(project)["doubled"])
    second = start(project)
    watched = psutil.Process(second.pid)
    until(lambda: len({a.run_id for a in all_attempts(project) if a.node == "events" and a.finished_at}) == 2)
    before, looks = watched.cpu_times(), watched.num_ctx_switches().voluntary
    until(lambda: watched.num_ctx_switches().voluntary > looks + 20)  # it sleeps and wakes, rather than spinning
    spent = watched.cpu_times().user + watched.cpu_times().system - before.user - before.system
    (project.root / "hold-doubled").unlink()
    for process in (first, second):
        assert end(process)[0] == 0
    assert spent < 1.0
