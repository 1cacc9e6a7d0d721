"""Checks that nothing of the test data is in the training data. Messages carry counts, never rows."""

from collections.abc import Sequence

import polars as pl

from penstock.checks.results import built_in
from penstock.core.errors import InputError
from penstock.core.records import CheckResult

Frame = pl.DataFrame | pl.LazyFrame
_COPIED = 0.999999


def time_leakage(train: Frame, test: Frame, time: str) -> CheckResult:
    """Check that no training row is later than the earliest test row.

    Args:
        train: Training rows.
        test: Test rows.
        time: Column of dates, times or numbers, in both.

    Raises:
        InputError: A frame does not have the column.
    """
    _require((train, test), (time,))
    bounds = test.lazy().select(first=pl.col(time).min(), nulls=pl.col(time).null_count()).collect().row(0, named=True)
    first = bounds["first"]
    later_ones = (pl.col(time) > pl.lit(first)).sum()
    found = train.lazy().select(
        later=later_ones, rows=pl.len(), last=pl.col(time).max(), nulls=pl.col(time).null_count()
    )
    row = found.collect().row(0, named=True)
    later, missing = int(row["later"] or 0), int(row["nulls"]) + int(bounds["nulls"])
    evidence = {
        "time": time,
        "rows_later": later,
        "rows": row["rows"],
        "missing": missing,
        "train_last": _text(row["last"]),
        "test_first": _text(first),
    }
    message = f"train ends at {_text(row['last'])}, test begins at {_text(first)}"
    if later:
        message = (
            f"{later} of {row['rows']} training rows have {time!r} after that of the first test row ({_text(first)}). "
            f"Hint: split at one moment of {time!r}, so that train ends before test begins"
        )
    elif missing:
        message = f"{missing} rows have no {time!r}, so it cannot be told that train comes before test. "
        message += f"Hint: drop them, or give {time!r} a value, before the split"
    elif first is None:
        message = "test has no rows, so there is no time to compare. Hint: split earlier"
    return built_in("time_leakage", message, passed=not later and not missing and first is not None, evidence=evidence)


def key_leakage(train: Frame, test: Frame, key: Sequence[str]) -> CheckResult:
    """Check that no key of a test row is in the training rows.

    Args:
        train: Training rows.
        test: Test rows.
        key: Columns that name a row, in both.

    Raises:
        InputError: A frame does not have a column of the key.
    """
    columns = list(key)
    _require((train, test), columns)
    wanted = test.lazy().select(columns)
    both = wanted.join(train.lazy().select(columns), on=columns, how="semi", nulls_equal=True)
    shared, rows = (int(part.select(pl.len()).collect().item()) for part in (both, wanted))
    evidence = {"key": columns, "rows_shared": shared, "rows": rows}
    message = f"{shared} of {rows} test rows have a key ({', '.join(columns)}) that is also in train"
    if not shared:
        message = f"no key ({', '.join(columns)}) of {rows} test rows is in train"
    return built_in("key_leakage", message, passed=not shared, evidence=evidence)


def row_leakage(train: pl.DataFrame, test: pl.DataFrame) -> CheckResult:
    """Check that no whole test row is in the training rows, compared over the columns both have.

    Rows are compared by 64-bit hashes: with a million rows on each side, one false match in 18 million such checks.
    """
    columns = [name for name in test.columns if name in train.columns]
    if not columns:
        return built_in("row_leakage", "train and test have no column in common", passed=True, evidence={"columns": 0})
    ours, theirs = (frame.select(columns).hash_rows(0).alias("hash") for frame in (train, test))
    shared = int(theirs.is_in(ours.unique().implode()).sum()) if len(theirs) else 0
    evidence = {"columns": len(columns), "rows_shared": shared, "rows": test.height}
    message = f"{shared} of {test.height} test rows are in train, equal in all {len(columns)} columns"
    return built_in("row_leakage", message, passed=not shared, evidence=evidence)


def target_leakage(rows: pl.DataFrame, target: str) -> CheckResult:
    """Check that no other column of numbers is the target, or a straight line of it.

    Args:
        rows: Training rows with the target.
        target: Column the model predicts.

    Raises:
        InputError: The frame does not have the column.
    """
    _require((rows,), (target,))
    numeric = [name for name in rows.columns if name != target and rows[name].dtype.is_numeric()]
    copies: list[str] = []
    if rows[target].dtype.is_numeric() and rows[target].n_unique() > 1 and numeric:
        found = rows.select(pl.corr(pl.col(name).cast(pl.Float64), pl.col(target).cast(pl.Float64)) for name in numeric)
        # Each correlation column is named after its first input.
        copies = [
            name for name, value in found.row(0, named=True).items() if value is not None and abs(value) > _COPIED
        ]
    message = f"none of {len(numeric)} columns repeats {target!r}"
    if copies:
        message = f"{', '.join(map(repr, copies))} repeats the target {target!r}: the model would read the answer"
    return built_in("target_leakage", message, passed=not copies, evidence={"target": target, "columns": copies})


def _require(frames: Sequence[Frame], columns: Sequence[str]) -> None:
    for frame in frames:
        names = frame.lazy().collect_schema().names()
        missing = [column for column in columns if column not in names]
        if missing:
            raise InputError(f"No column {missing!r} to look for leakage in.", hint=f"the rows have {names!r}")


def _text(value: object) -> str:
    return "nothing" if value is None else str(value)
