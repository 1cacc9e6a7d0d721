"""The access log: a line of JSON per request, without anything of what was asked or answered."""

import contextlib
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from penstock.core.records import Record
from penstock.serving.observe.exchanges import Exchange

_events = structlog.get_logger("penstock.serving")
_LOOK_S = 1.0


class AccessLine(Record, frozen=True, kw_only=True):
    """One line.

    Attributes:
        path: "" when there is nothing at it, as it is the caller's own words then.
        bytes_in: Size of the request's body.
        bytes_out: Size of the reply's body.
        consumer: The application that asked, as it calls itself.
    """

    event: str = "request_answered"
    timestamp: str
    worker: int
    release: str
    method: str
    path: str
    status: int
    duration_ms: float
    bytes_in: int
    bytes_out: int
    prediction_id: str = ""
    consumer: str = ""


class AccessLog:
    """Writes lines to a file or a descriptor; a disk that is full loses lines, never answers.

    Args:
        path: File to append to; None writes to `descriptor`. When it was moved away, as `logrotate` does, a new one is
            made within a second.
        descriptor: Where lines go without a file.
        worker: Slot of this worker.
        release: The release that answers.
    """

    def __init__(self, path: Path | None, *, descriptor: int = -1, worker: int, release: str) -> None:
        self._path = path
        self._file = descriptor
        self._worker = worker
        self._release = release
        self._encode = msgspec.json.Encoder().encode
        self._has_failed = False
        self._look_at_s = 0.0
        self.dropped = 0

    def write(self, exchange: Exchange) -> None:
        """Write the line of one exchange, in one piece."""
        request, reply = exchange.request, exchange.reply
        line = AccessLine(
            timestamp=datetime.fromtimestamp(exchange.at_ns / 1e9, tz=UTC).isoformat(),
            worker=self._worker,
            release=self._release,
            method=request.method,
            path=exchange.route,
            status=reply.status,
            duration_ms=round(exchange.duration_ns / 1e6, 3),
            bytes_in=len(request.body),
            bytes_out=len(reply.body),
            prediction_id=exchange.prediction_id,
            consumer=exchange.consumer,
        )
        try:
            self._open()
            os.write(self._file, self._encode(line) + b"\n")
        except OSError as error:
            self.dropped += 1
            if not self._has_failed:
                _events.warning("access_log_failed", reason=error.strerror)
            self._has_failed = True
            return
        self._has_failed = False

    def close(self) -> None:
        """Close the file."""
        if self._path is not None and self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        if self._path is None or time.monotonic() < self._look_at_s:
            return
        self._look_at_s = time.monotonic() + _LOOK_S
        if self._file >= 0 and _is_at(self._path, self._file):
            return
        self.close()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o640)


def _is_at(path: Path, descriptor: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False
