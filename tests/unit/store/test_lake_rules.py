"""Columns that differ, rows that break the contract, and what becomes of each."""

# ruff: noqa: DTZ001 - columns without a zone are the case under test

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from penstock.core.errors import InputError, SchemaError
from penstock.core.records import DatasetVersion
from penstock.store.lake import IntakeRules, Lake, Table

FIRST = pl.DataFrame({"id": [1, 2], "score": [0.5, 1.5], "name": ["a", "b"]}, schema_overrides={"id": pl.Int32()})


@pytest.fixture
def table(tmp_path: Path) -> Table:
    table = Lake(tmp_path).table("p", "d")
    assert table.intake(iter([FIRST]), IntakeRules()) is not None
    return table


def _next(table: Table, frame: pl.DataFrame | pa.Table, **rules: Any) -> DatasetVersion:
    version = table.intake(iter([frame]), IntakeRules(expected_version=1, **rules))
    assert version is not None
    return version


def _first(tmp_path: Path, frame: pl.DataFrame, **rules: Any) -> tuple[Table, DatasetVersion]:
    table = Lake(tmp_path).table("p", "d")
    version = table.intake(iter([frame]), IntakeRules(**rules))
    assert version is not None
    return table, version


def test_reordered_columns_are_put_in_order(table: Table) -> None:
    """Columns are matched by name, and the change is noted."""
    version = _next(table, FIRST.select("name", "id", "score"))
    assert table.scan(version).collect().equals(pl.concat([FIRST, FIRST]))
    assert table.notes(version) == ("columns were put in the recorded order",)


def test_a_missing_column_is_refused_with_a_diff(table: Table) -> None:
    """The error names the column and its type, and nothing is taken in."""
    with pytest.raises(SchemaError, match=r"1 missing(?s:.*)- score: Float64"):
        _next(table, FIRST.drop("score"))
    assert [version.version for version in table.versions()] == [1]
    assert table.check() == []


def test_a_new_column_is_refused_unless_the_schema_may_grow(table: Table) -> None:
    """Nothing is dropped in silence; with evolve, older rows get null."""
    wider = FIRST.with_columns(extra=pl.Series([True, False]))
    with pytest.raises(SchemaError, match=r"1 new(?s:.*)\+ extra: Boolean(?s:.*)rename the dataset"):
        _next(table, wider)
    version = _next(table, wider, evolve=True)
    back = table.scan(version).collect()
    assert back["extra"].to_list() == [None, None, True, False]
    assert table.scan(table.version(1)).collect().equals(FIRST)
    later = table.intake(iter([FIRST.with_columns(extra=pl.lit(None))]), IntakeRules(expected_version=2))
    assert later is not None
    assert table.scan(later).collect().height == 6


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pl.Series("score", [[1.0], [2.0]]), r"score: List\(Float64\) -> expected Float64"),
        (pl.Series("id", [1.5, 2.0]), r"id: Float64 -> expected Int32"),
        (pl.Series("name", [1, 2]), r"name: Int64 -> expected String"),
        (pl.Series("score", [2**60 + 1, 1]), r"score: Int64 -> expected Float64"),
        (pl.Series("id", [datetime(2024, 1, 1)] * 2), r"id: Datetime.* -> expected Int32"),
    ],
)
def test_a_changed_type_is_refused_with_a_diff(table: Table, column: pl.Series, what: str) -> None:
    """A type whose values would change is an error that shows both types."""
    with pytest.raises(SchemaError, match=f"1 changed(?s:.*)! {what}"):
        _next(table, FIRST.with_columns(column))


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("id", [3, 4], dtype=pl.Int64()),
        pl.Series("id", [3.0, 4.0]),
        pl.Series("id", ["3", "4"]),
        pl.Series("score", [1, 2]),
        pl.Series("score", [1.5, 2.5], dtype=pl.Float32()),
        pl.Series("score", [None, None]),
        pl.Series("name", ["x", "y"], dtype=pl.Categorical()),
    ],
)
def test_a_type_that_holds_the_same_values_is_accepted(table: Table, column: pl.Series) -> None:
    """Values stay the same in the recorded type."""
    version = _next(table, FIRST.with_columns(column))
    back = table.scan(version).collect()
    assert back.schema == FIRST.schema
    assert (
        back[column.name][2:].cast(pl.String()).to_list()
        == column.cast(FIRST.schema[column.name]).cast(pl.String()).to_list()
    )


def test_rows_that_do_not_fit_are_set_aside_and_the_rest_kept(table: Table) -> None:
    """One unreadable text or one number too large costs that row, not the intake."""
    frame = FIRST.with_columns(id=pl.Series(["3", "four"]))
    version = _next(table, frame)
    assert version.rows_added == 1
    assert version.reasons == {"id: text that is not a Int32": 1}
    row = json.loads(table.quarantine().collect()["_row"][0])
    assert row == {"id": "four", "score": 1.5, "name": "b"}


def test_a_column_in_which_nothing_fits_is_a_changed_type(table: Table) -> None:
    """When every value fails, no row is to blame."""
    with pytest.raises(SchemaError, match="none of its 2 values is one"):
        _next(table, FIRST.with_columns(id=pl.Series(["x", "y"])))
    assert table.quarantine().collect().height == 0


def test_each_broken_rule_sets_the_row_aside_with_its_reason(tmp_path: Path) -> None:
    """Null, range, NaN, infinity and unknown values each have their reason; good rows stay."""
    frame = pl.DataFrame(
        {
            "key": [1, None, 3, 4, 5, 6, 7, 8],
            "x": [1.0, 1.0, -1.0, 11.0, float("nan"), float("inf"), None, 2.0],
            "kind": ["a", "a", "a", "a", "a", "a", "a", "z"],
        }
    )
    contract = {"x": {"min": 0, "max": 10, "nulls": False, "finite": True}, "kind": {"values": ["a", "b"]}}
    table, version = _first(tmp_path, frame, key=("key",), contract=contract)
    assert version.rows_added == 1
    assert version.rows_quarantined == 7
    assert version.reasons == {
        "key: null": 1,
        "x: below 0": 1,
        "x: above 10": 1,
        "x: not a finite number": 2,
        "x: null": 1,
        "kind: not one of the allowed values": 1,
    }
    aside = table.quarantine().collect()
    assert aside.height == 7
    assert set(aside["_intake"]) == {1}
    assert json.loads(aside.filter(pl.col("_reason") == "x: not a finite number")["_row"][0])["x"] == "NaN"


def test_nan_without_a_contract_is_a_value(tmp_path: Path) -> None:
    """NaN and infinity are kept as they are unless the contract says finite or gives a range."""
    table, version = _first(tmp_path, pl.DataFrame({"x": [float("nan"), float("inf"), 1.0]}))
    assert table.scan(version).collect()["x"].to_list()[1:] == [float("inf"), 1.0]
    assert version.rows == 3


def test_ranges_of_times_are_written_as_text(tmp_path: Path) -> None:
    """A clock far in the future is kept out by a range, and does not move the watermark."""
    frame = pl.DataFrame({"at": [datetime(2024, 1, 1), datetime(2999, 1, 1)]})
    _, version = _first(tmp_path, frame, time="at", contract={"at": {"max": "2100-01-01T00:00:00"}})
    assert version.rows == 1
    assert version.watermark == "2024-01-01T00:00:00"


def test_an_intake_of_broken_rows_only_keeps_the_digest(table: Table) -> None:
    """Rows set aside are counted once, and change nothing that is built on the dataset."""
    version = _next(table, FIRST.with_columns(id=pl.lit(None)), contract={"id": {"nulls": False}})
    assert (version.rows_added, version.rows_quarantined) == (0, 2)
    assert version.digest == table.version(1).digest
    assert table.scan(version).collect().equals(FIRST)


@pytest.mark.parametrize(
    ("contract", "what"),
    [
        ({"score": {"maximum": 3}}, "says 'maximum'"),
        ({"scoer": {"max": 3}}, "names column 'scoer'"),
        ({"kind": {"min": 0}}, "gives column 'kind' a range"),
    ],
)
def test_a_mistaken_contract_is_an_error(contract: dict[str, Any], what: str, tmp_path: Path) -> None:
    """A contract that cannot hold is told at once."""
    with pytest.raises(InputError, match=what):
        _first(tmp_path, pl.DataFrame({"score": [1], "kind": [[1]]}), contract=contract)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """Arrow allows it; the lake does not."""
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pytest.raises(SchemaError, match="'a' comes 2 times"):
        Lake(tmp_path).table("p", "d").intake(iter([twice]), IntakeRules())


def test_pandas_missing_integers_keep_their_type(table: Table) -> None:
    """Pandas makes floats of integers with gaps; the recorded type wins."""
    gaps = pa.Table.from_pandas(
        pd.DataFrame({"id": [3, None], "score": [1.0, None], "name": ["x", None]}), preserve_index=False
    )
    version = _next(table, gaps)
    assert table.scan(version).collect()["id"].to_list() == [1, 2, 3, None]


def test_ten_thousand_columns(tmp_path: Path) -> None:
    """A very wide table is taken in, added to and read back."""
    frame = pl.DataFrame({f"c{number}": [number, number + 1] for number in range(10_000)})
    table, version = _first(tmp_path, frame)
    second = table.intake(iter([frame]), IntakeRules(expected_version=1))
    assert second is not None
    assert table.scan(version).collect().equals(frame)
    assert table.scan(second).select(pl.len()).collect().item() == 4
