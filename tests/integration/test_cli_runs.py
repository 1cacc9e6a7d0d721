"""The command line as a person uses it: plan, run, look, compare; each command in a process of its own."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from project_folder import Project

SCORES = """
import polars as pl

from penstock import Pipeline

scores = Pipeline("scores", goal="Guess well.")

@scores.dataset(key="id")
def rows() -> pl.DataFrame:
    return pl.DataFrame({"id": range(200), "x": [float(i % 10) for i in range(200)]})

@scores.step(outputs=("train", "test"))
def split(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return rows.filter(pl.col("id") < 100), rows.filter(pl.col("id") >= 100)

@scores.baseline
def zero(train: pl.DataFrame) -> float:
    return 0.0

@scores.model
def mean(train: pl.DataFrame, *, shift: float = 0.0) -> float:
    print("taking the mean")
    return float(train["x"].mean()) + shift

@scores.evaluate(metric="loss", slices=("odd",), key="id", higher_is_better=False)
def quality(model: float, test: pl.DataFrame) -> pl.DataFrame:
    return test.select("id", loss=(pl.col("x") - model).abs(), odd=pl.col("id") % 2 == 1)

@scores.check
def loss_is_small(quality) -> None:
    assert quality.mean("mean").mean < 4

@scores.serve(examples=[{"x": 1.0}])
def distance(mean: float, *, x: float) -> float:
    return abs(x - mean)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    found = Project(tmp_path)
    found.write(SCORES)
    return found


def answer(project: Project, *words: str, code: int = 0) -> Any:
    """Run a command with --json and return its document, the only thing on standard output."""
    done = project.command(*words, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_a_project_from_plan_to_diff(project: Project) -> None:
    """A directory with one pipeline needs no name; each command tells what the one before did."""
    plan = {line["node"]: line["action"] for line in answer(project, "plan")["nodes"]}
    assert plan["rows"] == "run"
    first = answer(project, "run")
    assert (first["release"], first["is_new_release"], first["run"]) == ("scores@1", True, "r1")
    assert first["nodes"]["mean"] == "succeeded"
    again = answer(project, "run", "scores")
    assert (again["release"], again["is_new_release"]) == ("scores@1", False)
    assert again["nodes"]["mean"] == "reused"
    project.change("abs(x - mean)", "2 * abs(x - mean)")
    assert answer(project, "run", "-p", "mean.shift=0.5")["release"] == "scores@2"
    difference = answer(project, "diff")
    assert difference["before"] == "r2"
    assert "+    return 2 * abs(x - mean)" in difference["code"][0]["diff"]
    assert [c["name"] for c in difference["params"]] == ["mean.shift"]
    assert {c["subject"] for c in difference["predictions"]} >= {"quality of mean", "distance"}
    assert answer(project, "diff", "scores@2")["before"] == "scores@1"
    assert [line["release"] for line in answer(project, "releases") if line["is_live"]] == ["scores@2"]
    assert [line["run"] for line in answer(project, "runs", "--limit", "2")] == ["r3", "r2"]
    assert answer(project, "runs", "--state", "failed") == []


def test_a_run_tells_quality_checks_and_release(project: Project) -> None:
    """What a person reads at the end: intervals, a verdict, the count of checks, and what to do next."""
    text = project.command("run").stdout
    assert "✓ done      mean" in text
    assert "loss, lower is better (mean of 100, 95 % interval)" in text
    assert "over zero" in text
    assert "better" in text
    assert "Where it is worst (loss)" in text
    assert "checks passed" in text
    assert "Serve it: penstock serve scores" in text
    assert "scores@1 stands" in project.command("run").stdout


def test_show_tells_of_a_run_and_a_release_what_the_run_told(project: Project) -> None:
    """Also of a run that reused everything: quality, checks with evidence, what each node used and printed."""
    first = answer(project, "run")
    answer(project, "run")
    reused, made = answer(project, "show", "r2"), answer(project, "show", "r1")
    assert made["quality"] == first["quality"]
    assert {m["role"] for m in reused["quality"][0]["models"]} == {"candidate", "baseline", "champion"}
    assert {c["name"] for c in made["checks"]} >= {"loss_is_small", "no_empty_split", "not_worse_than_baselines"}
    mean = next(node for node in made["nodes"] if node["node"] == "mean")
    assert mean["wall_s"] > 0
    assert mean["peak_bytes"] > 0
    assert project.command("show", "r1", "--log", "mean").stdout == "taking the mean\n"
    release = answer(project, "show", "scores@1")
    assert (release["is_live"], release["made_in"]["run"]) == (True, "r1")
    text = project.command("show", "scores@1").stdout
    assert "live" in text
    assert "loss_is_small" in text


def test_a_failed_check_stops_the_release(project: Project) -> None:
    """Exit code 3, the values of the assert, and what to look at."""
    done = project.command("run", "-p", "shift=40")
    assert done.returncode == 3
    assert "FAILED" in done.stdout
    assert "quality.mean('mean').mean" in done.stdout
    assert "No release" in done.stdout
    assert "penstock show r1" in done.stdout
    means = {m["model"]: m["mean"] for m in answer(project, "show")["quality"][0]["models"]}
    assert means["mean"] > 30
    assert answer(project, "releases") == []


def test_code_that_fails_shows_the_user_s_frames_first(project: Project) -> None:
    """Exit code 1; no frame of Penstock's; `penstock debug` calls the node alone, with the files as they are."""
    project.change('float(train["x"].mean())', 'float(train["y"].mean())')
    done = project.command("run")
    assert done.returncode == 1
    assert done.stdout.index("Traceback") < done.stdout.index("Failed: Model 'mean' raised")
    assert 'in mean\n    return float(train["y"].mean())' in done.stdout
    assert "src/penstock/" not in done.stdout
    assert "penstock debug mean" in done.stdout
    debugged = project.command("debug", "mean")
    assert debugged.returncode == 1
    assert 'float(train["y"].mean())' in debugged.stderr
    project.change('train["y"]', 'train["x"]')
    debugged = project.command("debug", "mean", "-p", "shift=1")
    assert debugged.returncode == 0
    assert "taking the mean" in debugged.stdout
    assert "Returned 5.5" in debugged.stdout


@pytest.mark.parametrize(("part", "said"), [(None, "Part 'mean' of 2"), ("zero", "quality(model, test)")])
def test_one_model_of_an_evaluation_is_debugged(project: Project, part: str | None, said: str) -> None:
    done = project.command("debug", "quality", *(() if part is None else ("--part", part)))
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_what_a_debugged_node_came_to_is_json(project: Project) -> None:
    """The call, its value and what it printed are told apart, and a failure is named with the user's frames."""
    done = project.command("debug", "mean", "-p", "shift=1", "--json")
    assert "taking the mean" in done.stderr
    told = json.loads(done.stdout)
    assert (told["node"], told["part"], told["state"], told["returned"]) == ("mean", "", "returned", "5.5")
    assert told["arguments"] == ["train"]
    assert told["params"] == {"shift": 1.0}
    assert told["place"].startswith("flow.py:")
    project.change('float(train["x"].mean())', 'float(train["y"].mean())')
    told = answer(project, "debug", "mean", code=1)
    assert (told["state"], told["returned"], told["failure"]["kind"]) == ("raised", None, "exception")
    assert 'train["y"]' in told["failure"]["traceback"]
    project.change('float(train["y"].mean())', '__import__("os")._exit(7)')
    told = answer(project, "debug", "mean", code=1)
    assert (told["state"], told["failure"]["kind"]) == ("ended", "exit")
    assert "ended its process with exit code 7" in told["failure"]["message"]


def test_a_dataset_is_debugged_with_its_words(project: Project) -> None:
    assert "Returned shape: (200, 2)" in project.command("debug", "rows").stdout


def test_force_and_only(project: Project) -> None:
    """A forced node runs again; a run of some nodes makes no release and says so."""
    answer(project, "run")
    assert answer(project, "run", "--force", "mean")["nodes"]["mean"] == "succeeded"
    done = project.command("run", "--only", "split", "--quiet")
    assert done.returncode == 0
    assert "makes no release" in done.stdout
