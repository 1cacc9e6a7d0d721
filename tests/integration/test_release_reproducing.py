"""A release is made again from its own code, data and parameters, and every output is compared by its bytes."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import InputError, NotFoundError
from penstock.project.reproducing import reproduce
from penstock.store.ledger import releases, runs
from project_folder import Project

FLOW = """
import os
import polars as pl
from penstock import Pipeline

flow = Pipeline("flow")

@flow.dataset(key="x", time="at")
def rows(*, path: str = "rows.csv") -> pl.DataFrame:
    return pl.read_csv(path, try_parse_dates=True)

@flow.step
def doubled(rows: pl.DataFrame, now, *, times: int = 2) -> pl.DataFrame:
    return rows.select(y=pl.col("x") * times, day=pl.lit(now.isoformat()))

@flow.step
def noise(doubled: pl.DataFrame) -> str:
    return NOISE

@flow.model
def total(doubled: pl.DataFrame) -> dict[str, int]:
    return {"sum": int(doubled["y"].sum())}

@flow.evaluate(metric="score")
def quality(model, doubled: pl.DataFrame) -> pl.DataFrame:
    return doubled.select(score=(pl.col("y") < model["sum"]).cast(pl.Float64))

@flow.check
def is_scored(quality):
    assert quality.mean(quality.candidate).mean >= 0

@flow.serve
def ask(total, *, plus: int) -> int:
    return total["sum"] + plus
"""


def make(folder: Path, noise: str) -> Project:
    project = Project(folder)
    project.write(FLOW.replace("NOISE", noise))
    project.write("x,at\n1,2026-01-01\n2,2026-01-02\n3,2026-01-03\n", "rows.csv")
    return project


def test_a_release_without_chance_is_made_again(tmp_path: Path) -> None:
    """From its snapshot and its version of the data, whatever has become of both since; nothing is recorded."""
    project = make(tmp_path, "'quiet'")
    assert project.run(params={"doubled.times": 3}).release == "flow@1"
    project.write("x,at\n9,2026-02-01\n", "rows.csv")
    project.change("plus: int) -> int", "plus: int = 0) -> int")
    assert project.run().release == "flow@2"
    (tmp_path / "flow.py").unlink()
    (tmp_path / "rows.csv").unlink()
    with project.opened() as workspace:
        before = set(workspace.blobs.digests())
        for ref in ("flow@1", "flow@2"):
            found = reproduce(ref, workspace)
            assert (found.same, found.differing, found.failures) == (True, (), {})
            assert found.compared >= 4
            assert found.environment == ()
        assert set(workspace.blobs.digests()) == before
        assert not list((workspace.home / "tmp").glob("reproduce-*"))
        with workspace.ledger.read() as conn:
            assert [r.version for r in releases.of_pipeline(conn, "flow")] == [2, 1]
            assert len(runs.page(conn)) == 2


def test_a_step_that_rolls_dice_is_named(tmp_path: Path) -> None:
    """And only it: what does not depend on it is the same."""
    project = make(tmp_path, "os.urandom(8).hex()")
    assert project.run().release == "flow@1"
    with project.opened() as workspace:
        found = reproduce("flow@1", workspace)
    assert (found.same, found.differing) == (False, ("noise/noise",))


def test_a_step_that_fails_this_time_is_named(tmp_path: Path) -> None:
    """What it made is missing, and why is told."""
    project = make(tmp_path, f"open({str(tmp_path / 'there')!r}).read()")
    project.write("x", "there")
    assert project.run().release == "flow@1"
    (tmp_path / "there").unlink()
    with project.opened() as workspace:
        found = reproduce("flow@1", workspace)
    assert not found.same
    assert found.differing == ("noise/noise",)
    assert "FileNotFoundError" in found.failures["noise"].message + found.failures["noise"].traceback


def test_what_cannot_be_made_again_is_said(tmp_path: Path) -> None:
    """A run, a release that is not there, data that are gone."""
    project = make(tmp_path, "'quiet'")
    assert project.run().release == "flow@1"
    with project.opened() as workspace:
        with pytest.raises(InputError, match="'r1' is a run"):
            reproduce("r1", workspace)
        with pytest.raises(NotFoundError, match="no release 'flow@7'"):
            reproduce("flow@7", workspace)
        shutil.rmtree(workspace.home / "lake" / "flow")
    with project.opened() as workspace, pytest.raises(InputError, match="rows@1 is not in this lake"):
        reproduce("flow@1", workspace)


def test_the_command_says_whether_the_bytes_are_the_same(tmp_path: Path) -> None:
    """T6, P9, Q18: `penstock reproduce` ends with 0 or 1, and `show --lock` gives what pip can install."""
    project = Project(tmp_path)
    project.write(
        "import os\nfrom penstock import Pipeline\n\ndice = Pipeline('dice')\n\n"
        "@dice.step\ndef sure() -> int:\n    return 6\n\n"
        "@dice.step\ndef rolled() -> str:\n    return os.urandom(8).hex()\n"
    )
    assert project.command("run", "--quiet").returncode == 0
    again = project.command("reproduce", "dice@1")
    assert again.returncode == 1
    assert "other bytes: rolled/rolled" in again.stdout
    assert "sure" not in again.stdout
    lock = project.command("show", "dice@1", "--lock")
    assert "\npolars==" in lock.stdout
    assert project.command("show", "r1", "--lock").returncode == 2
