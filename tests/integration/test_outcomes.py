"""The truth, joined late by outcome functions: a real pipeline, real predictions, time played by the test."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import NotFoundError, StepError
from penstock.project.feedback import take_feedback
from penstock.project.outcomes import JoinedOutcomes, join_outcomes
from penstock.serving.predictions.compaction import compact
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.serving.predictions.reading import feedback_frame
from project_folder import Project

START = datetime(2024, 5, 1, tzinfo=UTC)
FLOW = """
    from datetime import datetime, timedelta

    import polars as pl

    from penstock import Pipeline, Row

    flow = Pipeline("flow")


    class Item(Row):
        item: int
        score: float


    @flow.dataset(key="sale", time="sold_at")
    def sales(since: datetime | None) -> pl.DataFrame:
        rows = pl.read_csv("sales.csv", try_parse_dates=True).with_columns(
            pl.col("sold_at").dt.replace_time_zone("UTC")
        )
        return rows if since is None else rows.filter(pl.col("sold_at") > since)


    @flow.model
    def best(sales: pl.DataFrame) -> list[int]:
        return sorted(set(sales["item"].to_list()))


    @flow.serve
    def offer(best: list[int], *, person: int, k: int = 2) -> list[Item]:
        return [Item(item=item, score=1.0) for item in best[:k]]


    @flow.outcome(within="7d", value=1.0)
    def bought(predictions: pl.DataFrame, sales: pl.DataFrame) -> pl.DataFrame:
        shown = predictions.select(
            "prediction_id", "at", "person", pl.col("answer").list.eval(pl.element().struct.field("item")).alias("item")
        ).explode("item")
        late = pl.col("sold_at") - pl.col("at")
        sold = shown.join(sales, on=("person", "item"), how="left").with_columns(
            is_hit=late.is_between(timedelta(0), timedelta(days=7)).fill_null(value=False)
        )
        return sold.group_by("prediction_id").agg(
            pl.col("is_hit").sum().cast(pl.Float64).alias("outcome"), pl.col("item").len().alias("shown")
        )
"""


class Shop:
    """The project, its clock, and predictions as a worker would have written them."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        self.home = root / ".penstock"
        self.project.write(FLOW)
        self.sales: list[tuple[int, int, int, datetime]] = [(0, 99, 1, START), (1, 99, 2, START)]
        self.take_in()

    def sell(self, person: int, item: int, at: datetime) -> None:
        self.sales.append((len(self.sales), person, item, at))

    def take_in(self) -> None:
        frame = pl.DataFrame(self.sales, schema=["sale", "person", "item", "sold_at"], orient="row")
        frame.with_columns(pl.col("sold_at").dt.strftime("%Y-%m-%dT%H:%M:%S")).write_csv(
            self.project.root / "sales.csv"
        )
        report = self.project.run()
        assert report.release is not None

    def answer(self, person: int, at: datetime, items: tuple[int, ...] = (1, 2), **parts: Any) -> str:
        log = PredictionLog(self.home, "flow", worker="w0-1", clock=Clock())
        made = log.new_id(at)
        answer = [{"item": item, "score": 1.0} for item in items]
        given = {"answer": msgspec.Raw(msgspec.json.encode(answer)), **parts}
        fields = msgspec.Raw(msgspec.json.encode({"person": person, "k": 2}))
        log.append([LogEntry(id=made, at=at, release="flow@1", serve="offer", fields=fields, **given)])
        log.close()
        return made

    def join(self, now: datetime, **options: Any) -> JoinedOutcomes:
        with self.project.opened() as workspace:
            return join_outcomes("flow", workspace, now=now, **options)

    def truth(self) -> dict[str, float | None]:
        rows = feedback_frame(self.home, "flow").filter(pl.col("name") == "bought").collect()
        return dict(rows.select("prediction_id", "value").iter_rows())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("outcomes"))


def test_the_truth_is_joined_and_corrected_until_it_is_whole(tmp_path: Path) -> None:
    """Early truth is corrected by what comes later; once its window is over a prediction is not asked about again."""
    shop = Shop(tmp_path)
    first = shop.answer(7, START)
    second = shop.answer(8, START + timedelta(days=5))
    shop.sell(7, 1, START + timedelta(days=1))
    shop.take_in()
    done = shop.join(START + timedelta(days=1)).outcomes[0]
    assert (done.asked, done.written, done.whole) == (1, 1, 0)
    assert shop.truth() == {first: 1.0}
    shop.sell(7, 2, START + timedelta(days=6))
    shop.sell(9, 2, START + timedelta(days=8))
    shop.take_in()
    compact(shop.home, "flow")
    done = shop.join(START + timedelta(days=20)).outcomes[0]
    assert (done.asked, done.written, done.whole) == (2, 2, 1)
    assert done.as_of == START + timedelta(days=8)  # what the data know, whatever the calendar says
    assert shop.truth() == {first: 2.0, second: 0.0}
    done = shop.join(START + timedelta(days=21)).outcomes[0]
    assert (done.asked, done.written) == (1, 0)


def test_what_was_not_answered_is_not_asked_about(made: Shop) -> None:
    """A prediction without an answer has no truth; it does not count as wrong."""
    failed = made.answer(1, START, answer=msgspec.Raw(b"null"), error="ValueError")
    made.join(START + timedelta(days=1))
    assert failed not in made.truth()


def test_outcome_and_feedback_lie_in_one_table(made: Shop) -> None:
    """Both are found by prediction id, and the words beside an outcome are kept as detail."""
    asked = made.answer(2, START)
    made.join(START + timedelta(hours=1))
    with made.project.opened() as workspace:
        said = [{"prediction_id": asked, "value": True}, {"prediction_id": "nonsense", "value": 1}]
        taken = take_feedback("flow", said, workspace)
    assert (taken.accepted, [found.line for found in taken.refused]) == (1, [2])
    compact(made.home, "flow")
    rows = feedback_frame(made.home, "flow").filter(pl.col("prediction_id") == asked).sort("source").collect()
    assert rows["source"].to_list() == ["caller", "outcome"]
    assert rows["name"].to_list() == ["feedback", "bought"]
    assert msgspec.json.decode(rows["detail"][1]) == {"whole": False, "shown": 2}


def test_joining_twice_at_once_writes_nothing_twice(made: Shop) -> None:
    """The same truth found again is the same row."""
    asked = made.answer(3, START)
    made.join(START + timedelta(hours=2))
    made.join(START + timedelta(hours=2))
    rows = feedback_frame(made.home, "flow", is_history=True).filter(pl.col("prediction_id") == asked).collect()
    assert rows.height == 1


def test_a_function_that_fails_shows_its_own_frames(tmp_path: Path) -> None:
    """The user's traceback comes with the error, and what is wrong with a result is said."""
    shop = Shop(tmp_path)
    shop.answer(1, START)
    shop.project.change("return sold.group_by", "raise KeyError('lost')\n    return sold.group_by")
    shop.take_in()
    with pytest.raises(StepError, match=r"(?s)in bought.*KeyError: 'lost'"):
        shop.join(START + timedelta(days=1))
    shop.project.change("raise KeyError('lost')", "return predictions.select('prediction_id')")
    shop.take_in()
    with pytest.raises(StepError, match="returned no column 'outcome'"):
        shop.join(START + timedelta(days=1))
    with pytest.raises(NotFoundError, match="no outcome function 'sold'"):
        shop.join(START, names=["sold"])


def test_the_command_says_what_was_joined(made: Shop) -> None:
    """`penstock outcomes` and `penstock feedback` do the same by hand."""
    asked = made.answer(4, START)
    done = made.project.command("outcomes", "--now", "2024-05-01T03:00:00", "--json")
    assert done.returncode == 0, done.stderr
    assert msgspec.json.decode(done.stdout)["outcomes"][0]["name"] == "bought"
    (made.project.root / "said.csv").write_text(f"prediction_id,value,name\n{asked},0.5,rating\n{asked},,rating\n")
    done = made.project.command("feedback", "--file", "said.csv", "--json")
    assert (done.returncode, msgspec.json.decode(done.stdout)["accepted"]) == (0, 1), done.stderr
    done = made.project.command("feedback", asked, "true")
    assert (done.returncode, done.stdout) == (0, "1 piece of feedback on flow taken in.\n")
    rows = feedback_frame(made.home, "flow").filter(pl.col("prediction_id") == asked).collect()
    assert sorted(rows["name"]) == ["bought", "feedback", "rating"]
    assert made.project.command("feedback", asked).returncode == 2
