"""One prediction explained: found by its id, with all it was given, and answered again by the same release."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from kept_shop import make_shop
from penstock.core.clock import Clock
from penstock.core.errors import NotFoundError
from penstock.project.feedback import take_feedback
from penstock.project.garbage import sweep
from penstock.project.mending import examine
from penstock.project.serving import predict
from penstock.project.tracing import Traced, trace
from penstock.serving.predictions.compaction import compact
from penstock.serving.predictions.log import LogEntry, PredictionLog
from project_folder import Project

NOW = datetime(2024, 5, 1, tzinfo=UTC)
ROWS = """
    import polars as pl

    from penstock import Pipeline

    flow = Pipeline("flow")


    @flow.dataset(key="x")
    def points() -> pl.DataFrame:
        return pl.DataFrame({"x": [1.0, 2.0], "y": [2.0, 4.0]})


    @flow.model
    def slope(points: pl.DataFrame) -> float:
        return float((points["y"] / points["x"]).mean())


    @flow.serve(examples=[{"n": 1}])
    def times(slope: float, *, n: int) -> float:
        return n * slope


    @flow.fallback(deadline_ms=1000)
    def nothing(*, n: int) -> float:
        return 0.0


    @flow.serve(examples=[{"rows": [{"x": 1.0}]}])
    def line(slope: float, *, rows: pl.DataFrame) -> list[float]:
        return (rows["x"] * slope).to_list()
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_shop(tmp_path_factory.mktemp("trace") / "shop")


def asked(project: Project, request: bytes = b'{"item":"tea"}') -> str:
    with project.opened() as workspace:
        return predict(None, request, workspace).prediction_id


def stored(project: Project, pipeline: str, **parts: Any) -> str:
    """Write a prediction as a worker does that answered otherwise than the release."""
    log = PredictionLog(
        project.root / ".penstock", pipeline, worker="w0-1", clock=Clock(), redact=parts.pop("redact", ())
    )
    made = log.new_id(NOW)
    attached = parts.pop("attached", None)
    release = parts.pop("release", f"{pipeline}@1")
    log.append([LogEntry(id=made, at=NOW, release=release, **parts)], [attached])
    log.close()
    return made


def traced(project: Project, prediction_id: str) -> Traced:
    with project.opened() as workspace:
        return trace(prediction_id, workspace)


def test_a_prediction_is_explained_from_request_to_answer(shop: Project) -> None:
    """What was asked, the code, the artifact with the run that made it, and the same answer again (tI5, B1)."""
    made = asked(shop)
    for _ in range(2):
        found = traced(shop, made)
        assert found.prediction.fields == {"item": "tea"}
        assert found.function.startswith("shop.py:")
        assert found.function.endswith(" price")
        (given,) = found.arguments
        assert (given.argument, given.made_by) == ("book", "r1/book")
        assert (found.recomputed.verdict, found.recomputed.answer, found.run) == ("equal", 3.0, "r1")
        compact(shop.root / ".penstock", "shop")  # from the lake it is the same


def test_an_answer_that_differs_is_shown_side_by_side(shop: Project) -> None:
    """A wrong stored answer is told apart from one that differs in its last digits."""
    fields = msgspec.Raw(b'{"item":"tea"}')
    wrong = traced(shop, stored(shop, "shop", serve="price", fields=fields, answer=msgspec.Raw(b"3.5"), timings={}))
    assert wrong.recomputed.verdict == "different"
    assert [(d.served, d.recomputed) for d in wrong.recomputed.differences] == [(3.5, 3.0)]
    answer = msgspec.Raw(b"3.0000000000000004")
    close = traced(shop, stored(shop, "shop", serve="price", fields=fields, answer=answer, timings={}))
    assert close.recomputed.verdict == "close"


def test_a_failure_that_repeats_is_the_same(shop: Project) -> None:
    """A request that failed is asked again too, and the frames of the user's code are shown."""
    made = stored(shop, "shop", serve="price", fields=msgspec.Raw(b'{"item":"broken"}'), error="ValueError", timings={})
    found = traced(shop, made)
    assert found.recomputed.verdict == "equal"
    assert "in price" in found.recomputed.why


def test_what_cannot_be_recomputed_says_why(shop: Project) -> None:
    """Redacted fields and a release that is gone are said; the prediction itself is shown all the same."""
    parts: dict[str, Any] = {"serve": "price", "fields": msgspec.Raw(b'{"item":"tea"}'), "timings": {}}
    redacted = traced(shop, stored(shop, "shop", redact=("item",), **parts))
    assert (redacted.recomputed.verdict, redacted.prediction.fields) == ("not recomputed", {})
    assert "redacted item" in redacted.recomputed.why
    gone = traced(shop, stored(shop, "shop", release="shop@99", **parts))
    assert "shop@99 is not here any more" in gone.recomputed.why
    with pytest.raises(NotFoundError, match="No prediction"):
        traced(shop, "p" + "0" * 31)


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("traced-flow"))
    made.write(ROWS)
    assert made.run().release == "flow@1"
    return made


def test_an_answer_of_the_fallback_is_compared_with_the_fallback(flow: Project) -> None:
    """What the fallback said is asked of it again, and what the function itself says now stands beside it."""
    fields = msgspec.Raw(b'{"n":3}')
    parts: dict[str, Any] = {"serve": "times", "fields": fields, "timings": {}, "fallback": True, "error": "deadline"}
    found = traced(flow, stored(flow, "flow", answer=msgspec.Raw(b"0.0"), **parts)).recomputed
    assert (found.verdict, found.answer, found.instead) == ("equal", 0.0, 6.0)


def test_a_row_of_a_batch_is_explained_by_itself(flow: Project) -> None:
    """Answer i of a request with rows is found as ID-i, with its row, and asked again alone."""
    body = b'{"rows":[{"x":1},{"x":2.5}]}'
    made = stored(
        flow, "flow", serve="line", fields=msgspec.Raw(b"{}"), answer=msgspec.Raw(b"[2.0,5.0]"), count=2,
        kind="json", attached=body, timings={},
    )  # fmt: skip
    found = traced(flow, f"{made}-1")
    assert found.prediction.fields == {"x": 2.5}
    assert (found.recomputed.verdict, found.recomputed.answer) == ("equal", 5.0)


def test_the_commands_show_it_to_people_and_programs(shop: Project) -> None:
    """`penstock predictions` finds it, `penstock trace` explains it; a difference is an exit code."""
    made = asked(shop)
    with shop.opened() as workspace:
        take_feedback("shop", [{"prediction_id": made, "value": 1}], workspace)
    listed = msgspec.json.decode(shop.command("predictions", "--json", "--since", "2025-01-01").stdout)
    assert made in {one["id"] for one in listed}
    told = shop.command("trace", made)
    assert told.returncode == 0, told.stderr
    for words in ("asked", "tea", "shop.py:", "made by r1/book", "served", "the same", "what became of it", "caller"):
        assert words in told.stdout
    fields = msgspec.Raw(b'{"item":"tea"}')
    wrong = stored(shop, "shop", serve="price", fields=fields, answer=msgspec.Raw(b"9"), timings={}, key="k7")
    told = shop.command("trace", wrong, "--json")
    assert (told.returncode, msgspec.json.decode(told.stdout)["recomputed"]["verdict"]) == (3, "different")
    assert wrong in shop.command("predictions", "shop", "--key", "k7").stdout
    assert shop.command("predictions", "nothing").returncode == 2


def test_garbage_collection_and_doctor_leave_predictions_alone(shop: Project) -> None:
    """Nothing that was answered or said is garbage, and its tables are sound like any other."""
    made = asked(shop)
    with shop.opened() as workspace:
        take_feedback("shop", [{"prediction_id": made, "value": 1}], workspace)
        waiting = asked(shop)
        compact(workspace.home, "shop")
        sweep(workspace, grace_s=0, dry_run=False)
        found = examine(workspace, deep=True)
    assert found.faults == ()
    assert traced(shop, made).truth[0].value == 1.0
    assert traced(shop, waiting).recomputed.verdict == "equal"
