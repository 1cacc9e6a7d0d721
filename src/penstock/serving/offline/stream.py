"""A stream: rows answered as they come, each batch kept together with how far the source was read."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from penstock.core.records import Record
from penstock.serving.offline.crew import Crew
from penstock.serving.offline.scoring import Asking, Counts
from penstock.serving.offline.streaming import Batch, StreamSink, StreamSource
from penstock.serving.offline.tasks import Done, Task, WorkerOptions

_WAIT_S = 0.5
_events = structlog.get_logger("penstock.serving")


class Answering(Record, frozen=True, kw_only=True):
    """The release that answers: its reference, and the digest of its manifest's blob."""

    release: str
    manifest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How a stream answers.

    Attributes:
        home: The project's store.
        current: Returns the release that is to answer the next batch.
        cores: Cores for the process that answers.
        is_once: End when there is nothing new, instead of waiting.
        on_batch: Called after each batch with what became of its rows.
    """

    home: Path
    asking: Asking
    current: Callable[[], Answering]
    cores: int = 1
    is_once: bool = False
    on_batch: Callable[[Counts], None] | None = None


class _Desk:
    """The process that answers, with the release that is current."""

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._crew: Crew | None = None
        self._number = 0
        self.answering: Answering | None = None

    def answer(self, batch: Batch, sink: StreamSink) -> Done:
        """Have a batch answered; what its worker's death interrupts is asked again."""
        crew = self._current_crew()
        target = sink.temporary()
        self._number += 1
        path = None if target is None else os.fspath(target)
        crew.submit(Task(number=self._number, piece=batch.piece, target=path, form=sink.form))
        while True:
            for done in crew.results():
                return done

    def close(self) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def _current_crew(self) -> Crew:
        wanted = self._options.current()
        if self._crew is None or wanted != self.answering:
            self.close()
            loading = WorkerOptions(
                home=os.fspath(self._options.home),
                manifest=wanted.manifest,
                asking=self._options.asking,
                parent=os.getpid(),
            )
            self._crew, self.answering = Crew(loading, 1, self._options.cores), wanted
            _events.info("stream_answers", release=wanted.release)
        return self._crew


def run_stream(source: StreamSource, sink: StreamSink, options: StreamOptions) -> Counts:
    """Answer what a source gives until it ends, or a signal asks to stop; return what became of the rows.

    Raises:
        DataError: The source cannot be read.
        StepError: The release cannot be loaded, or its process died three times on the same rows.
        StoreError: The answers cannot be kept.
    """
    desk = _Desk(options)
    with _told_to_stop() as stop:
        try:
            source.open(sink.positions())
            return _follow(source, sink, desk, options, stop=stop)
        finally:
            desk.close()


def _follow(
    source: StreamSource, sink: StreamSink, desk: _Desk, options: StreamOptions, *, stop: threading.Event
) -> Counts:
    total = Counts()
    wait_s = _WAIT_S + (source.settles_s if options.is_once else 0.0)
    while not stop.is_set():
        batch = source.read(wait_s)
        if batch is None and (options.is_once or source.is_at_end()):
            break
        if batch is None:
            continue
        done = desk.answer(batch, sink)
        sink.keep(batch, done.note, done.lines)
        source.commit(batch.position)
        total += done.note.counts
        if options.on_batch is not None:
            options.on_batch(done.note.counts)
    return total


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and Ctrl-C set: what is under way is finished and kept first."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda _number, _frame: told.set())
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
