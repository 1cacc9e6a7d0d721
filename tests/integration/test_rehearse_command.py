"""`penstock rehearse` as a person calls it: what it refuses, what it prints, where it keeps things."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from project_folder import COMMAND, Project
from rehearsed_films import films_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return films_project(tmp_path_factory.mktemp("films"), days=45, per_day=400, users=1500)


def rehearse(project: Project, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [*COMMAND, "rehearse", "films", *words]
    return subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["--from", "2024-12-01"], "Nothing is known of 'films' on 2024-12-01: its data reach from", "start later"),
        (["--from", "2025-02-01", "--weeks", "9"], "would end on 2025-04-05: its data reach from", "say --weeks 1"),
        (["--from", "2025-02-01", "--against", "weekly"], "There is no arm 'weekly'.", "compare with never or daily"),
        (["--from", "2025-02-01", "--step", "30d", "--weeks", "1"], "is longer than the rehearsal", "say a shorter"),
        (["--from", "soon"], "--from 'soon' is no time.", "write it as"),
        (["--from", "2025-01-02", "--weeks", "1"], "The first release of 'films', of what was known on", "start later"),
        (["--from", "2025-02-01", "-p", "lately.years=3"], "years", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_rehearsed_is_said(
    project: Project, tmp_path: Path, words: list[str], said: str, hint: str
) -> None:
    """Q65: each mistake is told with what was found and what to do; nothing of the project's own store is made."""
    done = rehearse(project, *words, "--out", str(tmp_path / "out"), "--quiet")
    assert done.returncode in {2, 3}, done.stderr
    assert said in done.stderr.replace("\n", " ")
    assert hint in done.stderr.replace("\n", " ")
    assert not (project.root / ".penstock").exists()


def test_a_dataset_without_times_cannot_be_rehearsed(tmp_path: Path) -> None:
    project = films_project(tmp_path, days=10, per_day=50, users=50)
    project.change('key=("user_id", "movie_id"), time="rated_at"', 'key=("user_id", "movie_id")', "films.py")
    project.change("ratings(since: datetime | None, *,", "ratings(*,", "films.py")
    project.change('rows if since is None else rows.filter(pl.col("rated_at") > since)', "rows", "films.py")
    done = rehearse(project, "--from", "2025-01-05", "--weeks", "1", "--quiet")
    assert done.returncode == 2, done.stderr
    assert "none of its datasets has a time column" in done.stderr.replace("\n", " ")


def test_a_rehearsal_is_told_week_by_week_and_kept(project: Project, tmp_path: Path) -> None:
    """tM2: a line per week without a terminal, what it came to at the end, and the same again when it is done."""
    out = tmp_path / "kept"
    words = ["--from", "2025-02-01", "--weeks", "1", "--step", "1d", "--asks", "20", "--against", "never"]
    done = rehearse(project, *words, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "week 1: 2025-02-08" in done.stdout
    assert "Rehearsed films from 2025-02-01 to 2025-02-08" in done.stdout
    assert (out / "report.html").is_file()
    record = (out / "record.json").read_bytes()
    again = rehearse(project, *words, "--out", str(out), "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == json.loads(record)
    assert (out / "record.json").read_bytes() == record
    other = rehearse(project, *words, "--seed", "7", "--out", str(out))
    assert other.returncode == 2
    assert "holds a rehearsal with other arguments" in other.stderr.replace("\n", " ")
    assert not (project.root / ".penstock").exists()
