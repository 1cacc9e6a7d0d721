"""Counters of one worker: float64 numbers in a memory-mapped file that every worker of the server can read.

An increment is a write to memory: no lock, no system call, no allocation that lasts. The file outlives the worker, so
what a killed one counted is not lost.
"""

import mmap
import os
import time
from bisect import bisect_left
from pathlib import Path
from typing import Self

import msgspec
import structlog

from penstock.core.records import Record
from penstock.serving.observe import metrics
from penstock.serving.observe.metrics import OTHER, PROTOCOLS, Key, Metric, places

_events = structlog.get_logger("penstock.serving")
_HEAD_BYTES = 16  # length of the description, then the time of the last beat
_SECONDS_NS = tuple(int(bound * 1e9) for bound in metrics.SECONDS.buckets)
_ROWS = tuple(int(bound) for bound in metrics.BATCH_ROWS.buckets)


class Worker(Record, frozen=True, kw_only=True):
    """Whose counters a file holds.

    Attributes:
        release: "movies@3", "" while there is none.
        functions: Serve functions of the release.
    """

    slot: int
    pid: int
    pipeline: str
    release: str = ""
    functions: tuple[str, ...] = ()


class _Seat(msgspec.Struct, frozen=True):
    """Where the numbers of one function in one protocol stand."""

    statuses: dict[str, int]
    failed: int
    buckets: int
    seconds: int
    rows: int


class Counters:
    """The counters of this worker, for its event loop only; unknown labels count as "other", nothing raises.

    Args:
        path: Its file, made here; None keeps the numbers in memory that nobody else sees.
        worker: Whose counters they are.
    """

    def __init__(self, path: Path | None, worker: Worker) -> None:
        self._path = path
        self._places, count = places(worker.functions)
        about = msgspec.json.encode(worker)
        about += b" " * (-len(about) % 8)  # numbers stand at multiples of eight, so that each is written at once
        start = _HEAD_BYTES + len(about)
        head = len(about).to_bytes(8, "little") + bytes(8) + about
        self._memory = _shared(path, head + bytes(count * 8)) if path is not None else None
        if self._memory is None:
            self._memory = mmap.mmap(-1, start + count * 8)
        self._view = memoryview(self._memory)
        self._beat = self._view[8:16].cast("d")
        self._numbers = self._view[start:].cast("d")
        self._functions = frozenset(worker.functions)
        self._prepare()
        self.beat()

    def served(  # noqa: PLR0917  # called for every question: keywords would cost a tenth of it
        self, function: str, protocol: str, status: str, latency_ns: int, rows: int
    ) -> None:
        """Count one question that was asked and answered, refused by the plane, or failed.

        Args:
            function: The serve function.
            protocol: One of `metrics.PROTOCOLS`.
            status: One of `metrics.STATUSES`.
            latency_ns: From the question, read, to its answer.
            rows: Answers given.
        """
        seat = self._seats.get((function, protocol)) or self._seat(function, protocol)
        numbers = self._numbers
        numbers[seat.statuses.get(status, seat.failed)] += 1.0
        numbers[seat.buckets + bisect_left(_SECONDS_NS, latency_ns)] += 1.0
        numbers[seat.seconds] += latency_ns * 1e-9
        numbers[seat.rows] += rows

    def batch(self, function: str, rows: int) -> None:
        """Count one call of a function of rows with `rows` rows."""
        base = self._places[metrics.BATCH_ROWS.name, (self._known(function),)]
        self._numbers[base + bisect_left(_ROWS, rows)] += 1.0
        self._numbers[base + len(_ROWS) + 1] += rows

    def fell_back(self, function: str, reason: str) -> None:
        """Count one question that the fallback answered; `reason` is one of `metrics.REASONS`."""
        name = reason if reason in metrics.REASONS else "function_failed"
        self._numbers[self._places[metrics.FALLBACKS.name, (self._known(function), name)]] += 1.0

    def shed(self, function: str) -> None:
        """Count one question that was turned away at once."""
        self._numbers[self._places[metrics.SHED.name, (self._known(function),)]] += 1.0

    def not_finite(self, function: str) -> None:
        """Count one answer that was NaN or infinite and was not sent."""
        self._numbers[self._places[metrics.NOT_FINITE.name, (self._known(function),)]] += 1.0

    def compared(self, function: str, count: int = 1, *, differing: int = 0) -> None:
        """Count answers of a faster equivalent that were compared with the original's, and those that differed."""
        known = (self._known(function),)
        self._numbers[self._places[metrics.COMPARED.name, known]] += count
        self._numbers[self._places[metrics.DIFFERING.name, known]] += differing

    def refused(self, code: int) -> None:
        """Count one request that was refused with an HTTP status before any function was asked."""
        self._numbers[self._refusals.get(code, self._refusals_other)] += 1.0

    def add(self, metric: Metric, amount: float = 1.0) -> None:
        """Add to a metric without labels."""
        self._numbers[self._places[metric.name, ()]] += amount

    def put(self, metric: Metric, value: float) -> None:
        """Set a metric without labels: a gauge, or a total that is counted elsewhere in this process."""
        self._numbers[self._places[metric.name, ()]] = value

    def values(self, metric: Metric) -> list[tuple[tuple[str, ...], float]]:
        """Return the label values and numbers of a counter's or gauge's series that are not zero."""
        found = [(key[1], self._numbers[at]) for key, at in self._places.items() if key[0] == metric.name]
        return [(labels, value) for labels, value in found if value]

    def beat(self) -> None:
        """Say that the event loop turns: note the time, and the CPU time this process has used."""
        self._beat[0] = time.monotonic()
        self._numbers[self._places[metrics.CPU.name, ()]] = time.process_time()

    def close(self) -> None:
        """Let go of the memory; the file stays for the supervisor to fold."""
        for view in (self._numbers, self._beat, self._view):
            view.release()
        if self._memory is not None:
            self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        self._refusals_other = self._places[metrics.REFUSED.name, (OTHER,)]
        self._refusals = {code: self._places[metrics.REFUSED.name, (str(code),)] for code in metrics.REFUSALS}
        self._seats = {
            (function, protocol): self._make_seat(function, protocol)
            for function in (*sorted(self._functions), OTHER)
            for protocol in PROTOCOLS
        }

    def _make_seat(self, function: str, protocol: str) -> _Seat:
        key = (function, protocol)
        statuses = {s: self._places[metrics.REQUESTS.name, (*key, s)] for s in metrics.STATUSES}
        buckets = self._places[metrics.SECONDS.name, key]
        return _Seat(
            statuses=statuses,
            failed=statuses["function_failed"],
            buckets=buckets,
            seconds=buckets + len(_SECONDS_NS) + 1,
            rows=self._places[metrics.ROWS.name, key],
        )

    def _seat(self, function: str, protocol: str) -> _Seat:
        return self._seats[self._known(function), protocol if protocol in PROTOCOLS else OTHER]

    def _known(self, function: str) -> str:
        return function if function in self._functions else OTHER


class Read(Record, frozen=True, kw_only=True):
    """What a file of counters says.

    Attributes:
        beat_s: Monotonic time at which the worker's event loop last turned.
        values: The numbers of each series that is not zero: one, or a histogram's buckets and sum.
    """

    worker: Worker
    beat_s: float
    values: dict[Key, tuple[float, ...]]


def read_counters(path: Path) -> Read | None:
    """Return what a worker has counted; None when the file is gone or is not whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    start = _HEAD_BYTES + int.from_bytes(data[:8], "little")
    if len(data) <= start or (len(data) - start) % 8:
        return None
    worker = msgspec.json.decode(data[_HEAD_BYTES:start], type=Worker)
    numbers = memoryview(data)[start:].cast("d")
    found, _ = places(worker.functions)
    cells = {metric.name: metric.cells for metric in metrics.METRICS}
    values = {key: tuple(numbers[at : at + cells[key[0]]]) for key, at in found.items()}
    beat = memoryview(data)[8:16].cast("d")[0]
    return Read(worker=worker, beat_s=beat, values={key: cell for key, cell in values.items() if any(cell)})


def read_beat(path: Path) -> float | None:
    """Return the monotonic time at which a worker's event loop last turned; None when it has no file."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    return memoryview(head)[8:16].cast("d")[0] if len(head) == _HEAD_BYTES else None


def _shared(path: Path, content: bytes) -> mmap.mmap | None:
    # Written out in full: a hole in the file would end the process with SIGBUS on a disk that is full by then.
    partial = path.with_name(path.name + ".partial")
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(28, "no space left for the counters")
            memory = mmap.mmap(descriptor, len(content))
            partial.rename(path)
            return memory
        finally:
            os.close(descriptor)
    except OSError as error:
        # A server that cannot count still answers.
        partial.unlink(missing_ok=True)
        _events.warning("counters_not_shared", reason=error.strerror)
        return None
