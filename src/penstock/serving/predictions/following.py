"""Follows the log of predictions as it is written: each answer once, soon after it was given.

A segment that compaction removed is read to its end all the same, since it is held open. What was compacted before the
first look is read from the lake.
"""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
import polars as pl

from penstock.serving.predictions import tables
from penstock.serving.predictions.reading import kept_state
from penstock.serving.predictions.records import Damage, frames_of, predictions_folder, seed_of

_COLUMNS = ("prediction_id", "at", "release", "serve", "key", "variant", "answer", "fallback", "error", "timings")


class Followed(msgspec.Struct, frozen=True):
    """One answer as it was logged; the fields are those of `records.LogEntry`."""

    id: str
    at: datetime
    release: str
    serve: str
    answer: msgspec.Raw = msgspec.Raw(b"null")
    timings: dict[str, int] = {}
    fallback: bool = False
    error: str | None = None
    key: str = ""
    variant: str = ""


_DECODE = msgspec.json.Decoder(Followed).decode


class Follower:
    """Yields what was answered since it looked last.

    Args:
        home: The project's store.
        pipeline: Whose.
        since: Only answers of this time or later.
    """

    def __init__(self, home: Path, pipeline: str, since: datetime) -> None:
        self._home = home
        self._pipeline = pipeline
        self._since = since
        self._open: dict[str, tuple[int, int]] = {}  # by name: descriptor, and how far it is read
        self._done: set[str] = set()
        self._has_looked = False

    def read(self) -> Iterator[Followed]:
        """Yield the answers that were logged since the last call."""
        with tables.reading(self._home, self._pipeline):
            kept = [] if self._has_looked else self._begin()
            self._take_new()
        self._has_looked = True
        for frame in kept:
            yield from map(_of_row, frame.iter_rows(named=True))
        for name in list(self._open):
            yield from (entry for entry in self._entries(name) if entry.at >= self._since)
            self._let_go(name)

    def close(self) -> None:
        """Close the segments."""
        for descriptor, _ in self._open.values():
            os.close(descriptor)
        self._open = {}

    def _begin(self) -> list[pl.DataFrame]:
        """Return what is compacted already; its segments are done with."""
        scan, taken = kept_state(self._home, self._pipeline)
        self._done = set(taken)
        if scan is None:
            return []
        rows = scan.filter(pl.col("at") >= self._since).select(_COLUMNS)
        return list(rows.collect_batches(engine="streaming"))

    def _take_new(self) -> None:
        for path in sorted(predictions_folder(self._home, self._pipeline).glob("*.log")):
            if path.name not in self._open and path.name not in self._done:
                try:
                    self._open[path.name] = (os.open(path, os.O_RDONLY | os.O_CLOEXEC), 0)
                except FileNotFoundError:  # removed this moment: it is in the lake
                    self._done.add(path.name)

    def _entries(self, name: str) -> Iterator[Followed]:
        """Yield what was written to a segment since it was read last."""
        descriptor, start = self._open[name]
        for found in frames_of(descriptor, seed_of(name), start):
            if isinstance(found, Damage):
                if found.is_torn:  # still being written
                    return
                self._open[name] = (descriptor, found.at + len(found.data))
            else:
                self._open[name] = (descriptor, found.end)
                yield _DECODE(found.json)

    def _let_go(self, name: str) -> None:
        """Close a segment that was removed: it was finished, and has been read."""
        descriptor, _ = self._open[name]
        if os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)
            del self._open[name]
            self._done.add(name)


def _of_row(row: dict[str, object]) -> Followed:
    values = {**row, "id": row["prediction_id"], "timings": msgspec.json.decode(str(row["timings"]))}
    values["answer"] = msgspec.Raw(str(row["answer"]).encode())
    return msgspec.convert(values, Followed)
