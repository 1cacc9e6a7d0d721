"""Every lawful type goes through the lake and comes back as it was."""

# ruff: noqa: DTZ001 - columns without a zone are the case under test

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from penstock.core.errors import SchemaError
from penstock.store.lake import IntakeRules, Lake, parse_dtype

COLUMNS = {
    "bool": pl.Series([True, None, False]),
    "int8": pl.Series([1, None, -128], dtype=pl.Int8()),
    "int16": pl.Series([1, None, 3], dtype=pl.Int16()),
    "int32": pl.Series([1, None, 3], dtype=pl.Int32()),
    "int64": pl.Series([1, None, -(2**63)], dtype=pl.Int64()),
    "uint8": pl.Series([1, None, 255], dtype=pl.UInt8()),
    "uint16": pl.Series([1, None, 65_535], dtype=pl.UInt16()),
    "uint32": pl.Series([1, None, 2**32 - 1], dtype=pl.UInt32()),
    "uint64": pl.Series([1, None, 2**64 - 1], dtype=pl.UInt64()),
    "float32": pl.Series([1.5, None, float("nan")], dtype=pl.Float32()),
    "float64": pl.Series([float("-inf"), None, 5e-324], dtype=pl.Float64()),
    "text": pl.Series(["日本", None, ""]),
    "bytes": pl.Series([b"\x00\xff", None, b""]),
    "date": pl.Series([date(2024, 2, 29), None, date(1900, 1, 1)]),
    "time": pl.Series([time(1, 2, 3, 4), None, time(0)]),
    "us": pl.Series([datetime(2024, 1, 1, 0, 0, 0, 1), None, datetime(1960, 1, 1)], dtype=pl.Datetime("us")),
    "ms": pl.Series([datetime(2024, 1, 1), None, datetime(1960, 1, 1)], dtype=pl.Datetime("ms")),
    "ns": pl.Series([datetime(2024, 1, 1, 0, 0, 0, 7), None, datetime(1960, 1, 1)], dtype=pl.Datetime("ns")),
    "utc": pl.Series([datetime(2024, 1, 1), None, datetime(2024, 7, 1)]).dt.replace_time_zone("UTC"),
    "berlin": pl.Series([datetime(2024, 1, 1), None, datetime(2024, 7, 1)]).dt.replace_time_zone("Europe/Berlin"),
    "duration": pl.Series([timedelta(days=1), None, timedelta(microseconds=-1)], dtype=pl.Duration("us")),
    "duration_ns": pl.Series([timedelta(days=1), None, timedelta(microseconds=-1)], dtype=pl.Duration("ns")),
    "decimal": pl.Series([Decimal("1.25"), None, Decimal("-3.50")], dtype=pl.Decimal(12, 2)),
    "category": pl.Series(["a", None, "b"], dtype=pl.Categorical()),
    "enum": pl.Series(["x", None, "y"], dtype=pl.Enum(["x", "y"])),
    "list": pl.Series([["a", None], None, []], dtype=pl.List(pl.String())),
    "list_uint8": pl.Series([[1, 2], None, []], dtype=pl.List(pl.UInt8())),
    "nested": pl.Series([[[1], []], None, [[2, 3]]], dtype=pl.List(pl.List(pl.Int16()))),
    "array": pl.Series([[1.0, 2.0], None, [3.0, 4.0]], dtype=pl.Array(pl.Float32(), 2)),
    "struct": pl.Series([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    """Values, nulls and the type survive intake and reading."""
    frame = pl.DataFrame({name: COLUMNS[name]})
    table = Lake(tmp_path).table("p", "d")
    version = table.intake(iter([frame]), IntakeRules())
    assert version is not None
    back = table.scan(version).collect()
    assert back.schema == frame.schema
    assert back.equals(frame, null_equal=True)
    assert parse_dtype(version.schema[0][1]) == frame.schema[name]


def test_a_compacted_column_comes_back_as_it_was(tmp_path: Path) -> None:
    """Compaction keeps every type too."""
    frame = pl.DataFrame(COLUMNS)
    table = Lake(tmp_path).table("p", "d")
    for number in range(3):
        rows = frame.with_columns(key=pl.lit(number % 2))
        version = table.intake(iter([rows[:1]]), IntakeRules(key=("key",), expected_version=number))
    compacted = table.compact()
    assert version is not None
    assert compacted is not None
    assert compacted.digest == version.digest
    assert table.scan(compacted).collect().drop("key").equals(pl.concat([frame[:1]] * 2))


@pytest.mark.parametrize(
    ("column", "hint"),
    [
        (pl.Series([None, None]), "cast the column to the type it will have"),
        (pl.Series([object()], dtype=pl.Object()), "make it text, numbers, lists or structs"),
        (pl.Series([1], dtype=pl.Int128()), "cast the column to another type"),
    ],
)
def test_a_type_that_cannot_be_kept_is_refused(column: pl.Series, hint: str, tmp_path: Path) -> None:
    """The error names the column and the way out."""
    with pytest.raises(SchemaError, match=f"'odd'.*{hint}|(?s:.*){hint}"):
        Lake(tmp_path).table("p", "d").intake(iter([pl.DataFrame({"odd": column})]), IntakeRules())


def test_nanoseconds_that_would_be_lost_are_refused(tmp_path: Path) -> None:
    """A digit is never dropped in silence."""
    frame = pl.DataFrame({"at": pl.Series([1]).cast(pl.Datetime("ns"))})
    with pytest.raises(SchemaError, match="nanosecond precision"):
        Lake(tmp_path).table("p", "d").intake(iter([frame]), IntakeRules())


@pytest.mark.parametrize("text", ["", "Int", "open('x')", "List", "__import__('os')", "Struct(1)", "Datetime(1)"])
def test_text_that_names_no_type_is_refused(text: str) -> None:
    """Type names are parsed, never run."""
    with pytest.raises(SchemaError, match="names no column type"):
        parse_dtype(text)
