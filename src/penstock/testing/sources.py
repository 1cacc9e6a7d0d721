"""What every source must do; run it on your own.

Give each check a fresh `SourceCase`. With pytest: `@pytest.mark.parametrize("check", CHECKS)`.
"""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Protocol

import polars as pl

from penstock.core.errors import DataError
from penstock.sources import to_batches

_START = datetime(2024, 1, 1)  # noqa: DTZ001 - sources meet times without a zone
# More rows than a batch should ever hold.
_MANY = 300_000
_LARGEST_BATCH = 150_000


class SourceCase(Protocol):
    """A source under test, and how to change what it reads.

    Attributes:
        is_incremental: The source keeps a cursor.
        is_streamed: The source gives many rows in several batches.
        can_be_damaged: `damage` means something for it.
    """

    is_incremental: bool
    is_streamed: bool
    can_be_damaged: bool

    def add(self, rows: pl.DataFrame) -> None:
        """Make `rows` (columns id, at, text, value) appear after all rows there are."""
        ...

    def source(self) -> object:
        """Return what a dataset function would return."""
        ...

    def damage(self) -> None:
        """Make what the source reads unreadable."""
        ...


def sample_rows(start: int, count: int) -> pl.DataFrame:
    """Return `count` rows with growing `id` and `at`, text with nulls and other scripts, and floats."""
    numbers = range(start, start + count)
    texts = ("plain", "with, comma", 'with "quotes"', "Größe", "日本語", None)
    return pl.DataFrame(
        {
            "id": list(numbers),
            "at": [_START + timedelta(seconds=number) for number in numbers],
            "text": [texts[number % len(texts)] for number in numbers],
            "value": [number / 8 for number in numbers],
        },
        schema={"id": pl.Int64(), "at": pl.Datetime("us"), "text": pl.String(), "value": pl.Float64()},
    )


def read_all(value: object, cursor: Any = None) -> tuple[pl.DataFrame, Any]:
    """Return all rows a source gives after `cursor`, and the cursor that follows; through JSON, as it is stored."""
    batches, position = to_batches(value, cursor)
    frames = [pl.DataFrame(batch) for batch in batches]
    rows = pl.concat(frames, how="vertical_relaxed") if frames else pl.DataFrame()
    return rows, None if position is None else json.loads(json.dumps(position()))


def gives_every_row(case: SourceCase) -> None:
    """Every row comes once, in order, with its values and columns."""
    case.add(sample_rows(0, 1_000))
    rows, _ = read_all(case.source())
    _same(rows, sample_rows(0, 1_000))


def gives_only_new_rows(case: SourceCase) -> None:
    """A second reading from the stored cursor gives what came since, and a third gives nothing."""
    if not case.is_incremental:
        return
    case.add(sample_rows(0, 100))
    _, cursor = read_all(case.source())
    case.add(sample_rows(100, 50))
    rows, later = read_all(case.source(), cursor)
    _same(rows, sample_rows(100, 50))
    rows, last = read_all(case.source(), later)
    _expect(rows.height == 0, "nothing came, yet rows were given again")
    _expect(last == later, "nothing came, yet the cursor moved")


def starts_again_from_its_cursor(case: SourceCase) -> None:
    """A reading that was broken off leaves no trace: the next one from the same cursor gives the same rows."""
    if not case.is_incremental:
        return
    case.add(sample_rows(0, 100))
    _, cursor = read_all(case.source())
    case.add(sample_rows(100, 100))
    broken_off, position = to_batches(case.source(), cursor)
    next(iter(broken_off))
    _expect(position is not None and position() == cursor, "the cursor moved before its rows were taken")
    rows, _ = read_all(case.source(), cursor)
    _same(rows, sample_rows(100, 100))


def gives_nothing_when_empty(case: SourceCase) -> None:
    """A source without rows gives none, and raises nothing."""
    case.add(sample_rows(0, 0))
    rows, _ = read_all(case.source())
    _expect(rows.height == 0, "rows came out of nothing")


def keeps_its_columns(case: SourceCase) -> None:
    """Each batch has the same columns in the same order and of the same types."""
    case.add(sample_rows(0, 2_000))
    batches, _ = to_batches(case.source(), None)
    schemas = {tuple((name, str(dtype)) for name, dtype in pl.DataFrame(batch).schema.items()) for batch in batches}
    _expect(len(schemas) == 1, f"batches differ: {schemas}")


def refuses_damage(case: SourceCase) -> None:
    """Damaged input is one `DataError` that says what to do."""
    if not case.can_be_damaged:
        return
    case.add(sample_rows(0, 100))
    case.damage()
    hint = None
    try:
        read_all(case.source())
    except DataError as error:
        hint = error.hint
    _expect(hint is not None, "damaged input was read as if nothing had happened")
    _expect(hint != "", "the error says no next action")


def streams_many_rows(case: SourceCase) -> None:
    """Many rows come in several batches, none of them large."""
    if not case.is_streamed:
        return
    case.add(sample_rows(0, _MANY))
    batches, _ = to_batches(case.source(), None)
    sizes = [batch.height if isinstance(batch, pl.DataFrame) else batch.num_rows for batch in batches]
    _expect(sum(sizes) == _MANY, f"{sum(sizes)} rows instead of {_MANY}")
    _expect(max(sizes) <= _LARGEST_BATCH, f"a batch of {max(sizes)} rows")


CHECKS: tuple[Callable[[SourceCase], None], ...] = (
    gives_every_row,
    gives_only_new_rows,
    starts_again_from_its_cursor,
    gives_nothing_when_empty,
    keeps_its_columns,
    refuses_damage,
    streams_many_rows,
)


def _expect(holds: bool, words: str) -> None:  # noqa: FBT001 - reads as an assertion
    if not holds:
        raise AssertionError(words)


def _same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    _expect(found.columns == expected.columns, f"columns {found.columns}, expected {expected.columns}")
    for name in expected.columns:
        column = found[name]
        if name == "at" and column.dtype == pl.String():
            column = column.str.to_datetime(time_unit="us")  # JSON has no times
        _expect(column.cast(expected.schema[name]).equals(expected[name]), f"column {name!r} differs")
