"""Segments: files of frames, one writer each, locked while they are written so that nobody takes them for finished."""

import errno
import fcntl
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import structlog

from penstock.core import faults
from penstock.core.clock import Clock
from penstock.serving.predictions.records import frame, new_seed

SEGMENT_BYTES = 32 * 2**20
_SEGMENT_S = 600.0
_events = structlog.get_logger("penstock.serving")


class Segments:
    """Writes frames to one segment after the other; each is locked until it is finished.

    Args:
        folder: Where they lie.
        worker: Part of their names.
        clock: Names them.
        segment_bytes: Size at which a new one is started; one is started after ten minutes in any case, since only
            finished ones are compacted.
    """

    def __init__(self, folder: Path, *, worker: str, clock: Clock, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._worker = worker
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._file = -1
        self._seed = 0
        self._size = 0
        self._started = 0
        self._end_s = 0.0
        # The syncing thread must not sync a descriptor that was closed meanwhile.
        self._lock = threading.Lock()

    def write(self, items: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Write entries with the rows attached to them, all or none.

        Raises:
            OSError: The disk is full or cannot be written; nothing of them stays.
        """
        if self._file < 0 or self._size > self._segment_bytes or self._clock.monotonic_s() > self._end_s:
            self._start()
        seed = self._seed
        data = b"".join([frame(json, seed=seed, attached=body) for json, body in items])
        faults.point("prediction_mid_write")
        written = os.write(self._file, data)
        if written != len(data):  # the disk filled up within the frames: leave no half of one
            os.ftruncate(self._file, self._size)
            raise OSError(errno.ENOSPC, "no space left for a whole frame")
        self._size += written

    def sync(self) -> None:
        """Make what was written survive a power cut.

        Raises:
            OSError: The disk says that it could not.
        """
        with self._lock:
            if self._file >= 0:
                faults.point("prediction_before_sync")
                os.fdatasync(self._file)

    def close(self) -> None:
        """Sync and finish the segment."""
        with self._lock:
            if self._file < 0:
                return
            try:
                os.fdatasync(self._file)
            except OSError as error:
                _events.error("prediction_sync_failed", worker=self._worker, reason=error.strerror)
            os.close(self._file)
            self._file = -1

    def _start(self) -> None:
        self.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        seed = new_seed()
        name = f"{int(self._clock.now().timestamp() * 1000):013d}-{self._worker}-{self._started:06d}-{seed:08x}.log"
        file = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            is_there = os.fstat(file).st_nlink > 0
        except OSError:
            os.close(file)
            raise
        if not is_there:  # before it was locked it was taken for a dead worker's
            os.close(file)
            raise OSError(errno.EAGAIN, "the new segment was removed")
        with self._lock:
            self._file, self._seed, self._size = file, seed, 0
            self._started += 1
        self._end_s = self._clock.monotonic_s() + _SEGMENT_S
