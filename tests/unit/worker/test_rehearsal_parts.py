"""The parts of a rehearsal that need no processes: who asks, how arms are compared, what sources hold back."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from penstock.core.errors import DataError, InputError
from penstock.engine.holding import held_back
from penstock.engine.protocol import Place, Task
from penstock.pipeline.graph import Fingerprint, Graph, Node, Param
from penstock.serving.processes.ask import id_of
from penstock.store.lake import IntakeRules, Lake
from penstock.worker.rehearsal.compare import compared_with, mean_of
from penstock.worker.rehearsal.records import Plan
from penstock.worker.rehearsal.requests import askers, draw

START = datetime(2025, 3, 1, tzinfo=UTC)
PLAN = Plan(pipeline="shop", start=START, steps=4, asks=20, seed=3, others=())
CODE = Fingerprint(digest="")


def node(name: str, role: Any, *, params: tuple[Param, ...] = (), **options: Any) -> Node:
    return Node(
        name=name, role=role, function=f"shop:{name}", file="shop.py", line=1, edges=(), params=params,
        outputs=(name,), options=options, code=CODE,
    )  # fmt: skip


def shop(*fields: str) -> Graph:
    serve = node("offer", "serve", params=tuple(Param(name=f, type="int", required=True) for f in fields))
    sales = node("sales", "dataset", time="at", key="sale")
    return Graph(
        pipeline="shop", goal="", entry="shop", variable="shop", import_root="", nodes=(sales, serve), files=(),
        python="",
    )  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    moments = [START + timedelta(minutes=37 * n) for n in range(-100, 300)]
    rows = pl.DataFrame({"sale": range(400), "person": [n % 50 for n in range(400)], "at": moments})
    rules = IntakeRules(key=("sale",), time="at", taken_at=START)
    Lake(tmp_path / "lake").table("shop", "sales").intake(iter([rows]), rules)
    return tmp_path


def test_people_ask_before_their_row_and_alike_each_time(source: Path) -> None:
    """tM2: the same seed asks the same at the same moments, each moment before a row of who asks, and ids differ."""
    [asker] = askers(shop("person"), {}, {"sales": {"sale", "person", "at"}})
    asks = draw(PLAN, 1, [asker], source)
    assert asks == draw(PLAN, 1, [asker], source)
    assert asks != draw(msgspec.structs.replace(PLAN, seed=4), 1, [asker], source)
    assert len(asks) == PLAN.asks
    rows = Lake(source / "lake").table("shop", "sales")
    version = rows.latest()
    assert version is not None
    sold = rows.scan(version).filter(pl.col("at").is_between(PLAN.at(1), PLAN.at(2), closed="right")).collect()
    for ask in asks:
        assert ask.at is not None
        assert PLAN.at(1) <= ask.at < PLAN.at(2)
        person = msgspec.json.decode(ask.body)["person"]
        assert sold.filter(pl.col("person") == person, pl.col("at") >= ask.at).height
    assert len({id_of("shop/3", ask.at) for ask in asks if ask.at is not None}) == len(asks)


def test_a_step_without_rows_has_nobody_to_ask(source: Path) -> None:
    [asker] = askers(shop("person"), {}, {"sales": {"sale", "person", "at"}})
    late = msgspec.structs.replace(PLAN, start=START + timedelta(days=300))
    assert draw(late, 0, [asker], source) == []


def test_fields_that_no_dataset_has_are_told() -> None:
    with pytest.raises(InputError, match="take fields that no dataset has") as caught:
        askers(shop("stranger"), {}, {"sales": {"sale", "person", "at"}})
    assert "offer(stranger)" in caught.value.message


def truths(values: list[float], *, keys: list[str] | None = None, steps: list[int] | None = None) -> pl.DataFrame:
    count = len(values)
    return pl.DataFrame(
        {
            "id": [f"p{n:04}" for n in range(count)],
            "step": steps or [n % 10 for n in range(count)],
            "key": keys or [str(n) for n in range(count)],
            "value": values,
        }
    )


def test_arms_are_compared_on_requests_that_both_answered() -> None:
    ours, theirs = truths([1.0, 0.0, 1.0, 1.0] * 10), truths([0.0, 0.0, 1.0, 1.0] * 10)
    found = compared_with("bought", "never", ours, theirs.filter(pl.col("id") != "p0000"))
    assert found.difference.n == 39
    assert found.difference.mean == pytest.approx(9 / 39)
    assert found.ours is not None
    assert found.theirs is not None
    assert found.ours - found.theirs == pytest.approx(9 / 39)
    none = compared_with("bought", "never", ours, theirs.head(0))
    assert (none.ours, none.difference.n, none.difference.mean) == (None, 0, None)


def test_the_interval_keeps_its_error_rate_where_requests_of_one_person_are_alike() -> None:
    """N7: 95 % intervals hold the truth in about 95 % of 400 worlds in which each person has a taste of their own."""
    chance, held = np.random.default_rng(0), 0
    for _ in range(400):
        taste = np.repeat(chance.normal(0, 1, 60), 8)
        values = taste + chance.normal(0, 1, taste.size)
        people = [str(n // 8) for n in range(taste.size)]
        found = mean_of(truths(values.tolist(), keys=people, steps=[n % 30 for n in range(taste.size)]))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / 400 <= 0.99


def intake(as_of: datetime, time: str = "at") -> Task:
    return Task(
        id="t", pipeline="shop", node=node("sales", "dataset", time=time), kind="intake",
        place=Place(root=".", home=".", code_dir=".", import_root=""), extra={"as_of": as_of.isoformat()},
    )  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", None])
def test_rows_later_than_the_clock_are_held_back(zone: str | None) -> None:
    """D1: neither what has yet to come is taken in, nor what was before; the lake judges rows without a time."""
    moments = pl.Series("at", [START + timedelta(hours=n) for n in range(6)] + [None], dtype=pl.Datetime("us", "UTC"))
    rows = pl.DataFrame({"sale": range(7), "at": moments.dt.replace_time_zone(zone)})
    since = rows["at"][1]
    kept = pl.concat(held_back(iter([rows.head(3), rows.tail(4)]), intake(START + timedelta(hours=3)), since))
    assert kept["sale"].to_list() == [2, 3, 6]
    assert list(held_back(iter([rows.slice(4, 2)]), intake(START + timedelta(hours=3)), since)) == []


def test_days_are_held_back_by_date() -> None:
    rows = pl.DataFrame({"sale": range(4), "at": [date(2025, 3, n) for n in (1, 2, 3, 4)]})
    kept = pl.concat(held_back(iter([rows]), intake(datetime(2025, 3, 3, tzinfo=UTC)), None))
    assert kept["sale"].to_list() == [0, 1, 2]


def test_a_column_that_holds_no_times_cannot_be_replayed() -> None:
    rows = pl.DataFrame({"at": [1, 2]})
    with pytest.raises(DataError, match="cannot be replayed: its time column 'at' is Int64"):
        list(held_back(iter([rows]), intake(START), None))
