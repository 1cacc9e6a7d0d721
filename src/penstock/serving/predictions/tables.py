"""The two tables of the lake that answers and their truth are kept in, and the locks around them."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from penstock.core.refs import parse_name
from penstock.serving.predictions.exploding import Row
from penstock.serving.predictions.records import predictions_folder
from penstock.serving.predictions.schemas import (
    FEEDBACK_SCHEMA,  # noqa: F401  # its readers find it beside the tables
    PREDICTIONS_SCHEMA,
)
from penstock.store import served
from penstock.store.lake.table import Lake, Table

PREDICTIONS = served.PREDICTIONS
FEEDBACK = served.FEEDBACK


def table_of(home: Path, pipeline: str, name: str) -> Table:
    """Return one of the two tables of a pipeline, whether or not there is anything in it yet."""
    return Lake(home / "lake").table(pipeline, name)


def table_folder(home: Path, pipeline: str, name: str) -> Path:
    """Return where a table of a pipeline lies."""
    return home / "lake" / parse_name(pipeline, what="pipeline") / name


def frame_of(rows: Sequence[Row]) -> pl.DataFrame:
    """Return answers as rows of the table of predictions: fields, answer and timings as JSON text."""
    columns = {
        "prediction_id": [row.id for row in rows],
        "at": [row.entry.at for row in rows],
        "release": [row.entry.release for row in rows],
        "serve": [row.entry.serve for row in rows],
        "key": [row.entry.key for row in rows],
        "consumer": [row.entry.consumer for row in rows],
        "variant": [row.entry.variant for row in rows],
        "protocol": [row.entry.protocol for row in rows],
        "fields": [bytes(row.fields).decode() for row in rows],
        "answer": [bytes(row.answer).decode() for row in rows],
        "fallback": [row.entry.fallback for row in rows],
        "error": [row.entry.error for row in rows],
        "timings": [_timings(row.entry.timings) for row in rows],
        "redacted": [",".join(row.entry.redacted) for row in rows],
    }
    return pl.DataFrame(columns, schema=PREDICTIONS_SCHEMA)


def _timings(timings: dict[str, int]) -> str:
    return "{" + ",".join(f'"{name}":{microseconds}' for name, microseconds in timings.items()) + "}"


@contextmanager
def compacting(home: Path, pipeline: str) -> Iterator[bool]:
    """Try to be the one that compacts; yields whether this is so. The kernel gives it back when a process dies."""
    with _locked(_lock_path(home, pipeline, "_compacting"), fcntl.LOCK_EX | fcntl.LOCK_NB) as is_mine:
        yield is_mine


@contextmanager
def reading(home: Path, pipeline: str) -> Iterator[None]:
    """Keep segments from being removed while they are read."""
    if not predictions_folder(home, pipeline).is_dir():
        yield
        return
    with _locked(_lock_path(home, pipeline, "_reading"), fcntl.LOCK_SH):
        yield


@contextmanager
def removing(home: Path, pipeline: str) -> Iterator[bool]:
    """Try to be allowed to remove segments; yields False while somebody reads them."""
    with _locked(_lock_path(home, pipeline, "_reading"), fcntl.LOCK_EX | fcntl.LOCK_NB) as is_mine:
        yield is_mine


def _lock_path(home: Path, pipeline: str, name: str) -> Path:
    return predictions_folder(home, parse_name(pipeline, what="pipeline")) / name


@contextmanager
def _locked(path: Path, how: int) -> Iterator[bool]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
