"""Every way a pipeline may be written, run for real: forms of frames, fan-outs, models, words, answers."""

import sys
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import DeclarationError
from penstock.engine.events import Event, UnitEnded
from penstock.project.running import RunReport
from penstock.serving.predictions.reading import find_prediction
from penstock.store.ledger import runs
from project_folder import Project, reruns

SHOPS = '''
from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from penstock import Pipeline

shops = Pipeline("shops", goal="Data that other pipelines include.")


@shops.dataset(key="sale", time="at")
def sales(*, days: int = 30) -> Iterator[pl.DataFrame]:
    """Sold units by shop, day by day: an iterator of frames."""
    for day in range(days):
        yield pl.DataFrame(
            {
                "sale": [3 * day, 3 * day + 1, 3 * day + 2],
                "shop": ["north", "south", "west"],
                "at": [datetime(2026, 1, 1) + timedelta(days=day, hours=n) for n in range(3)],
                "price": [1.0 + day % 3, 2.0 + day % 3, 3.0 + day % 3],
                "units": [10.0 + day % 3, 20.0 + day % 3, 30.0 + day % 3],
            }
        )
'''

FLOW = '''
from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from penstock import Pipeline, Row
from shops import shops

flow = Pipeline("flow", goal="Write every shape once.")
flow.include(shops)


@flow.step(outputs=("train", "test"))
def split(sales: pl.LazyFrame, now: datetime, *, held_out: int = 10) -> tuple[pl.DataFrame, pl.DataFrame]:
    cut = now - timedelta(days=held_out)
    return sales.filter(pl.col("at") <= cut).collect(), sales.filter(pl.col("at") > cut).collect()


@flow.step
def as_lazy(sales: pl.LazyFrame) -> list:
    return [type(sales).__name__, sales.select(pl.col("units").sum()).collect().item()]


@flow.step
def as_polars(sales: pl.DataFrame) -> list:
    return [type(sales).__name__, sales["units"].sum()]


@flow.step
def as_pandas(sales: pd.DataFrame) -> list:
    return [type(sales).__module__.split(".")[0], float(sales["units"].sum())]


@flow.step
def as_arrow(sales: pa.Table) -> list:
    return [type(sales).__name__, sum(sales.column("units").to_pylist())]


@flow.step
def as_batches(sales: Iterator[pa.RecordBatch]) -> list:
    batches = list(sales)
    return [type(batches[0]).__name__, sum(sum(batch.column("units").to_pylist()) for batch in batches)]


@flow.step
def as_given(sales) -> list:
    return [type(sales).__name__, sales["units"].sum()]


@flow.step
def pandas_out(train: pd.DataFrame) -> pd.DataFrame:
    return train[train["shop"] == "north"]


@flow.step
def arrow_out(pandas_out: pa.Table) -> pa.Table:
    return pandas_out.slice(0, 3)


@flow.step(each="shop")
def per_shop(train: pl.DataFrame, shop: str) -> pl.DataFrame:
    return pl.DataFrame({"shop": [shop], "mean": [train["units"].mean()], "rows": [train.height]})


@flow.step(each="shop")
def doubled(per_shop: pl.DataFrame) -> pl.DataFrame:
    return per_shop.with_columns(pl.col("mean") * 2)


@flow.step
def from_parts(per_shop: dict[str, pl.DataFrame]) -> dict[str, float]:
    return {shop: rows["mean"].item() for shop, rows in per_shop.items()}


@flow.step
def from_frame(doubled: pl.DataFrame) -> pl.DataFrame:
    return doubled.sort("mean")


class Line(Row):
    """Units are base + slope * price."""

    base: float
    slope: float


def fit(rows: pl.DataFrame, *, degree: int) -> Line:
    slope, base = np.polyfit(rows["price"], rows["units"], degree) if degree else (0.0, rows["units"].mean())
    return Line(base=round(float(base), 9), slope=round(float(slope), 9))


@flow.baseline
def mean_units(train: pl.DataFrame) -> Line:
    return fit(train, degree=0)


@flow.baseline
def nothing_sold(train: pl.DataFrame) -> Line:
    return Line(base=0.0, slope=0.0)


@flow.model
def line(train: pl.DataFrame, *, degree: int = 1) -> Line:
    return fit(train, degree=degree)


@flow.model
def second_line(train: pl.DataFrame) -> Line:
    return fit(train.head(30), degree=1)


@flow.evaluate(metric="error", slices="shop", key="sale", higher_is_better=False)
def quality(model: Line, test: pl.DataFrame) -> pl.DataFrame:
    guess = model.base + model.slope * pl.col("price")
    return test.select("sale", "shop", error=(pl.col("units") - guess).abs())


@flow.check
def beats_the_mean(quality) -> None:
    assert quality.lift("line", over="mean_units").high < 0


@flow.step
def moved(champion, line: Line) -> float:
    return -1.0 if champion is None else abs(champion["line"].base - line.base)


@flow.serve(examples=[{"price": 2.0}, {"price": 3.0, "plus": 1.0}])
def units(line: Line, *, price: float, plus: float = 0.0) -> float:
    if price < 0:
        raise ValueError("a price below nothing")
    return line.base + line.slope * price + plus


@flow.fallback(deadline_ms=2000)
def usual_units(mean_units: Line, *, price: float, plus: float = 0.0) -> float:
    return mean_units.base


@flow.outcome(within="1d", value=0.5)
def sold(predictions: pl.DataFrame, sales: pl.DataFrame) -> pl.DataFrame:
    return predictions.select("prediction_id", outcome=pl.lit(1.0))
'''


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("flow"), "flow")
    project.write(SHOPS, "shops.py")
    project.write(FLOW)
    return project


@pytest.fixture(scope="module")
def first(flow: Project) -> RunReport:
    report = flow.run()
    assert report.release == "flow@1", report
    return report


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        ("as_lazy", "LazyFrame"),
        ("as_polars", "DataFrame"),
        ("as_pandas", "pandas"),
        ("as_arrow", "Table"),
        ("as_batches", "RecordBatch"),
        ("as_given", "DataFrame"),
    ],
)
def test_a_frame_comes_in_the_form_the_annotation_asks_for(
    flow: Project, first: RunReport, node: str, kind: str
) -> None:
    """P1, T1: one dataset reaches functions as lazy, Polars, pandas, Arrow or batches, with the same values."""
    assert flow.output(first, node) == [kind, pytest.approx(1890.0)]


def test_frames_of_any_library_are_kept_and_converted(flow: Project, first: RunReport) -> None:
    """P8: what one step returns as pandas the next takes as Arrow, and it stays the same rows."""
    assert flow.output(first, "arrow_out").to_pydict()["sale"] == [0, 3, 6]


def test_an_iterator_of_frames_is_one_intake(flow: Project, first: RunReport) -> None:
    """P1: a dataset function may yield; what it yields is taken in as one version of an included dataset."""
    assert first.outcome.datasets["sales"].version == 1
    assert flow.rows(first.outcome.datasets["sales"]).height == 90
    assert first.outcome.datasets["sales"].pipeline == "flow"


def test_a_step_may_have_several_outputs(flow: Project, first: RunReport) -> None:
    """P1: the outputs are named, kept apart, and consumed one by one."""
    train, test = (flow.output(first, "split", name) for name in ("train", "test"))
    assert (train.height, test.height) == (60, 30)
    assert train["at"].max() < test["at"].min()


def test_a_fan_out_is_one_call_per_key(flow: Project, first: RunReport) -> None:
    """P7: each key gets its rows and its own result, also through a second fan-out over the same column."""
    assert set(first.outcome.kept["per_shop"]) - {"#split"} == {"north", "south", "west"}
    one = flow.output(first, "doubled", part="south")
    assert one.rows() == [("south", pytest.approx(2 * 20.95), 20)]


def test_a_fan_out_is_consumed_as_a_dictionary_or_as_one_frame(flow: Project, first: RunReport) -> None:
    """P7: the annotation of the consumer says which."""
    by_shop = flow.output(first, "from_parts")
    assert by_shop.keys() == {"north", "south", "west"}
    assert flow.output(first, "from_frame")["shop"].to_list() == ["north", "south", "west"]


def test_a_new_key_runs_alone(flow: Project, first: RunReport) -> None:
    """P4, P7, Q4, Q16: keys whose rows did not change are reused, and without any change the release stands."""
    project = Project(flow.root.parent / "growing", "growing")
    project.write(
        """
        import polars as pl
        from penstock import Pipeline

        growing = Pipeline("growing")

        @growing.dataset(key=("shop", "day"))
        def sales() -> pl.DataFrame:
            return pl.read_csv("sales.csv")

        @growing.step(each="shop")
        def total(sales: pl.DataFrame) -> int:
            return int(sales["units"].sum())

        @growing.step
        def best(total: dict[str, int]) -> str:
            return max(total, key=lambda shop: total[shop])
        """
    )
    project.write("shop,day,units\nnorth,1,5\nsouth,1,7\n", "sales.csv")
    before = project.run()
    assert project.output(before, "best") == "south"
    project.write("shop,day,units\nnorth,1,5\nsouth,1,7\nwest,1,9\n", "sales.csv")
    ended: list[Event] = []
    after = project.run(listener=ended.append)
    assert project.output(after, "best") == "west"
    assert [e.part for e in ended if isinstance(e, UnitEnded) and e.node == "total" and e.part != "#split"] == ["west"]
    same = project.run()
    assert reruns(same) == {"sales"}  # its function is asked for new rows each time
    assert (same.release, same.is_new_release) == (after.release, False)


def test_models_and_baselines_are_judged_on_the_same_rows(first: RunReport) -> None:
    """T7, E1: two models and two baselines in one table, the first model being the candidate."""
    means = first.manifest.evaluations["quality"].means
    assert means.keys() == {"line", "second_line", "mean_units", "nothing_sold"}
    assert {model: mean["error"].n for model, mean in means.items()} == dict.fromkeys(means, 30)
    assert means["line"]["error"].mean < means["mean_units"]["error"].mean < means["nothing_sold"]["error"].mean


def test_the_champion_reaches_a_step_once_there_is_one(flow: Project, first: RunReport) -> None:
    """P1, E3: `champion` is None in the first run; later its models, and it is judged beside the candidate."""
    assert flow.output(first, "moved") == -1.0
    second = flow.run(params={"split.held_out": 9})
    assert flow.output(second, "moved") > 0
    assert "champion" in second.manifest.evaluations["quality"].means
    assert second.release == "flow@2", second


def test_a_serve_function_and_its_fallback_answer(flow: Project, first: RunReport) -> None:
    """L1, S4, S7: the examples were asked when the release was made; a failing call is answered by the fallback."""
    assert [example.fields for example in first.manifest.examples["units"]] == [
        {"price": 2.0},
        {"price": 3.0, "plus": 1.0},
    ]
    with flow.served("flow@1") as server, httpx.Client(base_url=server.url) as client:
        good = client.post("/flow/units", json={"price": 3.0, "plus": 1.0}).raise_for_status().json()
        bad = client.post("/flow/units", json={"price": -1.0}).raise_for_status().json()
    assert good["answer"] == pytest.approx(first.manifest.examples["units"][1].answer)
    assert bad["fallback"]
    assert bad["answer"] == pytest.approx(flow.output(first, "split", "train")["units"].mean())
    kept = find_prediction(flow.root / ".penstock", "flow", bad["prediction_id"])
    assert (kept.fields, kept.fallback, kept.release) == ({"price": -1.0, "plus": 0.0}, True, "flow@1")


def test_an_outcome_is_part_of_the_release(first: RunReport) -> None:
    """P1, R3: it is declared now, so the release already says how the truth will be joined."""
    node = first.manifest.graph.node("sold")
    assert (node.role, node.options) == ("outcome", {"within": "1d", "value": 0.5})
    assert "sold" not in first.nodes


def test_sampled_requests_do_not_depend_on_what_was_reused(tmp_path: Path) -> None:
    """P4, R3: a release asked on sampled requests is the same release when its inputs come from the cache."""
    project = Project(tmp_path, "asked")
    project.write(
        """
        import polars as pl
        from penstock import Pipeline

        asked = Pipeline("asked")

        @asked.dataset(key="user")
        def users() -> pl.DataFrame:
            return pl.DataFrame({"user": range(100)})

        @asked.step(outputs=("train", "test"))
        def split(users: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
            return users.head(60), users.tail(40)

        @asked.model
        def largest(train: pl.DataFrame) -> int:
            return train["user"].max()

        @asked.serve
        def above(largest: int, *, user: int) -> bool:
            return user > largest
        """
    )
    first, again = project.run(), project.run()
    assert again.manifest.examples == first.manifest.examples
    assert (again.release, again.is_new_release) == ("asked@1", False)


WRONG = """
from datetime import datetime
import polars as pl
from penstock import Pipeline

wrong = Pipeline("wrong")

@wrong.dataset
def rows() -> pl.DataFrame:
    return pl.DataFrame({"x": [1]})

@wrong.step
def count(rows: pl.DataFrame) -> int:
    return rows.height

@wrong.step
def misspelt(rowz: pl.DataFrame) -> int:
    return 1

@wrong.step
def mistyped(count: str) -> str:
    return count

@wrong.step
def around(about: int) -> int:
    return about

@wrong.step
def about(around: int) -> int:
    return around
"""


def test_all_mistakes_are_told_at_once_and_nothing_runs(tmp_path: Path) -> None:
    """P8: an unknown input, types that do not meet and a cycle, each with function, file and line."""
    project = Project(tmp_path, "wrong")
    project.write(WRONG)
    with pytest.raises(DeclarationError, match="3 mistakes") as caught:
        project.run()
    text = str(caught.value)
    for part in ("'misspelt' (flow.py:16)", "id you mean 'rows'", "'mistyped' (flow.py:20)", "around -> about"):
        assert part in text
    with project.opened() as workspace, workspace.ledger.read() as conn:
        assert runs.page(conn) == []
