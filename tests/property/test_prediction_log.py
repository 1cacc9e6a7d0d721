"""Whatever order writing, compacting, failing and reading come in: every kept answer is read once, with its answer."""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.core import faults
from penstock.core.clock import Clock
from penstock.core.errors import StoreError
from penstock.serving.predictions.compaction import compact
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.serving.predictions.reading import predictions_frame, read_predictions

START = datetime(2024, 5, 1, tzinfo=UTC)
POINTS = (
    "compaction_before_intake",
    "intake_mid_write",
    "intake_before_commit",
    "intake_after_commit",
    "compaction_before_remove",
    "compaction_mid_remove",
    "tidy_before_commit",
    "tidy_after_commit",
)
_WRITE = st.tuples(st.just("write"), st.integers(0, 2), st.integers(1, 5))
_END = st.tuples(st.just("end"), st.integers(0, 2), st.just(0))
_COMPACT = st.tuples(st.just("compact"), st.just(0), st.just(0))
_FAIL = st.tuples(st.sampled_from(POINTS), st.just(0), st.integers(1, 2))
_READ = st.tuples(st.just("read"), st.just(0), st.integers(0, 6))


@contextlib.contextmanager
def failing(point: str, visit: int) -> Iterator[None]:
    with patch.dict(os.environ, {"PENSTOCK_FAULT": f"{point}:error:{visit}"}), patch.object(faults, "_visits", {}):
        yield


class Room:
    """Three workers, their log, and what they were told is kept."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.kept: dict[str, int] = {}
        self.at = START
        self.logs = [self._open(n) for n in range(3)]
        self.opened = 3

    def _open(self, number: int) -> PredictionLog:
        clock = Clock(now=lambda: self.at)
        return PredictionLog(self.home, "movies", worker=f"w{number}-1", clock=clock, segment_bytes=600)

    def write(self, worker: int, count: int) -> None:
        log = self.logs[worker]
        entries = []
        for _ in range(count):
            self.at += timedelta(milliseconds=1)
            made = log.new_id(self.at)
            answer = msgspec.Raw(str(len(self.kept)).encode())
            entries.append(
                LogEntry(id=made, at=self.at, release="m@1", serve="f", fields=msgspec.Raw(b"{}"), answer=answer)
            )
            self.kept[made] = len(self.kept)
        assert log.append(entries)

    def end(self, worker: int) -> None:
        self.logs[worker].close()
        self.logs[worker] = self._open(self.opened)
        self.opened += 1

    def compact(self, point: str | None, visit: int) -> None:
        if point is None:
            compact(self.home, "movies", clock=Clock(now=lambda: self.at))
            return
        # As after a kill, the next goes on from there.
        with failing(point, visit), contextlib.suppress(StoreError, OSError):
            compact(self.home, "movies", clock=Clock(now=lambda: self.at))

    def read(self, before_compaction: int) -> None:
        """Read a few, compact in the middle, read the rest."""
        reader = read_predictions(self.home, "movies")
        found = list(itertools.islice(reader, before_compaction))
        self.compact(None, 0)
        found += list(reader)
        self.judge([(one.id, one.answer) for one in found])

    def judge(self, found: list[tuple[str, int]]) -> None:
        assert sorted(found) == sorted(self.kept.items())

    def close(self) -> None:
        for log in self.logs:
            log.close()


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(_WRITE, _WRITE, _END, _COMPACT, _FAIL, _READ), min_size=3, max_size=14))
def test_every_kept_answer_is_read_once_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    """Workers write and end, compactions succeed or fail anywhere, readers read across them."""
    with tempfile.TemporaryDirectory() as folder:
        room = Room(Path(folder))
        try:
            for what, worker, number in steps:
                match what:
                    case "write":
                        room.write(worker, number)
                    case "end":
                        room.end(worker)
                    case "compact":
                        room.compact(None, 0)
                    case "read":
                        room.read(number)
                    case _:
                        room.compact(what, number)
            room.judge([(one.id, one.answer) for one in read_predictions(room.home, "movies")])
        finally:
            room.close()
        room.compact(None, 0)
        rows = predictions_frame(room.home, "movies").select("prediction_id", "answer").collect()
        room.judge([(one, int(answer)) for one, answer in rows.iter_rows()])
