"""How things are said in a terminal: a thing is named once, the next action is one that helps, lines end with words."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from project_folder import Project

SAID = """
import os

import polars as pl

from penstock import Pipeline

said = Pipeline("said")

@said.dataset(key="id")
def rows() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2, 3], "shop": ["a", "b", "c"]})

@said.step(outputs=("mean", "spread"))
def fit(rows: pl.DataFrame, *, how: str = "") -> tuple[float, float]:
    if how == "three":
        return 1.0, 2.0, 3.0
    if how == "exit":
        print("now leaving")
        os._exit(3)
    return 1.0, 2.0

@said.step(each="shop", outputs=("low", "high"))
def bounds(rows: pl.DataFrame, *, how: str = "") -> tuple[int, int]:
    return (1, 2, 3) if how == "three" and rows["shop"][0] == "a" else (1, 2)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    found = Project(tmp_path)
    found.write(SAID)
    return found


@pytest.mark.parametrize(
    ("param", "said"),
    [
        ("fit.how=three", "Failed: Step 'fit' declares outputs ('mean', 'spread') but returned 3 values."),
        ("bounds.how=three", "Failed: Step 'bounds' for 'a' declares outputs ('low', 'high') but returned 3 values."),
    ],
)
def test_what_failed_is_named_once(project: Project, param: str, said: str) -> None:
    """By what it is declared as, and with the part where there are several."""
    done = project.command("run", "-p", param)
    assert done.returncode == 1
    assert said in done.stdout


def test_a_process_that_left_is_followed_to_what_it_printed(project: Project) -> None:
    """The hint is a command that works as it stands."""
    done = project.command("run", "-p", "fit.how=exit")
    assert "penstock show r1 --log fit" in done.stdout
    assert "now leaving" in project.command("show", "r1", "--log", "fit").stdout


def test_no_line_ends_in_blanks(project: Project) -> None:
    """What is copied from a terminal, or compared in a file, holds words and no padding."""
    for words in (("plan",), ("run",), ("run",), ("runs",), ("show",), ("releases",), ("show", "said@1"), ("diff",)):
        done = project.command(*words)
        padded = [line for line in done.stdout.splitlines() if line != line.rstrip()]
        assert not padded, (words, padded)


HUGE = """
from penstock import Pipeline

huge = Pipeline("huge")

@huge.step
def start() -> int:
    return 1

@huge.serve(examples=[{"by": 2}])
def power(start: int, *, by: int) -> int:
    return start * by ** 70
"""


def test_a_result_that_cannot_be_passed_on_is_named(project: Project) -> None:
    """It is the value that is at fault, not a process that left."""
    project.write(HUGE)
    done = project.command("run")
    assert done.returncode == 1
    assert "os._exit" not in done.stdout
    assert "its answers cannot be passed on" in done.stdout


JUDGED = """
import polars as pl

from penstock import Pipeline

judged = Pipeline("judged")

@judged.dataset(key="id")
def rows() -> pl.DataFrame:
    return pl.DataFrame({"id": [1, 2, 3], "shop": ["a", "b", "c"]})

@judged.model
def fit(rows: pl.DataFrame) -> int:
    return 1

@judged.baseline
def zero(rows: pl.DataFrame) -> int:
    return 0

@judged.evaluate(metric="loss", slices=("shpo",), key="id")
def quality(model: int, rows: pl.DataFrame) -> pl.DataFrame:
    return RETURNED
"""


def test_a_slice_that_no_row_has_is_said_before_anything_runs(project: Project) -> None:
    """Where the function's text says which columns it returns."""
    project.write(JUDGED.replace("RETURNED", "rows.select('id', 'shop', loss=pl.lit(1.0))"))
    done = project.command("run")
    assert done.returncode == 2
    assert "names 'shpo' in slices=, but the rows it returns have no such column. Did you mean 'shop'?" in done.stderr
    assert json.loads(project.command("runs", "--json").stdout) == []


def test_a_slice_that_no_row_has_is_said_of_the_first_model_s_rows(project: Project) -> None:
    """Where only the rows tell: no statistic of them all is waited for."""
    project.write(JUDGED.replace("RETURNED", "rows.with_columns(loss=pl.lit(1.0))"))
    told = json.loads(project.command("run", "--json").stdout)["failures"]["quality"]
    assert told["message"].endswith(": its rows have no column 'shpo'.")
    assert told["hint"] == "did you mean 'shop' for 'shpo'? They have 'id', 'shop', 'loss'"
