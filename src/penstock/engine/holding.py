"""Holds back rows that are later than the clock of a replay: its sources hold what has yet to come."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from penstock.core.errors import DataError
from penstock.engine.protocol import Task
from penstock.sources.source import Batch


def held_back(batches: Iterator[Batch], task: Task, since: Any) -> Iterator[pl.DataFrame]:
    """Leave out rows whose time is later than the clock's, and those that an earlier intake took.

    Of a source with a cursor all is read again each time: its cursor speaks for rows that are held back here.

    Args:
        batches: Rows as the dataset function gives them.
        task: An intake of a dataset with a time column; its `as_of` is the clock's time.
        since: The largest time taken in before; None before the first intake.

    Raises:
        DataError: The time column holds no times.
    """
    name = str(task.node.options["time"])
    as_of = datetime.fromisoformat(task.extra["as_of"])
    for batch in batches:
        frame = batch if isinstance(batch, pl.DataFrame) else pl.DataFrame(pl.from_arrow(batch))
        if name not in frame.columns:
            yield frame  # the lake says what is wrong with the columns
            continue
        limit = _limit(as_of, frame.schema[name], task)
        column = pl.col(name)
        is_due = column.is_null() | (column <= limit)
        if since is not None:
            is_due &= column.is_null() | (column > since)
        found = frame.filter(is_due)
        if found.height:
            yield found


def _limit(as_of: datetime, kind: pl.DataType, task: Task) -> datetime | date:
    """Return the clock's time as the column writes times."""
    if isinstance(kind, pl.Datetime):
        return as_of if kind.time_zone is not None else as_of.astimezone(UTC).replace(tzinfo=None)
    if isinstance(kind, pl.Date):
        return as_of.astimezone(UTC).date()
    raise DataError(
        f"Dataset {task.node.name!r} cannot be replayed: its time column {task.node.options['time']!r} is {kind}.",
        hint="return it as a date or a time from the dataset function",
    )
