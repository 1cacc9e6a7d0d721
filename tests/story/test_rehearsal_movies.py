"""A fortnight of the movies pipeline, rehearsed on real ratings: nobody gives a command, and it stays fresh.

MovieTweetings where it is there (in CI it has to be); elsewhere the sample that the example generates.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "movietweetings"
EXAMPLE = ROOT / "examples" / "movies"
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(EXAMPLE))

import sample  # noqa: E402 - found only with the folder on the path

from penstock.store.ledger import runs  # noqa: E402 - as above
from penstock.worker.rehearsal.arms import open_arm  # noqa: E402 - as above
from penstock.worker.rehearsal.records import Rehearsal, read_rehearsal  # noqa: E402 - as above
from project_folder import COMMAND  # noqa: E402 - as above

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

QUICK = ("recommender.weeks=3", "recommender.candidates=40", "recommender.trees=30")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("movies")
    for name in ("movies.py", "features.py", "ranker.py", "penstock.toml"):
        shutil.copy(EXAMPLE / name, found / name)
    policy = (found / "penstock.toml").read_text(encoding="utf-8")
    assert policy.count('cooldown = "2d"') == 1  # with a tick every second day instead of every day, twice as long
    (found / "penstock.toml").write_text(policy.replace('cooldown = "2d"', 'cooldown = "4d"'), encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def rehearsal(root: Path) -> Rehearsal:
    """Two weeks, a tick every second day, against a pipeline that is never retrained and one that always is."""
    is_real = REAL.is_dir()
    assert is_real or os.environ.get("CI") != "true", f"{REAL} must be there in CI"
    data, start = REAL, "2013-05-08"
    if not is_real:
        data, start = root / "data", "2025-03-20"
        sample.write(data)
    params = [word for param in QUICK for word in ("-p", param)]
    command = [*COMMAND, "rehearse", "movies", "--from", start, "--weeks", "2", "--step", "2d", "--asks", "150"]
    command += ["--data", str(data), "--out", str(root / "out"), "--json", *params]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((root / "out" / "record.json").read_text(encoding="utf-8"))
    return read_rehearsal(root / "out")


def test_nobody_gives_a_command(rehearsal: Rehearsal, root: Path) -> None:
    """M2, tM2: every run was begun by the loop; the project's own store is not even there."""
    with (
        open_arm(rehearsal.plan, "policy", root=root, folder=root / "out") as (workspace, _),
        workspace.ledger.read() as c,
    ):
        begun = {run.cause.partition(":")[0] for run in runs.page(c, pipeline="movies", limit=200)}
    assert "manual" not in begun
    assert begun <= {"rehearsal", "intake", "new_data", "drift", "quality", "stale", "schedule", "age"}
    assert not (root / ".penstock").exists()
    assert all(not day.problems for day in rehearsal.arm("policy").days)


def test_each_day_ends_with_its_rows_and_no_later_ones(rehearsal: Rehearsal) -> None:
    """D1: rows land day by day; at each tick the newest row of a new release is at most a step old and never ahead."""
    rows = [day.rows["ratings"] for day in rehearsal.arm("policy").days]
    assert rows == sorted(set(rows))
    for arm in rehearsal.arms:
        for made in arm.releases:
            assert made.known_until is not None
            assert made.known_until <= made.at
            assert (made.at - made.known_until).total_seconds() < rehearsal.plan.step_s


def test_new_titles_can_be_recommended_within_one_cycle(rehearsal: Rehearsal) -> None:
    """Q4: whatever release follows the first rating of a title knows it."""
    [titles] = [found for found in rehearsal.newcomers if found.column == "movie_id"]
    assert titles.known > 50
    assert titles.waited == {"1": titles.known}
    assert titles.shown > 0


def test_the_policy_retrains_less_than_daily(rehearsal: Rehearsal) -> None:
    """N7: fewer runs than retraining at each tick; the arm that is never retrained has one release."""
    policy, daily, never = (rehearsal.arm(name) for name in ("policy", "daily", "never"))
    assert (never.retrains, len(never.releases)) == (0, 1)
    assert daily.retrains == rehearsal.plan.steps
    assert 0 < policy.retrains <= 0.6 * daily.retrains
    assert len(policy.releases) > 1


def test_arms_answer_the_same_requests(rehearsal: Rehearsal) -> None:
    """E3: each arm was asked the same at the same moments, and pairs are compared on whole truth alone."""
    asked = {arm.name: [step.asked for step in arm.asked] for arm in rehearsal.arms}
    assert asked["policy"] == asked["never"] == asked["daily"] == [150] * rehearsal.plan.steps
    assert all(step.failed == step.fallbacks == 0 for arm in rehearsal.arms for step in arm.asked)
    assert {(found.outcome, found.other) for found in rehearsal.compared} == {
        ("watched", "never"),
        ("watched", "daily"),
    }


def test_live_quality_beats_a_pipeline_that_is_never_retrained(rehearsal: Rehearsal) -> None:
    """N7, Q3: request by request the kept pipeline is at least as good as one released once."""
    [never] = [found for found in rehearsal.compared if found.other == "never"]
    assert never.ours is not None
    assert never.theirs is not None
    assert never.difference.mean is not None
    assert never.difference.high is not None
    assert never.ours - never.theirs == pytest.approx(never.difference.mean)
    assert never.difference.high > 0
