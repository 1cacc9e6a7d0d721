"""S1, Q57, L2, L3: row by row, all at once, as a batch, as a stream, in process: one release, one answer."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.store.ledger import events
from project_folder import COMMAND, Project

SCORER = """
import lightgbm
import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline as Sequence, make_pipeline
from sklearn.preprocessing import StandardScaler

from penstock import Pipeline, Row

scorer = Pipeline("scorer")
FEATURES = ["length", "width"]

@scorer.dataset(key="id")
def flowers() -> pl.DataFrame:
    dice = np.random.default_rng(3)
    length, width = dice.normal(size=400), dice.normal(size=400)
    return pl.DataFrame({"id": range(400), "length": length, "width": width, "kind": (length > width).astype(int)})

@scorer.model
def linear(flowers: pl.DataFrame) -> Sequence:
    made = make_pipeline(StandardScaler(), LogisticRegression())
    return made.fit(flowers.select(FEATURES).to_numpy(), flowers["kind"].to_numpy())

@scorer.model
def trees(flowers: pl.DataFrame) -> lightgbm.Booster:
    rows = lightgbm.Dataset(flowers.select(FEATURES).to_numpy(), flowers["kind"].to_numpy())
    return lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1, "deterministic": True}, rows, 30)

class Ranked(Row):
    id: int
    score: float

@scorer.serve(columns=FEATURES)
def probability(linear: Sequence, *, rows: np.ndarray) -> np.ndarray:
    return linear.predict_proba(rows)[:, 1]

@scorer.serve(columns=FEATURES)
def boosted(trees: lightgbm.Booster, *, rows: pl.DataFrame) -> pl.DataFrame:
    found = trees.predict(rows.to_numpy())
    return pl.DataFrame({"score": found, "is_likely": found > 0.5})

@scorer.serve(examples=[{"id": 1}])
def nearest(flowers: pl.DataFrame, *, id: int, k: int = 2) -> list[Ranked]:
    at = flowers.filter(pl.col("id") == id)["length"][0]
    by = flowers.with_columns(score=(pl.col("length") - at).abs()).sort("score", "id").head(k)
    return [Ranked(id=row["id"], score=row["score"]) for row in by.to_dicts()]

@scorer.fallback(deadline_ms=5000)
def nobody(*, id: int, k: int = 2) -> list[Ranked]:
    return []
"""
IN_PROCESS = """
import json, sys
import polars as pl
from penstock import load_release
release = load_release("scorer@1")
rows = pl.read_parquet("rows.parquet")
features = rows.select("length", "width")
print(json.dumps({
    "name": release.name,
    "functions": release.functions,
    "probability": release.predict_rows("probability", features)["answer"].to_list(),
    "boosted": release.predict_rows("boosted", features).to_dicts(),
    "nearest": [release.predict("nearest", id=n, k=3).answer for n in rows["id"]],
    "unknown": [release.predict("nearest", id=-1).answer, release.predict("nearest", id=-1).fallback],
}))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("same") / "scorer", "scorer")
    project.write(SCORER)
    report = project.run()
    assert report.release == "scorer@1", report
    dice = np.random.default_rng(5)
    rows = pl.DataFrame({"id": range(60), "length": dice.normal(size=60), "width": dice.normal(size=60)})
    rows.write_parquet(project.root / "rows.parquet")
    rows.write_csv(project.root / "rows.csv")
    rows.write_ndjson(project.root / "rows.jsonl")
    return project


@pytest.fixture(scope="module")
def served(project: Project) -> dict[str, Any]:
    """Answers over HTTP, row by row."""
    rows = pl.read_parquet(project.root / "rows.parquet")
    with project.served() as server, httpx.Client(base_url=server.url) as client:

        def ask(function: str, body: Any) -> Any:
            return client.post(f"/scorer/{function}", json=body).raise_for_status().json()["answer"]

        lists = rows.select("length", "width").rows()
        objects = rows.select("length", "width").to_dicts()
        table = rows.select("length", "width").to_arrow()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        kind = {"content-type": "application/vnd.apache.arrow.stream"}
        arrow = client.post("/scorer/boosted", content=bytes(sink.getvalue()), headers=kind).raise_for_status()
        mlflow = client.post("/invocations/probability", json={"inputs": [list(row) for row in lists]})
        return {
            "probability": [ask("probability", [row])[0] for row in lists],
            "boosted": [ask("boosted", [row])[0] for row in objects],
            "nearest": [ask("nearest", {"id": n, "k": 3}) for n in rows["id"]],
            "probability at once": ask("probability", lists),
            "boosted at once": ask("boosted", objects),
            "boosted by arrow": arrow.json()["answer"],
            "probability by mlflow": mlflow.raise_for_status().json()["predictions"],
        }


def assert_close(found: Any, expected: list[float]) -> None:
    """One row and many go through other kernels of BLAS, which round the last digit otherwise."""
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_protocols_and_batches_give_the_same_answers(served: dict[str, Any]) -> None:
    """S1, Q57: one request per row, one for all rows, MLflow, Arrow."""
    assert_close(served["probability at once"], served["probability"])
    assert_close(served["probability by mlflow"], served["probability"])
    assert served["boosted at once"] == served["boosted"]
    assert served["boosted by arrow"] == served["boosted"]


@pytest.mark.parametrize(("function", "kind"), [("probability", "csv"), ("boosted", "parquet"), ("nearest", "jsonl")])
def test_an_offline_batch_gives_the_same_answers(
    project: Project, served: dict[str, Any], function: str, kind: str
) -> None:
    """L2: `penstock batch` over each form of file."""
    words = ("--function", function, *(("--field", "k=3") if function == "nearest" else ()))
    done = project.command("batch", "scorer", "--in", f"rows.{kind}", "--out", function, "--json", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"] == {"rows": 60, "fallback": 0, "refused": 0, "failed": 0}
    found = pl.read_parquet(project.root / function / "*.parquet")
    assert [int(n) for n in found["id"]] == list(range(60))
    match function:
        case "probability":
            assert_close(found["answer"].to_list(), served["probability"])
        case "boosted":
            assert found.select("score", "is_likely").to_dicts() == served["boosted"]
        case _:
            assert [json.loads(text) for text in found["answer"]] == served["nearest"]


def test_a_stream_gives_the_same_answers(project: Project, served: dict[str, Any]) -> None:
    """L2: `penstock stream` over lines of standard input, to standard output."""
    words = ("stream", "scorer", "--in", "-", "--out", "-", "--function", "nearest", "--field", "k=3")
    lines = (project.root / "rows.jsonl").read_text()
    done = subprocess.run(
        [*COMMAND, *words], cwd=project.root, input=lines, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["answer"] for row in found] == served["nearest"]
    assert "scorer@1 nearest: 60 rows answered" in done.stderr


def test_a_release_in_process_gives_the_same_answers(project: Project, served: dict[str, Any]) -> None:
    """L3: `load_release` in a script, without a server."""
    script = project.write(IN_PROCESS, "script.py")
    done = subprocess.run([sys.executable, script], cwd=project.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["name"], found["functions"]) == ("scorer@1", ["probability", "boosted", "nearest"])
    assert_close(found["probability"], served["probability"])
    assert found["boosted"] == served["boosted"]
    assert found["nearest"] == served["nearest"]
    assert found["unknown"] == [[], True]


def test_a_batch_is_recorded_once(project: Project) -> None:
    """An event of the audit chain says who asked which release about how many rows."""
    for _ in range(2):
        done = project.command("batch", "scorer", "--in", "flowers", "--out", "kept", "--function", "boosted")
        assert "scorer@1 boosted: 400 of 400 rows answered" in done.stdout, done.stderr
    with project.opened() as workspace, workspace.ledger.read() as conn:
        found = [event for event in events.page(conn, target="scorer@1") if event.details.get("function") == "boosted"]
    kept = [event for event in found if event.details["out"].endswith("/kept")]
    assert [event.action for event in kept] == ["batch.finished"]
    assert kept[0].details["rows"] == 400
