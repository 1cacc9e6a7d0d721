"""Models of the libraries people use, in the smallest pipelines there are: kept, released and served."""

import difflib
import sys
from pathlib import Path

import httpx
import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))
from project_folder import Project

LIGHTGBM = """
import lightgbm
import numpy as np
import polars as pl

from penstock import Pipeline

boosted = Pipeline("boosted")

@boosted.dataset(key="id")
def points() -> pl.DataFrame:
    x = np.linspace(0, 1, 300)
    return pl.DataFrame({"id": range(300), "x": x, "y": (x > 0.5).astype(float)})

@boosted.model
def booster(points: pl.DataFrame, *, rounds: int = 20) -> lightgbm.Booster:
    rows = lightgbm.Dataset(points.select("x").to_numpy(), points["y"].to_numpy())
    settings = {"objective": "regression", "verbose": -1, "num_threads": 1, "deterministic": True}
    return lightgbm.train(settings, rows, rounds)

@boosted.serve(examples=[{"x": 0.1}, {"x": 0.9}])
def inside(booster: lightgbm.Booster, *, x: float) -> bool:
    return bool(booster.predict(np.array([[x]]))[0] > 0.5)
"""


def test_a_lightgbm_model_is_released_and_served(tmp_path: Path) -> None:
    """T1, Q26, L1: the booster is used as it is, kept in LightGBM's own text, and answers."""
    project = Project(tmp_path, "boosted")
    project.write(LIGHTGBM)
    report = project.run()
    assert report.release == "boosted@1", report
    assert report.manifest.artifacts["booster/booster"].codec == "lightgbm"
    with project.served() as server, httpx.Client(base_url=server.url) as client:
        asked = [client.post("/boosted/inside", json={"x": x}).raise_for_status().json() for x in (0.9, 0.1)]
    assert [reply["answer"] for reply in asked] == [True, False]


SCRIPT = """\
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def load(path="flowers.csv"):
    return pl.read_csv(path)


def fit(rows):
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return model.fit(rows.select("length", "width").to_numpy(), rows["kind"].to_numpy())


def predict(model, length, width):
    return int(model.predict([[length, width]])[0])


if __name__ == "__main__":
    print(predict(fit(load()), 4.5, 1.4))
"""

ADDED = """\
from penstock import Pipeline

flowers = Pipeline("flowers")


@flowers.dataset
def rows():
    return load()


flowers.model(fit)


@flowers.serve
def kind(fit, *, length: float, width: float) -> int:
    return predict(fit, length, width)


"""

FLOWERS = "length,width,kind\n1.4,0.2,0\n1.3,0.2,0\n1.5,0.3,0\n4.7,1.4,1\n4.5,1.5,1\n4.9,1.5,1\n"


def test_a_plain_script_becomes_a_pipeline_by_ten_lines(tmp_path: Path) -> None:
    """Q1, T1, P2, Q26: no line of the script is touched, at most ten are added; its scikit-learn model is served."""
    project = Project(tmp_path, "flowers")
    project.write(FLOWERS, "flowers.csv")
    text = SCRIPT.replace('if __name__ == "__main__":', f'{ADDED}if __name__ == "__main__":')
    changes = list(difflib.ndiff(SCRIPT.splitlines(), text.splitlines()))
    assert not [line for line in changes if line.startswith("-")]
    assert len([line for line in changes if line.startswith("+ ") and line[2:].strip()]) <= 10
    project.write(text, "flowers.py")
    report = project.run()
    assert report.release == "flowers@1", report
    assert report.manifest.artifacts["fit/fit"].codec == "skops"
    with project.served() as server, httpx.Client(base_url=server.url) as client:
        reply = client.post("/flowers/kind", json={"length": 4.5, "width": 1.4}).raise_for_status().json()
    assert reply["answer"] == 1
    assert pl.read_csv(tmp_path / "flowers.csv").equals(project.rows(report.outcome.datasets["rows"]))
