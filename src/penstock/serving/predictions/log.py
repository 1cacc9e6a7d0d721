"""The prediction log of one worker: appended before the caller hears the id, synced to the disk in groups.

A record handed to the kernel survives the death of the process; `_SYNC_S` bounds what a loss of power may take.
A full disk never stops an answer: records wait in a bounded buffer, then are dropped and counted.
"""

import collections
import os
import threading
from datetime import datetime
from pathlib import Path

import msgspec
import structlog

from penstock.core import faults
from penstock.core.clock import Clock
from penstock.serving.predictions.records import frame, make_id, predictions_folder

_events = structlog.get_logger("penstock.serving")
_NOISE_BYTES = 10
_SYNC_S = 0.05


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction on its way to disk: `predictions.Prediction` with fields and answer still encoded."""

    id: str
    at: datetime
    release: str
    serve: str
    fields: msgspec.Raw
    answer: msgspec.Raw
    timings: dict[str, int]
    fallback: bool = False
    error: str | None = None


class PredictionLog:
    """Appends predictions to segment files of its own; used by one thread.

    Args:
        home: The project's store.
        pipeline: Whose predictions.
        worker: Name of this worker, unique among the processes that write now.
        clock: Names segments and ids.
        segment_bytes: Size at which a new segment is started.
        buffer_bytes: Most that waits in memory while the disk is full.
    """

    def __init__(
        self,
        home: Path,
        pipeline: str,
        *,
        worker: str,
        clock: Clock,
        segment_bytes: int = 64 * 2**20,
        buffer_bytes: int = 16 * 2**20,
    ) -> None:
        self._folder = predictions_folder(home, pipeline)
        self._worker = worker
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._encoder = msgspec.json.Encoder()
        self._file = -1
        self._size = 0
        self._segments = 0
        self._waiting: collections.deque[bytes] = collections.deque()
        self._waiting_bytes = 0
        self._buffer_bytes = buffer_bytes
        self._noise = b""
        self._file_lock = threading.Lock()
        self._dirty = threading.Event()
        self._closing = False
        self._failed = False
        self.dropped = 0
        self._syncer = threading.Thread(target=self._sync_until_closed, name="prediction-sync", daemon=True)
        self._syncer.start()

    def new_id(self, at: datetime) -> str:
        """Return a new prediction id."""
        if len(self._noise) < _NOISE_BYTES:
            self._noise = os.urandom(_NOISE_BYTES * 256)
        noise, self._noise = self._noise[:_NOISE_BYTES], self._noise[_NOISE_BYTES:]
        return make_id(at, noise)

    def append(self, entry: LogEntry) -> bool:
        """Hand a prediction to the kernel; return False when it only waits in memory because the disk is full."""
        data = frame(self._encoder.encode(entry))
        try:
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting_bytes -= len(self._waiting.popleft())
            self._write(data)
        except OSError as error:
            self._keep(data, error)
            return False
        if not self._dirty.is_set():
            self._dirty.set()
        self._failed = False
        return True

    def close(self) -> None:
        """Write what waits, sync and close."""
        try:
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            self.dropped += len(self._waiting)
            _events.error("predictions_dropped", dropped=self.dropped, reason=error.strerror)
        self._closing = True
        self._dirty.set()
        self._syncer.join()
        self._end_segment()

    def _write(self, data: bytes) -> None:
        if self._file < 0 or self._size + len(data) > self._segment_bytes:
            self._start_segment()
        faults.point("prediction_mid_write")
        written = os.write(self._file, data)
        if written != len(data):  # the disk filled up within the frame: leave no half of it
            os.ftruncate(self._file, self._size)
            raise OSError(28, "no space left for a whole frame")
        self._size += written

    def _keep(self, data: bytes, error: OSError) -> None:
        if not self._failed:
            _events.warning("prediction_log_stalled", worker=self._worker, reason=error.strerror)
        self._failed = True
        if self._waiting_bytes + len(data) > self._buffer_bytes:
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:  # at 1, 2, 4, 8...: said, but not once per request
                _events.error("predictions_dropped", worker=self._worker, dropped=self.dropped)
            return
        self._waiting.append(data)
        self._waiting_bytes += len(data)

    def _start_segment(self) -> None:
        self._end_segment()
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{int(self._clock.now().timestamp() * 1000):013d}-{self._worker}-{self._segments:06d}.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        with self._file_lock:
            self._file = os.open(self._folder / name, flags, 0o600)
            self._size = 0
            self._segments += 1

    def _end_segment(self) -> None:
        with self._file_lock:
            if self._file >= 0:
                self._sync()
                os.close(self._file)
            self._file = -1

    def _sync(self) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:
            _events.error("prediction_sync_failed", worker=self._worker, reason=error.strerror)

    def _sync_until_closed(self) -> None:
        pause = threading.Event()
        while not self._closing:
            self._dirty.wait()
            self._dirty.clear()
            with self._file_lock:
                if self._file >= 0:
                    self._sync()
            pause.wait(_SYNC_S)
