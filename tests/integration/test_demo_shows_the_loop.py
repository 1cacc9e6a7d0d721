"""`penstock demo`: from data to answers in one command, again with reuse, and honest when there is no release."""

import json
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from project_folder import Project


@pytest.mark.slow
def test_the_demo_releases_and_answers_and_the_second_reuses(tmp_path: Path) -> None:
    """Plan, quality, release, three answers with their ids, the command that keeps it serving; then reuse."""
    project = Project(tmp_path)
    first = project.command("demo")
    assert first.returncode == 0, first.stderr
    for said in ("most_watched_lately", "Released movies@1", "cd demo-movies && ", "penstock serve movies"):
        assert said in first.stdout
    assert first.stdout.count("User ") == 3
    second = project.command("demo", "--json")
    assert second.returncode == 0, second.stderr
    assert "movies@1 stands" in second.stderr
    assert "Released" not in second.stderr
    told = json.loads(second.stdout)
    assert (told["directory"], told["state"], told["release"]) == ("demo-movies", "succeeded", "movies@1")
    assert "most_watched_lately" in {row["model"] for row in told["quality"][0]["models"]}
    assert len(told["answers"]) == 3
    assert {answer["release"] for answer in told["answers"]} == {"movies@1"}
    assert all(answer["answer"][0]["title"] for answer in told["answers"])


def test_no_release_is_said_and_the_exit_code_tells(tmp_path: Path) -> None:
    """People who rate at random: nothing beats counting, so nothing is released and nothing answers."""
    draw = random.Random(0)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    pairs = sorted({(draw.randrange(150), draw.randrange(60)) for _ in range(3000)}, key=lambda _: draw.random())
    pl.DataFrame(
        {
            "user_id": [user for user, _ in pairs],
            "movie_id": [movie for _, movie in pairs],
            "rating": [draw.randint(1, 10) for _ in pairs],
            "rated_at": [start + timedelta(hours=n) for n in range(len(pairs))],
        }
    ).write_parquet(tmp_path / "ratings.parquet")
    pl.DataFrame(
        {
            "movie_id": range(60),
            "title": [f"Film {n}" for n in range(60)],
            "year": [1990 + n % 30 for n in range(60)],
            "genres": ["Drama|Comedy" if n % 2 else "Crime" for n in range(60)],
        }
    ).write_csv(tmp_path / "movies.csv")
    done = Project(tmp_path).command("demo", "--data", str(tmp_path), "--json")
    assert done.returncode in {1, 3}, done.stdout + done.stderr
    assert "No release" in done.stderr
    assert "Answers over HTTP" not in done.stderr
    told = json.loads(done.stdout)
    assert (told["state"], told["release"], told["answers"]) == ("failed", None, [])
    assert told["run"] == "r1"


def test_missing_data_is_named(tmp_path: Path) -> None:
    """What was looked for is listed, before anything is run."""
    done = Project(tmp_path).command("demo", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "ratings.parquet" in done.stderr
    assert not list(tmp_path.iterdir())
