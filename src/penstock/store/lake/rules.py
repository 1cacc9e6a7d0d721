"""What one intake must obey, and what the next `since` will be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from penstock.core.errors import InputError
from penstock.core.records import DatasetVersion
from penstock.store.lake.dtypes import parse_dtype

_WORDS = frozenset({"nulls", "finite", "min", "max", "values"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeRules:
    """What one intake must obey.

    Attributes:
        key: Columns that name a row; a newer row with the same key hides the older one. Empty: rows are only added.
        time: Column that says when a row happened; its largest value becomes the next `since`.
        contract: By column: `nulls` (bool), `finite` (bool), `min`, `max`, `values` (list). Rows that break it are
            set aside. Key and time columns are never null, whatever is said here.
        expected_version: Number of the dataset version this intake builds upon; 0 for none.
        cursor: Called when all batches are read: where the source stands, as plain JSON. Wins over the time column.
        taken_at: When, in UTC, for people.
        evolve: Columns that were not there before are added to the schema (null in older rows) instead of refused.
        empty: Columns that are agreed upon where there is neither a version nor a row: the first version has no rows
            then. None makes no version of nothing.
        fence: Called under the lock right before the commit; raises `LeaseLostError` when the work was taken over.
    """

    key: tuple[str, ...] = ()
    time: str | None = None
    contract: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    expected_version: int = 0
    cursor: Callable[[], Any] | None = None
    taken_at: datetime | None = None
    evolve: bool = False
    empty: pl.DataFrame | None = None
    fence: Callable[[], None] | None = None

    def record(self) -> dict[str, Any]:
        """Return the contract as it is recorded with the version.

        Raises:
            InputError: A column's contract says a word Penstock does not know.
        """
        for column, terms in self.contract.items():
            unknown = sorted(set(terms) - _WORDS)
            if unknown:
                raise InputError(
                    f"The contract of column {column!r} says {unknown[0]!r}.",
                    hint=f"it may say {', '.join(sorted(_WORDS))}",
                )
        columns = {name: dict(terms) for name, terms in self.contract.items()}
        return {"key": list(self.key), "time": self.time, "columns": columns}


def since(version: DatasetVersion | None) -> Any:
    """Return what `since` is for the intake after `version`: a value of the time column's type, or the cursor.

    Example:
        >>> since(None) is None
        True
    """
    if version is None or version.watermark is None:
        return None
    dtypes = dict(version.schema)
    time = version.contract.get("time")
    if version.contract.get("cursor") or time not in dtypes:
        return version.watermark
    return decode_time(version.watermark, parse_dtype(dtypes[time]))


def encode_time(value: object) -> Any:
    """Return a value of a time column as plain JSON."""
    match value:
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat()
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return value // timedelta(microseconds=1)
        case _:
            return value


def decode_time(value: Any, dtype: pl.DataType) -> Any:
    """Return the value of a time column that `encode_time` wrote."""
    match dtype:
        case pl.Datetime():
            moment = datetime.fromisoformat(value)
            return moment if dtype.time_zone is None else pl.Series([moment]).dt.convert_time_zone(dtype.time_zone)[0]
        case pl.Date():
            return date.fromisoformat(value)
        case pl.Duration():
            return timedelta(microseconds=value)
        case _:
            return value
