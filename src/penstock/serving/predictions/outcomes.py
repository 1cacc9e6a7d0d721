"""Which predictions an outcome function is asked about, and what becomes of its result. Calls no user code."""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from penstock.core.errors import StepError
from penstock.core.plain import plain
from penstock.core.records import Record
from penstock.serving.predictions.reading import feedback_frame, predictions_frame
from penstock.serving.predictions.truth import Truth, outcome_of
from penstock.serving.predictions.typed import Shape, typed_frame

ID, OUTCOME = "prediction_id", "outcome"
_ROWS_AT_ONCE = 200_000
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Window(Record, frozen=True, kw_only=True):
    """When the truth about a prediction is whole.

    Attributes:
        name: The outcome function.
        within_s: How long after a prediction the truth may come; None when it may always.
        as_of: What is known of the world: the newest row of the datasets, or now where that is earlier, UTC.
        now: Predictions asked before this are joined, UTC.
    """

    name: str
    within_s: float | None
    as_of: datetime
    now: datetime

    def is_whole(self, at: datetime) -> bool:
        """Return whether nothing more can come about a prediction asked at `at`."""
        return self.within_s is not None and at + timedelta(seconds=self.within_s) <= self.as_of


class Joined(Record, frozen=True, kw_only=True):
    """What joining the truth to predictions came to.

    Attributes:
        name: The outcome function.
        as_of: What was known of the world, UTC.
        asked: Predictions it was given: new ones, and those about which more may have come.
        found: Predictions it gave an outcome for.
        written: Outcomes that are new or changed.
        whole: Predictions among those asked about which nothing more can come; they are not asked again.
    """

    name: str
    as_of: datetime
    asked: int = 0
    found: int = 0
    written: int = 0
    whole: int = 0


def due_predictions(home: Path, pipeline: str, window: Window, shapes: Mapping[str, Shape]) -> Iterator[pl.DataFrame]:
    """Yield the answered predictions whose truth is not whole yet, typed, oldest first, in parts of bounded size."""
    asked = predictions_frame(home, pipeline, until=window.now).filter(pl.col("answer") != "null")
    settled = outcomes_frame(home, pipeline, window.name).filter(pl.col("is_whole")).select(ID)
    due = asked.join(settled, on=ID, how="anti")
    hours = due.group_by(pl.col("at").dt.truncate("1h").alias("hour")).agg(pl.len().alias("count"))
    for start, end in _spans(hours.sort("hour").collect(engine="streaming")):
        part = due.filter(pl.col("at") >= start, pl.col("at") < end).collect(engine="streaming")
        yield typed_frame(part, shapes)


def _spans(hours: pl.DataFrame) -> Iterator[tuple[datetime, datetime]]:
    start, rows = None, 0
    end: datetime | None = None
    for hour, count in hours.iter_rows():
        if start is not None and end is not None and rows + count > _ROWS_AT_ONCE:
            yield start, end
            start, rows = None, 0
        start = start or hour
        end, rows = hour + timedelta(hours=1), rows + count
    if start is not None and end is not None:
        yield start, end


def truths_of(result: object, asked: pl.DataFrame, window: Window, known: Mapping[str, str]) -> list[Truth]:
    """Return what an outcome function found, as truths to be written: those that are new or changed.

    Args:
        result: What it returned: a frame with `prediction_id`, `outcome`, and what else it likes to say.
        asked: The predictions it was given.
        window: Its window.
        known: What is written already, by prediction, as `known_outcomes` gives it.

    Raises:
        StepError: It returned no such frame, or rows for predictions it was not given.
    """
    frame = _frame_of(result, window.name)
    _refuse_unfit(frame, asked, window.name)
    found = {row.pop(ID): row for row in frame.iter_rows(named=True)}
    truths = []
    for prediction_id, at in asked.select(ID, "at").iter_rows():
        is_whole = window.is_whole(at)
        row = found.get(prediction_id)
        if row is None and not is_whole:
            continue
        truth = _truth(prediction_id, row, window, is_whole=is_whole)
        if known.get(prediction_id) != _said_as(truth.value, truth.detail):
            truths.append(truth)
    return truths


def known_outcomes(home: Path, pipeline: str, name: str) -> dict[str, str]:
    """Return what is written of an outcome where more may still come, by prediction."""
    rows = outcomes_frame(home, pipeline, name).filter(~pl.col("is_whole")).select(ID, "value", "detail")
    return {found: _said_as(value, detail) for found, value, detail in rows.collect(engine="streaming").iter_rows()}


def outcomes_frame(home: Path, pipeline: str, name: str) -> pl.LazyFrame:
    """Return what an outcome function found: the columns of feedback, and `is_whole` where nothing more can come."""
    rows = feedback_frame(home, pipeline).filter(pl.col("source") == "outcome", pl.col("name") == name)
    return rows.with_columns(pl.col("detail").str.starts_with('{"whole":true').fill_null(value=False).alias("is_whole"))


def _said_as(value: float | None, detail: str | None) -> str:
    return f"{value!r} {detail}"


def _truth(prediction_id: str, row: Mapping[str, Any] | None, window: Window, *, is_whole: bool) -> Truth:
    said = dict(row or {})
    outcome = said.pop(OUTCOME, None)
    if isinstance(outcome, float) and not math.isfinite(outcome):
        outcome = None  # pandas has no other word for what is missing
    is_number = isinstance(outcome, bool | int | float)
    # The first word tells at a glance, and in a filter, whether this is final.
    detail: dict[str, Any] = {"whole": is_whole, **said}
    if outcome is not None and not is_number:
        detail[OUTCOME] = outcome
    return outcome_of(
        prediction_id,
        window.name,
        float(outcome) if is_number else None,
        detail=msgspec.json.encode(detail, enc_hook=plain).decode(),
        at=window.as_of,
        received_at=window.now,
    )


def _frame_of(result: Any, name: str) -> pl.DataFrame:
    match result:
        case pl.DataFrame():
            return result
        case pl.LazyFrame():
            return result.collect()
    if type(result).__module__.partition(".")[0] in {"pandas", "pyarrow"}:
        return pl.DataFrame(result)
    raise StepError(
        f"Outcome {name!r} returned {type(result).__qualname__}, not a frame.",
        hint=f"return a frame with the columns {ID!r} and {OUTCOME!r}",
    )


def _refuse_unfit(frame: pl.DataFrame, asked: pl.DataFrame, name: str) -> None:
    missing = [column for column in (ID, OUTCOME) if column not in frame.columns]
    if missing:
        raise StepError(
            f"Outcome {name!r} returned no column {missing[0]!r}; it has {', '.join(map(repr, frame.columns[:20]))}.",
            hint=f"return a frame with the columns {ID!r} and {OUTCOME!r}",
        )
    ids = frame[ID]
    if ids.n_unique() < ids.len():
        raise StepError(
            f"Outcome {name!r} returned {ids.len()} rows for {ids.n_unique()} predictions.",
            hint="return one row per prediction: group by prediction_id",
        )
    strangers = frame.join(asked.select(ID), on=ID, how="anti").height
    if strangers:
        raise StepError(
            f"Outcome {name!r} returned {strangers} rows for predictions it was not given.",
            hint="keep prediction_id as it came in 'predictions'",
        )
