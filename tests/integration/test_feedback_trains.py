"""What people said about answers becomes rows that the next training learns from, as a dataset like any other."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))
from loop_project import Loop
from penstock.project.feedback import take_feedback
from penstock.project.workspace import read_manifest
from penstock.releases.manifest import Manifest
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.store.ledger import releases
from project_folder import Project

START = datetime(2026, 3, 1, 4, tzinfo=UTC)
TASTE = """
    from datetime import datetime

    import polars as pl

    from penstock import Pipeline

    taste = Pipeline("taste", goal="People are shown what people liked.")


    @taste.dataset(key="prediction_id", time="said_at")
    def liked(feedback: pl.LazyFrame, predictions: pl.LazyFrame, since: datetime | None) -> pl.LazyFrame:
        asked = pl.col("fields").str.json_decode(pl.Struct({"person": pl.Int64})).struct.field("person")
        shown = predictions.select("prediction_id", asked, pl.col("answer").cast(pl.Int64).alias("item"))
        said = feedback.filter(pl.col("name") == "liked").select("prediction_id", "value", said_at="received_at")
        rows = said.join(shown, on="prediction_id", how="inner")
        return rows if since is None else rows.filter(pl.col("said_at") > since)


    @taste.model
    def best(liked: pl.DataFrame) -> dict[str, int]:
        sums = liked.group_by("item").agg(pl.col("value").sum()).sort("value", "item", descending=[True, False])
        return {"item": int(sums["item"][0]) if sums.height else 1}


    @taste.serve(examples=[{"person": 1}])
    def show(best: dict[str, int], *, person: int) -> int:
        return best["item"]
"""


def answered(loop: Loop, item: int) -> str:
    """Keep one answer, as a worker does."""
    log = PredictionLog(loop.project.root / ".penstock", "taste", worker="w0-1", clock=loop.clock)
    made = log.new_id(loop.now)
    fields = msgspec.Raw(msgspec.json.encode({"person": 7}))
    answer = msgspec.Raw(msgspec.json.encode(item))
    log.append([LogEntry(id=made, at=loop.now, release="taste@1", serve="show", fields=fields, answer=answer)])
    log.close()
    return made


def say(loop: Loop, prediction_id: str, value: float) -> None:
    with loop.project.opened(loop.clock) as workspace:
        said = [{"prediction_id": prediction_id, "value": value, "name": "liked"}]
        assert take_feedback("taste", said, workspace).accepted == 1


def live_manifest(loop: Loop) -> Manifest:
    with loop.project.opened() as workspace:
        with workspace.ledger.read() as conn:
            live = releases.live(conn, "taste")
        assert live is not None
        return read_manifest(live.manifest_digest, workspace)


def taste_loop(root: Path) -> Loop:
    project = Project(root, "taste")
    project.write(TASTE)
    loop = Loop(project, START)
    assert project.run(clock=loop.clock).release == "taste@1"
    return loop


def test_a_pipeline_that_learns_from_feedback_is_released_before_there_is_any(tmp_path: Path) -> None:
    """B2: nobody has said anything yet is an empty version of the dataset, and no mistake."""
    loop = taste_loop(tmp_path)
    assert loop.project.versions("taste", "liked")[0].rows == 0
    assert live_manifest(loop).datasets["liked"].version == 1
    again = loop.project.run(clock=loop.clock)
    assert (again.release, again.nodes["best"]) == ("taste@1", "reused")


def test_yesterdays_feedback_changes_what_the_next_model_answers(tmp_path: Path) -> None:
    """B2, Q65: feedback on an answer is a reason to retrain; the release names the versions that it learned from."""
    loop = taste_loop(tmp_path)
    say(loop, answered(loop, 1), -1.0)
    say(loop, answered(loop, 5), 1.0)
    report = loop.tick(timedelta(days=1))
    assert [run.outcome for run in report.runs] == ["succeeded"]
    assert loop.told() == [("new_data:liked@2", "done")]
    manifest = live_manifest(loop)
    assert manifest.datasets["liked"].version == 2
    assert [example.answer for example in manifest.examples["show"]] == [5]
    schema = next(check for check in manifest.checks if check.name == "schema:liked")
    assert schema.evidence["read"] == {"feedback": "serve.feedback@1", "predictions": "serve.predictions@1"}
    rows = loop.project.rows(loop.project.versions("taste", "liked")[-1])
    assert rows.sort("item").select("item", "value", "person").rows() == [(1, -1.0, 7), (5, 1.0, 7)]


def test_feedback_is_taken_in_once_and_corrected_by_what_is_said_later(tmp_path: Path) -> None:
    """B2: without news nothing is made again; a correction is a newer row of the same key, older versions stay."""
    loop = taste_loop(tmp_path)
    asked = answered(loop, 5)
    say(loop, asked, 1.0)
    loop.tick(timedelta(days=1))
    quiet = loop.tick(timedelta(days=1))
    assert (quiet.runs, len(loop.project.versions("taste", "liked"))) == ((), 2)
    say(loop, asked, -1.0)
    loop.tick(timedelta(days=1))
    versions = loop.project.versions("taste", "liked")
    assert [loop.project.rows(version)["value"].to_list() for version in versions] == [[], [1.0], [-1.0]]
    assert live_manifest(loop).datasets["liked"].version == 3
