"""Takes feedback in: written to segments of its own and on the disk before anybody is told that it was received."""

import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from penstock.core import faults
from penstock.core.clock import Clock
from penstock.serving.predictions.segments import Segments
from penstock.serving.predictions.truth import Truth, feedback_folder

_events = structlog.get_logger("penstock.serving")
_WAITING_BYTES = 16 * 2**20


class _Parcel(NamedTuple):
    items: list[tuple[bytes, bytes | None]]
    size_bytes: int
    done: Callable[[bool], None]


class FeedbackLog:
    """Writes feedback in a thread of its own; what arrives while the disk is busy is synced together.

    Args:
        home: The project's store.
        pipeline: Whose.
        worker: Name of this worker, unique among the processes that write now.
        clock: Names segments.
        waiting_bytes: Most that waits for the disk.
    """

    def __init__(
        self, home: Path, pipeline: str, *, worker: str, clock: Clock, waiting_bytes: int = _WAITING_BYTES
    ) -> None:
        self.clock = clock
        self._segments = Segments(feedback_folder(home, pipeline), worker=worker, clock=clock)
        self._encode = msgspec.json.Encoder().encode
        self._parcels: queue.SimpleQueue[_Parcel | None] = queue.SimpleQueue()
        self._waiting_bytes = 0
        self._most_bytes = waiting_bytes
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._has_failed = False

    def submit(self, truths: Sequence[Truth], done: Callable[[bool], None]) -> bool:
        """Write feedback; `done` is told, from another thread, whether it is on the disk now.

        Returns:
            False when too much waits already; then nothing is written and `done` is not called.
        """
        items: list[tuple[bytes, bytes | None]] = [(self._encode(truth), None) for truth in truths]
        size_bytes = sum(len(json) for json, _ in items)
        with self._lock:
            if self._waiting_bytes + size_bytes > self._most_bytes:
                return False
            self._waiting_bytes += size_bytes
            if self._thread is None:  # feedback is rare: most workers never need the thread
                self._thread = threading.Thread(target=self._write_until_closed, name="feedback", daemon=True)
                self._thread.start()
        self._parcels.put(_Parcel(items, size_bytes, done))
        return True

    def write(self, truths: Sequence[Truth]) -> bool:
        """Write feedback and wait until it is on the disk; return whether it is."""
        settled = threading.Event()
        kept: list[bool] = []

        def done(is_kept: bool) -> None:  # noqa: FBT001 - what `submit` calls
            kept.append(is_kept)
            settled.set()

        if not self.submit(truths, done):
            return False
        settled.wait()
        return kept[0]

    def close(self) -> None:
        """Write what waits and finish the segment."""
        if self._thread is not None:
            self._parcels.put(None)
            self._thread.join()
            self._thread = None
        self._segments.close()

    def _write_until_closed(self) -> None:
        while True:
            parcels, is_last = self._waiting()
            if parcels:
                is_kept = self._write_all(parcels)
                with self._lock:
                    self._waiting_bytes -= sum(parcel.size_bytes for parcel in parcels)
                for parcel in parcels:
                    parcel.done(is_kept)
            if is_last:
                return

    def _waiting(self) -> tuple[list[_Parcel], bool]:
        found = []
        parcel = self._parcels.get()
        while parcel is not None:
            found.append(parcel)
            try:
                parcel = self._parcels.get_nowait()
            except queue.Empty:
                return found, False
        return found, True

    def _write_all(self, parcels: Sequence[_Parcel]) -> bool:
        try:
            self._segments.write([item for parcel in parcels for item in parcel.items])
            faults.point("feedback_before_sync")
            self._segments.sync()
        except OSError as error:
            if not self._has_failed:
                _events.error("feedback_not_written", reason=error.strerror)
            self._has_failed = True
            return False
        self._has_failed = False
        return True
