"""Reads predictions back, from the lake and from segments that are not compacted yet, each of them once.

While segments are read, a lock keeps compaction from removing them; what the version of the table that is read took in
is left out. So a reader sees one state, whatever is compacted meanwhile.
"""

import itertools
import mmap
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import structlog

from penstock.core.errors import NotFoundError
from penstock.core.records import DatasetVersion
from penstock.serving.predictions import schemas, tables
from penstock.serving.predictions.compaction import Kept, kept_feedback, kept_predictions, taken_segments
from penstock.serving.predictions.exploding import explode, prediction_of, predictions_of
from penstock.serving.predictions.records import (
    LOAD_CONSUMER,
    Damage,
    Frame,
    Prediction,
    check_id,
    frame_at,
    read_frames,
    seed_of,
)

_events = structlog.get_logger("penstock.serving")
_ROWS_PER_FRAME = 20_000
SHADOW = "shadow"  # the variant of answers that nobody heard
# Variants of answers that the fallback gave although the model could: they say nothing about the model.
NOT_THE_MODEL = ("explore", "fallback")


def read_predictions(home: Path, pipeline: str) -> Iterator[Prediction]:
    """Yield the predictions of a pipeline: first those in the lake, then by segment as each worker answered.

    Safe while workers write and while segments are compacted. Memory stays flat however many there are.
    """
    kept = kept_predictions(home, pipeline)
    with tables.reading(home, pipeline):
        version, paths = _state(home, pipeline, kept)
        if version is not None:
            scan = tables.table_of(home, pipeline, kept.name).scan(version)
            for batch in scan.collect_batches(chunk_size=_ROWS_PER_FRAME, maintain_order=True, engine="streaming"):
                yield from map(_of_row, batch.iter_rows(named=True))
        for path in paths:
            for frame in _good_frames(path):
                yield from predictions_of(frame)


def find_prediction(home: Path, pipeline: str, prediction_id: str) -> Prediction:
    """Return one answer by its id.

    Raises:
        InputError: The text is not a prediction id.
        NotFoundError: Nothing of that id is kept; or it is that of several answers, which the hint names.
    """
    request_id = check_id(prediction_id).partition("-")[0]
    found = list(_of_request(home, pipeline, request_id))
    for prediction in found:
        if prediction.id == prediction_id:
            return prediction
    if found:
        first, last = found[0].id, found[-1].id
        raise NotFoundError(
            f"Request {request_id!r} of pipeline {pipeline!r} was given {len(found)} answers.",
            hint=f"ask for one of them, {first} to {last}",
        )
    raise NotFoundError(
        f"No prediction {prediction_id!r} of pipeline {pipeline!r} is stored.", hint="check the pipeline's name"
    )


def predictions_frame(
    home: Path,
    pipeline: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    with_shadow: bool = False,
    with_load: bool = False,
) -> pl.LazyFrame:
    """Return the predictions of a pipeline as a frame, fields and answers as JSON text.

    Args:
        home: The project's store.
        pipeline: Whose.
        since: Only those asked at this time or later, UTC.
        until: Only those asked before this time, UTC.
        with_shadow: Also the answers of a candidate that nobody heard.
        with_load: Also those that a load test asked of a server of users: no user was answered by them.

    Returns:
        The columns of `schemas.PREDICTIONS_SCHEMA`. What is in the lake is scanned when the frame is collected, and may
        be larger than memory; what is not compacted yet is held.
    """
    kept = kept_predictions(home, pipeline)
    found = _whole(home, pipeline, kept, span=(since, until), schema=schemas.PREDICTIONS_SCHEMA)
    found = found if with_load else found.filter(pl.col("consumer").ne_missing(LOAD_CONSUMER))
    return found if with_shadow else found.filter(pl.col("variant").ne_missing(SHADOW))


def kept_state(home: Path, pipeline: str) -> tuple[pl.LazyFrame | None, frozenset[str]]:
    """Return the predictions that are in the lake, None where none are, and the names of the segments they came from.

    Within `tables.reading`, all other segments are there to be read.
    """
    version = tables.table_of(home, pipeline, tables.PREDICTIONS).latest()
    if version is None:
        return None, frozenset()
    scan = tables.table_of(home, pipeline, tables.PREDICTIONS).scan(version)
    return _with_columns(scan, schemas.PREDICTIONS_SCHEMA), frozenset(taken_segments(version))


def feedback_frame(home: Path, pipeline: str, *, is_history: bool = False) -> pl.LazyFrame:
    """Return what was said about answers afterwards, by callers and by outcome functions.

    Args:
        home: The project's store.
        pipeline: Whose.
        is_history: With what was corrected later; otherwise only the newest per prediction, name and source.

    Returns:
        The columns of `schemas.FEEDBACK_SCHEMA`.
    """
    kept = kept_feedback(home, pipeline)
    found = _whole(home, pipeline, kept, span=(None, None), schema=schemas.FEEDBACK_SCHEMA)
    ordered = found.sort("at", "received_at", maintain_order=True)
    once = ordered.unique("entry", keep="last", maintain_order=True)
    if is_history:
        return once
    return once.unique(("prediction_id", "name", "source"), keep="last", maintain_order=True)


def count_unknown(home: Path, pipeline: str, prediction_ids: Sequence[str]) -> int:
    """Return how many of some ids belong to no prediction that is kept here."""
    wanted = pl.LazyFrame({"prediction_id": pl.Series(prediction_ids, dtype=pl.String)}).unique()
    known = predictions_frame(home, pipeline).select("prediction_id")
    return int(wanted.join(known, on="prediction_id", how="anti").select(pl.len()).collect(engine="streaming").item())


def _whole(
    home: Path, pipeline: str, kept: Kept, *, span: tuple[datetime | None, datetime | None], schema: pl.Schema
) -> pl.LazyFrame:
    with tables.reading(home, pipeline):
        version, paths = _state(home, pipeline, kept)
        parts = [_in_span(pl.LazyFrame(schema=schema), span)]
        if version is not None:
            scan = tables.table_of(home, pipeline, kept.name).scan(version)
            parts.append(_in_span(_with_columns(scan, schema), span))
        frames = (frame for path in paths for frame in _good_frames(path))
        while batch := list(itertools.islice(frames, _ROWS_PER_FRAME)):
            rows = [row for frame in batch for row in kept.rows(frame)[0]]
            parts.append(_in_span(kept.frame(rows).lazy(), span).collect().lazy())
    return pl.concat(parts)


def _with_columns(scan: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    known = scan.collect_schema()
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in schema.items() if name not in known]
    return scan.with_columns(absent).select(list(schema))


def _in_span(frame: pl.LazyFrame, span: tuple[datetime | None, datetime | None]) -> pl.LazyFrame:
    since, until = span
    frame = frame if since is None else frame.filter(pl.col("at") >= since)
    return frame if until is None else frame.filter(pl.col("at") < until)


def _state(home: Path, pipeline: str, kept: Kept) -> tuple[DatasetVersion | None, list[Path]]:
    version = tables.table_of(home, pipeline, kept.name).latest()
    taken = taken_segments(version)
    return version, [path for path in sorted(kept.folder.glob("*.log")) if path.name not in taken]


def _of_request(home: Path, pipeline: str, request_id: str) -> Iterator[Prediction]:
    kept = kept_predictions(home, pipeline)
    with tables.reading(home, pipeline):
        version, paths = _state(home, pipeline, kept)
        for path in reversed(paths):
            frame = _frame_of(path, request_id)
            if frame is not None:
                yield from map(prediction_of, explode(frame).rows)
                return
        if version is None:
            return
        scan = tables.table_of(home, pipeline, kept.name).scan(version)
    # "." is the letter after "-", with which the numbers of answers begin.
    name = pl.col("prediction_id")
    rows = scan.filter((name >= request_id) & (name < f"{request_id}.")).collect(engine="streaming")
    yield from sorted(map(_of_row, rows.iter_rows(named=True)), key=lambda found: (len(found.id), found.id))


def _frame_of(path: Path, request_id: str) -> Frame | None:
    # The id stands first in an entry: it is looked for as bytes, and only what is a good frame there counts.
    needle = f'{{"id":"{request_id}"'.encode()
    if not path.stat().st_size:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        frames = (frame_at(data, place, seed_of(path.name)) for place in _places(data, needle))
        return next((frame for frame in frames if frame is not None), None)


def _places(data: mmap.mmap, needle: bytes) -> Iterator[int]:
    place = -1
    while (place := data.find(needle, place + 1)) >= 0:
        yield place


def _of_row(row: dict[str, Any]) -> Prediction:
    return Prediction(
        id=row["prediction_id"],
        at=row["at"],
        release=row["release"],
        serve=row["serve"],
        fields=msgspec.json.decode(row["fields"]),
        answer=msgspec.json.decode(row["answer"]),
        timings=msgspec.json.decode(row["timings"]),
        fallback=row["fallback"],
        error=row["error"],
        key=row["key"],
        consumer=row["consumer"],
        variant=row["variant"],
        protocol=row["protocol"],
        redacted=tuple(row["redacted"].split(",")) if row["redacted"] else (),
    )


def _good_frames(path: Path) -> Iterator[Frame]:
    for found in read_frames(path):
        if isinstance(found, Damage):
            _events.warning("prediction_bytes_skipped", segment=path.name, at=found.at, size_bytes=len(found.data))
        else:
            yield found
