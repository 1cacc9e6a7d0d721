"""A finding names the rows that moved its column, and shows the column before and after."""

import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from penstock.core.errors import InputError
from penstock.monitoring.drift.compare import Budget, Reference, Seen, compare
from penstock.monitoring.drift.moved import parts_that_moved, read_parts, rows_of
from penstock.monitoring.drift.picture import picture
from penstock.monitoring.findings import Finding
from penstock.monitoring.profiles.profile import profile

START = datetime(2024, 1, 1, tzinfo=UTC)


def people(seed: int, rows: int = 600) -> pl.DataFrame:
    """Return ordinary rows."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame({
        "age": rng.normal(40, 10, rows),
        "balance": rng.normal(0, 100, rows),
        "city": rng.choice(np.array(["Bern", "Oslo", "Rome"]), rows),
        "since": [START + timedelta(days=int(day)) for day in rng.integers(0, 900, rows)],
    })  # fmt: skip


def found_in(frame: pl.DataFrame) -> list[Finding]:
    """Compare a frame with twelve ordinary windows."""
    seen = [Seen(start=START + timedelta(days=day), profile=profile(people(day))) for day in range(12)]
    window = Seen(start=START + timedelta(days=12), profile=profile(frame))
    return compare(Reference(seen), window, budget=Budget(), subject="people")


def test_the_rows_that_moved_a_number_are_named_and_can_be_taken() -> None:
    """M2: 150 rows with ages around 70 are the range with the excess, and the filter gives just these rows."""
    planted = people(99, 150).with_columns(pl.col("age") * 0.1 + 70)
    (finding,) = found_in(pl.concat([people(50), planted]))
    parts = read_parts(finding.evidence)
    assert parts[0].kind == "range"
    assert parts[0].low is not None
    assert 50 < parts[0].low < 72
    assert parts[0].excess == pytest.approx(150, rel=0.2)
    taken = rows_of(pl.concat([people(50), planted]), "age", parts[:1]).collect()
    assert taken.height == parts[0].rows
    assert taken.join(planted, on="age", how="semi").height > 0.9 * planted.height


def test_negative_numbers_missing_values_and_categories_are_named_too() -> None:
    """M2: each part is what it says, and its rows are as many as it says."""
    usual = profile(pl.concat([people(seed) for seed in range(5)])).columns
    frame = people(7).with_columns(
        pl.when(pl.int_range(pl.len()) < 100).then(-250.0).otherwise("balance").alias("balance"),
        pl.when(pl.int_range(pl.len()) < 80).then(None).otherwise("age").alias("age"),
        pl.when(pl.int_range(pl.len()) < 60).then(pl.lit("Lima")).otherwise("city").alias("city"),
    )
    now = profile(frame).columns
    for name, kind, least in (("balance", "range", 100), ("age", "missing", 80), ("city", "value", 60)):
        part = parts_that_moved(name, now[name], usual[name])[0]
        assert (part.kind, part.rows >= least) == (kind, True)
        assert rows_of(frame, name, [part]).collect().height == part.rows
    assert parts_that_moved("city", now["city"], usual["city"])[0].said == "city is 'Lima'"


def test_times_are_told_as_times() -> None:
    """M2: the rows of one new month are named by their dates."""
    late = people(9, 200).with_columns(pl.col("since") + timedelta(days=950))
    usual = profile(pl.concat([people(seed) for seed in range(5)])).columns["since"]
    frame = pl.concat([people(8), late])
    part = parts_that_moved("since", profile(frame).columns["since"], usual)[0]
    assert part.said.startswith("since from 2026-")
    assert rows_of(frame, "since", [part]).collect().height == part.rows >= 190


def test_rows_cannot_be_taken_of_a_column_that_is_not_there() -> None:
    """S6: a wrong name is told, not answered with nothing."""
    with pytest.raises(InputError, match="'height'"):
        rows_of(people(1), "height", [])


@pytest.mark.parametrize("change", ["age", "city"])
def test_a_finding_has_a_picture_of_before_and_after(change: str) -> None:
    """M2: it is well-formed, names what it shows, and its bars are the shares of both."""
    frame = people(3).with_columns(pl.col("age") + 20 if change == "age" else pl.lit("<Oslo & Co>").alias("city"))
    finding = next(one for one in found_in(frame) if one.subject == f"people.{change}")
    tree = ET.fromstring(picture(finding))  # noqa: S314 - our own
    names = {"s": "http://www.w3.org/2000/svg"}
    assert tree.findtext("s:title", namespaces=names) == f"people.{change}"
    shape = finding.evidence["shape"]
    shares = [float((one.text or "").rstrip("%")) for one in tree.findall("s:rect/s:title", names)]
    assert shares == pytest.approx([100 * one for one in (*shape["before"], *shape["after"])], abs=0.01)
    assert sum(shape["after"]) == pytest.approx(1, abs=1e-4)


def test_a_finding_without_a_distribution_has_no_picture() -> None:
    """M2: a changed schema has nothing to draw."""
    finding = Finding(kind="schema", subject="people.age", is_alarm=True, effect=1.0, said="It is gone.")
    assert picture(finding) == ""
