"""The supervisor: keeps workers alive, swaps releases without dropping a request. It never imports user code."""

import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import structlog

from penstock.core.errors import InputError, PenstockError
from penstock.core.refs import ReleaseRef
from penstock.serving.http.requests import LOOPBACK_NAMES
from penstock.serving.limits import Limits
from penstock.serving.processes.workers import Status, WorkerOptions, WorkerProcess, listen, refusal_error

_TICK_S = 0.05
_LOAD_S = 120.0
_HEALTHY_S = 2.0
_BACKOFF_S = (0.0, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_events = structlog.get_logger("penstock.serving")


@dataclass(frozen=True, slots=True)
class LiveRelease:
    """The release to serve: its reference, and the digest of its manifest's blob."""

    ref: ReleaseRef
    manifest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How to serve a pipeline.

    Attributes:
        home: The project's store; workers read `blobs/` and write `predictions/` and `code/` in it.
        current_release: Asked every `poll_s`; None while there is no release.
        port: 0 takes any free one.
        names: Host names beside the loopback names under which callers may ask.
        on_ready: Called once with the URL when requests are answered.
    """

    pipeline: str
    home: Path
    current_release: Callable[[], LiveRelease | None]
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    poll_s: float = 0.5
    names: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    on_ready: Callable[[str], None] | None = None


def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is under way and return.

    Raises:
        InputError: The address is not a loopback one, or is taken.
        PenstockError: The first release cannot be loaded; the worker's own error.
    """
    stop = threading.Event()

    def told(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        Supervisor(options).run(stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(slots=True)
class _Generation:
    """The workers of one release."""

    release: LiveRelease | None
    workers: list[WorkerProcess] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "none" if self.release is None else str(self.release.ref)


class Supervisor:
    """Owns the listening socket and the workers; `run` holds the loop.

    Raises:
        InputError: The address is not a loopback one, or is taken.
    """

    def __init__(self, options: ServeOptions) -> None:
        if options.host not in LOOPBACK_NAMES:
            raise InputError(
                f"Serving on {options.host!r} is refused: callers are not authenticated yet.",
                hint="serve on 127.0.0.1 and put a proxy that authenticates in front",
            )
        host = "127.0.0.1" if options.host == "localhost" else options.host
        try:
            self._listener: socket.socket = listen(host, options.port)
        except OSError as error:
            raise InputError(
                f"Port {options.port} of {host} cannot be used: {error.strerror}.", hint="choose another with --port"
            ) from error
        self._options = options
        port = self._listener.getsockname()[1]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._live: _Generation | None = None
        self._coming: _Generation | None = None
        self._leaving: list[tuple[WorkerProcess, float]] = []
        self._refused: LiveRelease | None = None
        self._crashes: dict[int, int] = {}
        self._restart_at_s: dict[int, float] = {}
        self._next_look_s = 0.0
        self._look_failed = False

    @property
    def is_answering(self) -> bool:
        """Whether workers of a release (or of none) accept requests."""
        return self._live is not None

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that answer now."""
        return [] if self._live is None else [w.pid for w in self._live.workers if w.state == "ready"]

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set.

        Raises:
            PenstockError: The first release cannot be loaded.
        """
        try:
            while not stop.is_set():
                self._look_for_release()
                self._advance_coming()
                self._mend_live()
                self._reap()
                stop.wait(_TICK_S)
        finally:
            self._end_all()

    def _look_for_release(self) -> None:
        now = time.monotonic()
        if now < self._next_look_s or self._coming is not None:
            return
        self._next_look_s = now + self._options.poll_s
        try:
            release = self._options.current_release()
        except PenstockError as error:  # the ledger may be locked or away for a while; what is loaded goes on
            if self._live is None:
                raise
            if not self._look_failed:
                _events.warning("release_look_up_failed", code=error.code, message=error.message)
            self._look_failed = True
            return
        self._look_failed = False
        if release == self._refused and release is not None:
            return
        if self._live is None or (release is not None and release != self._live.release):
            self._coming = _Generation(release)

    def _advance_coming(self) -> None:
        coming = self._coming
        if coming is None:
            return
        if not coming.workers:  # one worker proves that the release loads before the others cost memory
            coming.workers.append(self._start_worker(coming, 0))
        for worker in coming.workers:
            worker.poll()
            if worker.state == "loading" and time.monotonic() - worker.started_s > _LOAD_S:
                self._refuse(
                    coming, Status(state="refused", code="step", message=f"Loading took over {_LOAD_S:.0f} s.")
                )
                return
            if worker.state in {"refused", "dead"}:
                died = f"The worker ended with code {worker.process.poll()} while loading {coming.name}."
                self._refuse(coming, worker.refusal or Status(state="refused", code="step", message=died))
                return
        if all(worker.state == "ready" for worker in coming.workers):
            missing = range(len(coming.workers), self._options.workers)
            if missing:
                coming.workers.extend(self._start_worker(coming, slot) for slot in missing)
                return
            self._go_live(coming)

    def _go_live(self, coming: _Generation) -> None:
        before = self._live
        self._live, self._coming, self._refused = coming, None, None
        self._crashes.clear()
        self._restart_at_s.clear()
        _events.info("release_served", release=coming.name, url=self.url, workers=len(coming.workers))
        differing = coming.workers[0].differing
        if differing:
            _events.warning("release_environment_differs", release=coming.name, differing=list(differing))
        if before is None:
            if self._options.on_ready is not None:
                self._options.on_ready(self.url)
            return
        self._retire(before.workers)

    def _refuse(self, coming: _Generation, status: Status) -> None:
        self._coming = None
        self._retire(coming.workers)
        if self._live is None:
            raise refusal_error(status)
        self._refused = coming.release
        _events.error(
            "release_refused", release=coming.name, kept=self._live.name, code=status.code, message=status.message
        )

    def _mend_live(self) -> None:
        live = self._live
        if live is None:
            return
        for place, worker in enumerate(live.workers):
            was_counted = worker.state in {"dead", "refused"}
            worker.poll()
            if worker.state not in {"dead", "refused"}:
                continue
            now, slot = time.monotonic(), worker.options.slot
            if not was_counted or slot not in self._restart_at_s:
                self._note_death(worker, now)
            if now >= self._restart_at_s[slot]:
                del self._restart_at_s[slot]
                live.workers[place] = self._start_worker(live, slot)

    def _note_death(self, worker: WorkerProcess, now: float) -> None:
        slot = worker.options.slot
        lived_s = now - worker.started_s
        crashes = 0 if lived_s > _HEALTHY_S else self._crashes.get(slot, 0) + 1
        self._crashes[slot] = crashes
        wait_s = _BACKOFF_S[min(crashes, len(_BACKOFF_S) - 1)]
        self._restart_at_s[slot] = now + wait_s
        said = "" if worker.refusal is None else worker.refusal.message
        _events.error(
            "worker_died", pid=worker.pid, slot=slot, code=worker.process.poll(), restart_in_s=wait_s, message=said
        )

    def _start_worker(self, generation: _Generation, slot: int) -> WorkerProcess:
        release, options = generation.release, self._options
        return WorkerProcess(
            WorkerOptions(
                pipeline=options.pipeline,
                release=None if release is None else str(release.ref),
                manifest=None if release is None else release.manifest,
                home=str(options.home),
                slot=slot,
                names=(*sorted(LOOPBACK_NAMES), *(name.lower() for name in options.names)),
                limits=options.limits,
                listen_fd=self._listener.fileno(),
            )
        )

    def _retire(self, workers: list[WorkerProcess]) -> None:
        deadline_s = time.monotonic() + self._options.limits.drain_s + 5.0
        for worker in workers:
            worker.leave()
            self._leaving.append((worker, deadline_s))

    def _reap(self) -> None:
        staying = []
        for worker, deadline_s in self._leaving:
            if worker.process.poll() is not None or time.monotonic() > deadline_s:
                worker.end(0)
            else:
                staying.append((worker, deadline_s))
        self._leaving = staying

    def _end_all(self) -> None:
        self._listener.close()
        for generation in (self._live, self._coming):
            if generation is not None:
                self._retire(generation.workers)
        for worker, deadline_s in self._leaving:
            worker.end(deadline_s - time.monotonic())
        self._leaving = []
        self._live = self._coming = None
        _events.info("server_stopped", url=self.url)
