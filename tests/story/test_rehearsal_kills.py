"""Kill a rehearsal at random moments and go on with it: its record is that of one which nobody disturbed.

Six kills by default; two hundred with PENSTOCK_LONG=1 (`make rehearse-loop-kills`). PENSTOCK_SEED repeats a story.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from project_folder import COMMAND, Project
from rehearsed_films import films_project

IS_LONG = bool(os.environ.get("PENSTOCK_LONG"))
KILLS = 200 if IS_LONG else 6
SEED = int(os.environ.get("PENSTOCK_SEED", "20260301"))
WEEKS = 12 if IS_LONG else 1
# The same retrain is given up after its process has died three times, as in production: kills leave each day two lives.
MOST_WITHOUT_A_DAY = 2
DEADLINE_S = 600.0
POLICY = """
[films]
file = "films.py"
new_data = { rows = 100, intakes = 2 }
cooldown = "1d"
economics = { weigh = false }
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200 if IS_LONG else 900)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    found = films_project(tmp_path_factory.mktemp("films"), days=31 + 7 * WEEKS + 5, per_day=150, users=400)
    found.write(POLICY, "penstock.toml")
    return found


def words(out: Path) -> list[str]:
    options = ["--weeks", str(WEEKS), "--asks", "20", "--against", "never", "--out", str(out), "--quiet", "--json"]
    return [*COMMAND, "rehearse", "films", "--from", "2025-02-01", *options]


def finish(project: Project, out: Path) -> dict[str, Any]:
    done = subprocess.run(words(out), cwd=project.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def days_done(out: Path) -> int:
    path = out / "policy" / "days.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_rehearsal_killed_again_and_again_ends_with_the_same_record(project: Project, tmp_path: Path) -> None:
    """Q12, fault 18: kill -9 at random moments changes nothing of what a rehearsal finds."""
    began = time.monotonic()
    undisturbed = finish(project, tmp_path / "undisturbed")
    day_s = (time.monotonic() - began) / (7 * WEEKS)
    chance, outs = random.Random(SEED), [tmp_path / "killed-0"]
    kills = without_a_day = 0
    while kills < KILLS:
        out = outs[-1]
        before = days_done(out)
        with (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(words(out), cwd=project.root, stdout=subprocess.DEVNULL, stderr=said)
        if without_a_day >= MOST_WITHOUT_A_DAY:
            wait_for_a_day(process, out, before)
        try:
            code = process.wait(timeout=chance.uniform(0.0, day_s))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            without_a_day = 0 if days_done(out) > before else without_a_day + 1
        else:  # it was quicker than the kills: they go on with another
            assert code == 0, (tmp_path / "said").read_text(encoding="utf-8")
            outs.append(tmp_path / f"killed-{len(outs)}")
            without_a_day = 0
    record = (tmp_path / "undisturbed" / "record.json").read_bytes()
    for out in outs:
        found = finish(project, out)
        assert found == undisturbed
        assert (out / "record.json").read_bytes() == record
        policy = next(arm for arm in found["arms"] if arm["name"] == "policy")
        assert [day["step"] for day in policy["days"]] == list(range(7 * WEEKS))
        assert policy["retrains"] >= WEEKS
        assert sum(step["asked"] for step in policy["asked"]) == 20 * 7 * WEEKS
    sys.stdout.write(f"{kills} kills of a rehearsal of {7 * WEEKS} days, seed {SEED}\n")


def wait_for_a_day(process: "subprocess.Popen[bytes]", out: Path, before: int) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while days_done(out) == before and process.poll() is None:
        assert time.monotonic() < deadline, "no day was done"
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
