"""Releases whose models have faster equivalents: made, proven, kept, shown, moved, damaged and served."""

import sys
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import DamagedError
from penstock.releases.archive import export_release, import_release, needed
from penstock.releases.manifest import Manifest, manifest_hash
from penstock.serving.program.load import load_program
from penstock.store.blobs import Blobs
from penstock.store.ledger import releases
from project_folder import Project

LINEAR = """
import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline as Steps
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from penstock import Pipeline

tumours = Pipeline("tumours")
COLUMNS = ["a", "b", "c"]


@tumours.dataset(key="id")
def cells() -> pl.DataFrame:
    dice = np.random.default_rng(0)
    frame = pl.DataFrame({"id": range(600), **{c: dice.normal(3, 2, 600) for c in COLUMNS}})
    return frame.with_columns(bad=(pl.col("a") + pl.col("b") > 6).cast(pl.Int64))


@tumours.step(outputs=("train", "test"))
def split(cells: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return cells.filter(pl.col("id") < 400), cells.filter(pl.col("id") >= 400)


@tumours.model
def judge(train: pl.DataFrame) -> Steps:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(train.select(COLUMNS).to_numpy(), train["bad"].to_numpy())


@tumours.evaluate(metric="right", key="id")
def quality(model, test: pl.DataFrame) -> pl.DataFrame:
    found = model.predict(test.select(COLUMNS).to_numpy())
    return test.select("id", right=(pl.col("bad") == pl.Series(found)).cast(pl.Float64))


@tumours.serve(examples=[{"a": 1.0, "b": 2.0, "c": 3.0}])
def risk(judge: Steps, *, a: float, b: float, c: float) -> float:
    return float(judge.predict_proba(np.array([[a, b, c]]))[0, 1])


@tumours.serve(examples=[{"a": 1.0, "b": 2.0, "c": 3.0}])
def kind(judge: Steps, *, a: float, b: float, c: float) -> str:
    return type(judge).__name__
"""

BOOSTED = """
import lightgbm
import numpy as np
import polars as pl

from penstock import Pipeline

boosted = Pipeline("boosted")
COLUMNS = ["x0", "x1", "x2", "x3"]


@boosted.dataset(key="id")
def points() -> pl.DataFrame:
    x = np.random.default_rng(0).normal(size=(400, 4))
    return pl.DataFrame({"id": range(400), **{c: x[:, i] for i, c in enumerate(COLUMNS)}, "y": x[:, 0] * x[:, 1]})


@boosted.model
def booster(points: pl.DataFrame) -> lightgbm.Booster:
    rows = lightgbm.Dataset(points.select(COLUMNS).to_numpy(), points["y"].to_numpy())
    settings = {"objective": "regression", "verbose": -1, "num_threads": 1, "deterministic": True}
    return lightgbm.train(settings, rows, 200)


@boosted.evaluate(metric="error", key="id", higher_is_better=False)
def quality(model, points: pl.DataFrame) -> pl.DataFrame:
    error = np.abs(model.predict(points.select(COLUMNS).to_numpy()) - points["y"].to_numpy())
    return points.select("id", error=pl.Series(error))


@boosted.serve(examples=[{"x0": 0.1, "x1": 1.0, "x2": 0.0, "x3": 2.0}])
def value(booster: lightgbm.Booster, *, x0: float, x1: float, x2: float, x3: float) -> float:
    return float(booster.predict(np.array([[x0, x1, x2, x3]]))[0])
"""


@pytest.fixture(scope="module")
def tumours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Manifest]:
    """A project with one release, whose model is a scikit-learn pipeline."""
    project = Project(tmp_path_factory.mktemp("tumours"), "tumours")
    project.write(LINEAR, "tumours.py")
    report = project.run()
    assert report.release == "tumours@1", report
    return project, report.manifest


def test_a_scikit_learn_pipeline_is_released_folded(tumours: tuple[Project, Manifest]) -> None:
    """Q59: the proof is in the release, on the rows that the evaluation judged by and the requests that were asked."""
    proven = tumours[1].stand_ins["risk"]["judge"]
    assert (proven.kind, proven.refused) == ("folded", {})
    assert proven.methods == ("predict_proba", "predict", "decision_function")
    assert (proven.rows, proven.requests) == (201, 1)
    assert (proven.relative, proven.absolute, proven.difference) == (1e-6, 1e-9, 1e-12)


def test_a_function_that_answers_otherwise_keeps_the_original(tumours: tuple[Project, Manifest]) -> None:
    """Never silently different: what the user's own function makes of the model is compared too."""
    proven = tumours[1].stand_ins["kind"]["judge"]
    assert proven.kind == "original"
    assert proven.refused == {"folded": "an example request: answer[0] differs"}


def test_the_proof_and_the_gain_are_shown(tumours: tuple[Project, Manifest]) -> None:
    """O1: on which rows and how exactly from the release, how much faster from the run that made it."""
    shown = tumours[0].command("show", "tumours@1")
    text = " ".join(shown.stdout.split())
    assert "judge of risk folded (equal on 201 rows within 1e-06, at most 1e-12 apart)" in text
    assert "judge of kind itself (not folded: an example request: answer[0] differs)" in text
    assert "judge of risk by folded:" in text
    assert "times on one row" in text


def test_measured_times_are_no_part_of_the_release(tumours: tuple[Project, Manifest], tmp_path: Path) -> None:
    """The same project made again elsewhere has the same hash, however long things took."""
    again = Project(tmp_path, "tumours")
    again.write(LINEAR, "tumours.py")
    assert manifest_hash(again.run().manifest) == manifest_hash(tumours[1])


def test_a_run_that_changes_nothing_proves_nothing_anew(tumours: tuple[Project, Manifest]) -> None:
    """The release that is live stands, with its proof."""
    report = tumours[0].run()
    assert (report.release, report.is_new_release) == ("tumours@1", False)
    assert report.manifest.stand_ins == tumours[1].stand_ins


def test_a_release_takes_its_equivalents_along(tumours: tuple[Project, Manifest], tmp_path: Path) -> None:
    """Exported and imported, it has every byte that its equivalents consist of, under the same hash."""
    project, manifest = tumours
    with project.opened() as workspace:
        with workspace.ledger.read() as conn:
            live = releases.live(conn, "tumours")
        assert live is not None
        file = export_release(live.manifest_digest, workspace.blobs, tmp_path / "tumours.release")
    blobs = Blobs(tmp_path / "elsewhere" / "blobs")
    imported, digest = import_release(file, blobs)
    assert (imported.stand_ins, digest) == (manifest.stand_ins, live.hash)
    proven = imported.stand_ins["risk"]["judge"]
    assert proven.artifact is not None
    assert proven.artifact.digest in set(needed(imported, blobs))
    assert proven.artifact.digest in blobs


def test_a_damaged_equivalent_refuses_the_release(tumours: tuple[Project, Manifest], tmp_path: Path) -> None:
    """Q26: a byte that differs is found before the first answer."""
    project, manifest = tumours
    proven = manifest.stand_ins["risk"]["judge"]
    assert proven.artifact is not None
    with project.opened() as workspace:
        path = workspace.blobs.path(proven.artifact.digest)
        kept = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(kept[:-1] + b"!")
        try:
            with pytest.raises(DamagedError, match=proven.artifact.digest[:12]):
                load_program(manifest, Blobs(workspace.blobs.root), tmp_path / "code")
        finally:
            path.write_bytes(kept)


def test_the_released_equivalent_serves(tumours: tuple[Project, Manifest]) -> None:
    """L1: over HTTP the answers are the pipeline's, to the tolerance that the release states."""
    project, manifest = tumours
    model = project.output(project.run(), "judge")
    with project.served() as server, httpx.Client(base_url=server.url) as client:
        for a in (0.0, 1.5, -3.25, 1e6):
            reply = client.post("/tumours/risk", json={"a": a, "b": 2.0, "c": 3.0}).raise_for_status().json()
            assert reply["answer"] == pytest.approx(
                float(model.predict_proba([[a, 2.0, 3.0]])[0, 1]), rel=1e-6, abs=1e-9
            )
    assert manifest.stand_ins["risk"]["judge"].kind == "folded"


DYING = """
import os

import numpy as np
import polars as pl
from sklearn.linear_model import LinearRegression

from penstock import Pipeline

dying = Pipeline("dying")


@dying.dataset(key="id")
def points() -> pl.DataFrame:
    return pl.DataFrame({"id": range(50), "x": np.linspace(0, 1, 50), "y": np.linspace(1, 3, 50)})


@dying.model
def line(points: pl.DataFrame) -> LinearRegression:
    return LinearRegression().fit(points.select("x").to_numpy(), points["y"].to_numpy())


@dying.evaluate(metric="error", key="id", higher_is_better=False)
def quality(model, points: pl.DataFrame) -> pl.DataFrame:
    if "penstock.serving.processes.prove" in " ".join(open("/proc/self/cmdline").read().split("\\0")):
        os.kill(os.getpid(), 9)
    found = model.predict(points.select("x").to_numpy())
    return points.select("id", error=pl.Series(np.abs(found - points["y"].to_numpy())))


@dying.serve(examples=[{"x": 0.5}])
def value(line: LinearRegression, *, x: float) -> float:
    return float(line.predict([[x]])[0])
"""


def test_a_search_that_dies_costs_the_equivalent_not_the_release(tmp_path: Path) -> None:
    """A library that kills the process over a model: the model serves, and the run says what happened."""
    project = Project(tmp_path, "dying")
    project.write(DYING, "dying.py")
    report = project.run()
    assert (report.release, report.manifest.stand_ins) == ("dying@1", {})
    shown = " ".join(project.command("show", "r1").stdout.split())
    assert "the process that looked for equivalents ended with -9" in shown


def test_a_booster_of_200_trees_is_released_with_its_single_row_call(tmp_path: Path) -> None:
    """Q59: proven on the rows of the dataset that it was judged by, and equal to the last bit."""
    project = Project(tmp_path, "boosted")
    project.write(BOOSTED, "boosted.py")
    report = project.run()
    assert report.release == "boosted@1", report
    proven = report.manifest.stand_ins["value"]["booster"]
    assert (proven.kind, proven.artifact, proven.rows, proven.requests) == ("lightgbm-rows", None, 401, 1)
    model = project.output(report, "booster")
    with project.served() as server, httpx.Client(base_url=server.url) as client:
        row = {"x0": 0.3, "x1": -1.0, "x2": 0.25, "x3": 2.0}
        reply = client.post("/boosted/value", json=row).raise_for_status().json()
    assert reply["answer"] == float(model.predict([list(row.values())])[0])
