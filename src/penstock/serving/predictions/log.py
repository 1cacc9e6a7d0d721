"""The prediction log of one worker: appended before the caller hears the id, synced to the disk in groups.

An entry handed to the kernel survives the death of the process; `_SYNC_S` bounds what a loss of power may take, and
`durability="request"` lets it take nothing. A full disk never stops an answer: entries wait in a bounded buffer, then
are dropped and counted. Segments are locked while they are written, so that nobody takes them for finished.
"""

import collections
import os
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from penstock.core.clock import Clock
from penstock.serving.predictions.records import LogEntry, make_id, predictions_folder
from penstock.serving.predictions.redaction import Redaction
from penstock.serving.predictions.segments import SEGMENT_BYTES, Segments

__all__ = ["LogEntry", "PredictionLog"]

_events = structlog.get_logger("penstock.serving")
_NOISE_BYTES = 10
_SYNC_S = 0.05
_BUFFER_BYTES = 16 * 2**20

Durability = Literal["group", "request"]


class PredictionLog:
    """Appends entries to segment files of its own; used by one thread.

    Args:
        home: The project's store.
        pipeline: Whose predictions.
        worker: Name of this worker, unique among the processes that write now.
        clock: Names segments and ids.
        durability: "request" syncs to the disk before `append` returns, once for all its entries.
        redact: Names of fields and columns that are left out of what is stored.
        noise_at: The ten bytes that tell predictions of one moment apart; None draws them, so that none can be guessed.
        segment_bytes: Size at which a new segment is started.
        buffer_bytes: Most that waits in memory while the disk is full.

    Attributes:
        dropped: Entries lost because the disk stayed full.
    """

    def __init__(  # noqa: PLR0913 - the bounds are for tests and rare machines
        self,
        home: Path,
        pipeline: str,
        *,
        worker: str,
        clock: Clock,
        durability: Durability = "group",
        redact: Sequence[str] = (),
        noise_at: Callable[[datetime], bytes] | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        buffer_bytes: int = _BUFFER_BYTES,
    ) -> None:
        self._redaction = Redaction(redact) if redact else None
        self._segments = Segments(
            predictions_folder(home, pipeline), worker=worker, clock=clock, segment_bytes=segment_bytes
        )
        self._worker = worker
        self._given_noise = noise_at
        self._encode = msgspec.json.Encoder().encode
        self._syncs_each = durability == "request"
        self._waiting: collections.deque[tuple[bytes, bytes | None]] = collections.deque()
        self._waiting_bytes = 0
        self._buffer_bytes = buffer_bytes
        self._noise = b""
        self._noise_at = 0
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._has_failed = False
        self.dropped = 0
        self._syncer = threading.Thread(target=self._sync_until_closed, name="prediction-sync", daemon=True)
        self._syncer.start()

    def new_id(self, at: datetime) -> str:
        """Return a new prediction id."""
        if self._given_noise is not None:
            return make_id(at, self._given_noise(at))
        start = self._noise_at
        if start >= len(self._noise):
            self._noise = os.urandom(_NOISE_BYTES * 256)
            start = 0
        self._noise_at = end = start + _NOISE_BYTES
        return make_id(at, self._noise[start:end])

    def append(self, entries: Sequence[LogEntry], attached: Sequence[bytes | None] | None = None) -> bool:
        """Hand entries to the kernel in one write.

        Args:
            entries: What was asked and answered, by one request or several.
            attached: For each entry the rows as they were sent, to be read again as its `kind` says; None for none.

        Returns:
            False when they are not as safe as they should be: the disk is full and they wait in memory, or it failed.
        """
        if self._redaction is not None:
            entries, attached = self._redaction.apply(entries, attached)
        rows = attached or (None,) * len(entries)
        items = [(self._encode(entry), body) for entry, body in zip(entries, rows, strict=True)]
        try:
            if self._waiting:
                self._write_waiting()
            self._segments.write(items)
        except OSError as error:
            self._keep(items, error)
            return False
        self._has_failed = False
        if self._syncs_each:
            return self._sync()
        if not self._dirty.is_set():
            self._dirty.set()
        return True

    def close(self) -> None:
        """Write what waits, sync and close."""
        try:
            self._write_waiting()
        except OSError as error:
            self.dropped += len(self._waiting)
            _events.error("predictions_dropped", worker=self._worker, dropped=self.dropped, reason=error.strerror)
        self._closing.set()
        self._dirty.set()
        self._syncer.join()
        self._segments.close()

    def _write_waiting(self) -> None:
        while self._waiting:
            self._segments.write([self._waiting[0]])
            json, body = self._waiting.popleft()
            self._waiting_bytes -= len(json) + len(body or b"")

    def _keep(self, items: Sequence[tuple[bytes, bytes | None]], error: OSError) -> None:
        if not self._has_failed:
            _events.warning("prediction_log_stalled", worker=self._worker, reason=error.strerror)
        self._has_failed = True
        for json, body in items:
            size_bytes = len(json) + len(body or b"")
            if self._waiting_bytes + size_bytes <= self._buffer_bytes:
                self._waiting.append((json, body))
                self._waiting_bytes += size_bytes
                continue
            self.dropped += 1
            if self.dropped & (self.dropped - 1) == 0:  # at 1, 2, 4, 8...: said, but not once per request
                _events.error("predictions_dropped", worker=self._worker, dropped=self.dropped)

    def _sync_until_closed(self) -> None:
        while not self._closing.is_set():
            self._dirty.wait()
            self._dirty.clear()
            self._sync()
            self._closing.wait(_SYNC_S)

    def _sync(self) -> bool:
        try:
            self._segments.sync()
        except OSError as error:
            _events.error("prediction_sync_failed", worker=self._worker, reason=error.strerror)
            return False
        return True
