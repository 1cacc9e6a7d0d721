"""A run process or its supervisor dies, or the disk fails, at every point where a write could be torn."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.project.mending import examine
from project_folder import Project
from run_processes import all_attempts, all_runs, assert_done_once, chain_project, end, live_hash, start

IN_WORKER = ("attempt_before_start", "attempt_in_user_code", "attempt_before_write")
IN_INTAKE = ("intake_mid_write", "intake_before_commit", "intake_after_commit")
IN_SUPERVISOR = ("result_before_commit", "result_after_commit", "release_before_commit", "release_after_commit")
IN_BOTH = ("blob_mid_write", "blob_after_fsync")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the hash of the release that a run without faults makes."""
    project = chain_project(tmp_path_factory.mktemp("undisturbed"))
    assert project.run(workers=1).release == "chain@1"
    return live_hash(project)


def _finish(project: Project, undisturbed: str) -> None:
    """The next run goes on to the same release, and all is as if nothing had happened."""
    finished = {(a.node, a.part) for a in all_attempts(project) if a.state.value == "succeeded"} - {("events", "")}
    report = project.run(workers=1)
    assert (report.state, report.release) == ("succeeded", "chain@1"), report.failures
    assert live_hash(project) == undisturbed
    assert_done_once(project)
    again = {(a.node, a.part) for a in all_attempts(project) if a.run_id == report.run_id}
    assert not again & finished
    with project.opened() as workspace:
        assert examine(workspace, deep=True).faults == ()
    assert [v.version for v in project.versions("chain", "events")] == [1]


@pytest.mark.parametrize(
    ("point", "visit"),
    [
        *((point, 1) for point in [*IN_WORKER, *IN_INTAKE, *IN_SUPERVISOR, *IN_BOTH]),
        *((point, 3) for point in ["attempt_before_start", "result_before_commit", "result_after_commit", *IN_BOTH]),
    ],
)
def test_a_process_killed_at_any_point_costs_only_what_it_was_doing(
    point: str, visit: int, tmp_path: Path, undisturbed: str
) -> None:
    """The dead run is recognised, finished nodes are kept, the rest is done once more, and one result stands."""
    project = chain_project(tmp_path)
    code, output = end(start(project, "--workers", "1", PENSTOCK_FAULT=f"{point}:kill:{visit}"))
    if point in {*IN_SUPERVISOR, *IN_BOTH}:
        assert code == -9, output
    elif visit == 1 and point != "intake_after_commit":
        assert code == 1, output
        assert "killed by SIGKILL" in output
    else:  # the process that takes its place does not come by here again
        assert code == 0, output
    before = [run.id for run in all_runs(project)]
    _finish(project, undisturbed)
    states = [run.state.value for run in all_runs(project) if run.id in before]
    assert set(states) <= {0: {"succeeded"}, 1: {"failed"}, -9: {"lost"}}[code]


@pytest.mark.parametrize("point", [*IN_WORKER, *IN_INTAKE, *IN_SUPERVISOR, *IN_BOTH])
def test_an_input_output_error_leaves_the_old_state_or_the_new(point: str, tmp_path: Path, undisturbed: str) -> None:
    """The command says in words what failed; nothing is half there afterwards."""
    project = chain_project(tmp_path)
    code, output = end(start(project, "--workers", "1", PENSTOCK_FAULT=f"{point}:error"))
    assert code in {1, 4}, output
    assert "injected" in output or "Input/output" in output
    assert "Traceback (most recent call last)" not in output or point in {*IN_WORKER, *IN_INTAKE}
    _finish(project, undisturbed)
