"""Takes finished segments into the lake exactly once, and removes what is older than policy keeps.

The commit that takes segments in names them, so whoever dies between commit and removal is followed by one who only
removes. Readers leave the named segments out. A segment whose writer lives is locked and not touched.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import structlog

from penstock.core import faults
from penstock.core.clock import Clock
from penstock.core.records import DatasetVersion, Record
from penstock.core.settings import ServePolicy
from penstock.serving.predictions import tables, truth
from penstock.serving.predictions.exploding import explode
from penstock.serving.predictions.records import Damage, Frame, frame, predictions_folder, read_frames
from penstock.store.lake.rules import IntakeRules
from penstock.store.lake.tidying import tidy

_events = structlog.get_logger("penstock.serving")
_ROWS_PER_BATCH = 10_000
_BYTES_PER_BATCH = 8 * 2**20
_SEGMENTS_PER_COMMIT = 500
# What one commit takes in is held in memory, so it is one full segment or many small ones.
_BYTES_PER_COMMIT = 32 * 2**20
# A file that is still empty may be between its making and its lock; its writer needs microseconds for that.
_EMPTY_S = 60.0
# A reader that takes longer than this over the segments is no reason to fill the disk.
_PATIENCE = timedelta(minutes=15)
_GRACE_S = 3600.0
_DAY_S = 86_400.0


class Compacted(Record, frozen=True, kw_only=True):
    """What one compaction did.

    Attributes:
        segments: Segments that were taken in.
        predictions: Answers taken into the table of predictions.
        feedback: Feedback taken into its table.
        damaged: Frames that could not be read and were set aside, in `predictions/PIPELINE/damaged`.
        torn: Ends of segments that a crash cut short, set aside too.
        is_busy: Another process compacts; nothing was done.
    """

    segments: int = 0
    predictions: int = 0
    feedback: int = 0
    damaged: int = 0
    torn: int = 0
    is_busy: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """One of the two things that are kept: its segments, and the table they become.

    Attributes:
        name: The table.
        folder: Where its segments lie.
        key: Columns that name a row; () where rows only come, since what was said last need not arrive last.
        time: Column by which rows become too old.
        rows: The rows of a frame, and whether all of it could be read; raises `msgspec.DecodeError` when it holds
            something else.
        frame: Makes rows a frame of the table.
    """

    name: str
    folder: Path
    key: tuple[str, ...]
    time: str
    rows: Callable[[Frame], tuple[Sequence[Any], bool]]
    frame: Callable[[Sequence[Any]], pl.DataFrame]


def kept_predictions(home: Path, pipeline: str) -> Kept:
    """Return how predictions are kept."""
    folder = predictions_folder(home, pipeline)
    return Kept(tables.PREDICTIONS, folder, ("prediction_id",), "at", _answers, tables.frame_of)


def kept_feedback(home: Path, pipeline: str) -> Kept:
    """Return how feedback is kept."""
    folder = truth.feedback_folder(home, pipeline)
    return Kept(tables.FEEDBACK, folder, (), "received_at", _truths, truth.frame_of_truths)


def taken_segments(version: DatasetVersion | None) -> frozenset[str]:
    """Return the segments that the newest commit took in; they may still lie there."""
    mark = version.watermark if version is not None else None
    return frozenset(mark["segments"]) if isinstance(mark, dict) else frozenset()


def compact(home: Path, pipeline: str, policy: ServePolicy | None = None, *, clock: Clock | None = None) -> Compacted:
    """Take the finished segments of a pipeline into the lake, and remove what is too old.

    Args:
        home: The project's store.
        pipeline: Whose.
        policy: How long predictions are kept; None keeps them for ever.
        clock: Where times come from.

    Returns:
        What was done; nothing at all when another process is at it.

    Raises:
        StoreError: The disk is full or cannot be written; what was not taken in stays where it was.
        OSError: Likewise, from the segments' side.
    """
    clock = clock or Clock()
    with tables.compacting(home, pipeline) as is_mine:
        if not is_mine:
            return Compacted(is_busy=True)
        done = Compacted()
        for kept in (kept_predictions(home, pipeline), kept_feedback(home, pipeline)):
            done = _Work(home, pipeline, kept, clock).take_all(done)
            _keep_in_shape(home, pipeline, kept, policy, clock=clock)
    return done


class _Work:
    """One compaction of one table."""

    def __init__(self, home: Path, pipeline: str, kept: Kept, clock: Clock) -> None:
        self._home = home
        self._pipeline = pipeline
        self._kept = kept
        self._clock = clock
        self._table = tables.table_of(home, pipeline, kept.name)
        self._damaged = 0
        self._torn = 0
        self._rows = 0

    def take_all(self, done: Compacted) -> Compacted:
        """Take in what is finished; return `done` with it added."""
        segments = 0
        while self._remove_taken() and (names := self._finished()):
            self._take(names)
            segments += len(names)
        found: dict[str, int] = {"predictions" if self._kept.name == tables.PREDICTIONS else "feedback": self._rows}
        return msgspec.structs.replace(
            done,
            segments=done.segments + segments,
            damaged=done.damaged + self._damaged,
            torn=done.torn + self._torn,
            **found,
        )

    def _finished(self) -> list[str]:
        names: list[str] = []
        size_bytes = 0
        for path in sorted(self._kept.folder.glob("*.log")):
            if len(names) >= _SEGMENTS_PER_COMMIT or size_bytes >= _BYTES_PER_COMMIT:
                break
            if _is_finished(path):
                names.append(path.name)
                size_bytes += path.stat().st_size
        return names

    def _take(self, names: Sequence[str]) -> None:
        before = self._table.latest()
        rules = IntakeRules(
            key=self._kept.key,
            time=self._kept.time,
            expected_version=0 if before is None else before.version,
            cursor=lambda: {"segments": list(names), "damaged": _damage_so_far(before) + self._damaged},
            taken_at=self._clock.now(),
            evolve=True,
        )
        faults.point("compaction_before_intake")
        version = self._table.intake(self._frames(names), rules)
        if version is None:  # no good frame in any of them: nothing names them, and nothing in them is lost
            _remove(self._kept.folder, names)
            return
        self._rows += version.rows_added
        _events.info(
            "predictions_compacted", table=self._kept.name, version=version.version, rows=version.rows_added,
            segments=len(names), damaged=self._damaged, torn=self._torn,
        )  # fmt: skip

    def _frames(self, names: Sequence[str]) -> Iterator[pl.DataFrame]:
        rows: list[Any] = []
        size_bytes = 0
        for name in names:
            for part in read_frames(self._kept.folder / name):
                if isinstance(part, Damage):
                    self._set_aside(name, part)
                    continue
                rows += self._rows_of(name, part)
                size_bytes += len(part.json) + 4 * len(part.attached or b"")
                if len(rows) >= _ROWS_PER_BATCH or size_bytes >= _BYTES_PER_BATCH:
                    yield self._sorted(rows)
                    rows, size_bytes = [], 0
        if rows:
            yield self._sorted(rows)

    def _sorted(self, rows: Sequence[Any]) -> pl.DataFrame:
        frame = self._kept.frame(rows)
        return frame.sort(self._kept.key) if self._kept.key else frame

    def _rows_of(self, name: str, part: Frame) -> Sequence[Any]:
        try:
            rows, is_whole = self._kept.rows(part)
        except msgspec.DecodeError:
            rows, is_whole = (), False
        if not is_whole:
            self._set_aside(name, Damage(part.at, frame(part.json, attached=part.attached), is_torn=False))
        return rows

    def _set_aside(self, name: str, damage: Damage) -> None:
        if damage.is_torn:
            self._torn += 1
        else:
            self._damaged += 1
        _events.warning("prediction_bytes_set_aside", segment=name, at=damage.at, size_bytes=len(damage.data))
        folder = damaged_folder(self._home, self._pipeline)
        folder.mkdir(parents=True, exist_ok=True)
        # Named by what it is, so that doing it again after a crash makes one file.
        target = folder / f"{name.removesuffix('.log')}-{damage.at:012d}.bin"
        temporary = target.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(damage.data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)

    def _remove_taken(self) -> bool:
        """Remove the segments that were taken in; False while somebody reads them."""
        latest = self._table.latest()
        left = [name for name in taken_segments(latest) if (self._kept.folder / name).exists()]
        if not left or latest is None:
            return True
        with tables.removing(self._home, self._pipeline) as is_free:
            waited = self._clock.now() - (latest.taken_at or self._clock.now())
            if not is_free and waited < _PATIENCE:
                return False
            faults.point("compaction_before_remove")
            _remove(self._kept.folder, left)
        return True


def damaged_folder(home: Path, pipeline: str) -> Path:
    """Return where bytes lie that could not be read."""
    return predictions_folder(home, pipeline) / "damaged"


def _answers(part: Frame) -> tuple[Sequence[Any], bool]:
    found = explode(part)
    return found.rows, found.is_whole


def _truths(part: Frame) -> tuple[Sequence[Any], bool]:
    return (truth.truth_of_frame(part),), True


def _is_finished(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(descriptor)
        if found.st_size:
            return True
        if time.time() - found.st_mtime > _EMPTY_S:
            path.unlink()
    except BlockingIOError:
        pass
    finally:
        os.close(descriptor)
    return False


def _remove(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)
        faults.point("compaction_mid_remove")


def _damage_so_far(version: DatasetVersion | None) -> int:
    mark = version.watermark if version is not None else None
    return int(mark.get("damaged", 0)) if isinstance(mark, dict) else 0


def _keep_in_shape(home: Path, pipeline: str, kept: Kept, policy: ServePolicy | None, *, clock: Clock) -> None:
    now = clock.now()
    before = _oldest_kept(policy, now)
    folder = tables.table_folder(home, pipeline, kept.name)
    if not folder.is_dir():
        return
    tidied = tidy(folder, before=before, taken_at=now)
    if tidied is not None:
        _events.info("predictions_tidied", table=kept.name, version=tidied.version, rows=tidied.rows)
    if before is not None:
        _remove_old_damage(damaged_folder(home, pipeline), before)
    _vacuum(home, pipeline, kept, now)


def _oldest_kept(policy: ServePolicy | None, now: datetime) -> datetime | None:
    keep_s = None if policy is None else policy.keep_s
    if keep_s is None:
        return None
    # In steps, since each step writes the file anew in which the limit falls.
    step_s = max(1.0, min(_DAY_S, keep_s / 20))
    limit_s = now.timestamp() - keep_s
    return datetime.fromtimestamp(limit_s - limit_s % step_s, now.tzinfo)


def _remove_old_damage(folder: Path, before: datetime) -> None:
    for path in folder.glob("*.bin") if folder.is_dir() else ():
        if path.stat().st_mtime < before.timestamp():
            path.unlink(missing_ok=True)


def _vacuum(home: Path, pipeline: str, kept: Kept, now: datetime) -> None:
    """Remove files that no version of the last hour needs, at most every half hour."""
    mark = tables.table_folder(home, pipeline, kept.name) / "_vacuumed"
    with contextlib.suppress(FileNotFoundError):
        if time.time() - mark.stat().st_mtime < _GRACE_S / 2:
            return
    table = tables.table_of(home, pipeline, kept.name)
    limit = now - timedelta(seconds=_GRACE_S)
    versions = table.versions()
    recent = [version.version for version in versions if version.taken_at is None or version.taken_at >= limit]
    # A reader may have begun with the one that was newest then.
    first = recent[0] - 1 if recent else 0
    table.vacuum(keep=[*recent, *([first] if first else [])], grace_s=_GRACE_S, dry_run=False)
    mark.touch()
