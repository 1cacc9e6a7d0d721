"""The supervisor: keeps workers alive, swaps releases without dropping a request. It never imports user code."""

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import msgspec
import structlog

from penstock.core.errors import PenstockError
from penstock.core.refs import ReleaseRef
from penstock.core.settings import ServePolicy
from penstock.serving.http.requests import LOOPBACK_NAMES
from penstock.serving.limits import Limits
from penstock.serving.observe.counters import read_beat
from penstock.serving.observe.totals import ServerCounters
from penstock.serving.plane.split import Split
from penstock.serving.processes.addresses import Addresses
from penstock.serving.processes.companions import CompactorOptions, Companion
from penstock.serving.processes.hangs import HangWatch
from penstock.serving.processes.restarts import Restarts
from penstock.serving.processes.sides import Beside, Side, SideOrder
from penstock.serving.processes.spares import Spares
from penstock.serving.processes.workers import Ground, Status, WorkerOptions, WorkerProcess, refusal_error
from penstock.store.keys import Admission

_TICK_S = 0.05
_SETTLED_S = 0.3
_COMPACT_AFTER_S = 5.0
_COMPACT_S = 10.0
_COMPANION_S = 5.0
_COMPACTOR = "penstock.serving.processes.compactor"
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
        beside: Asked together with it: the release that is to answer, or to see, a share of the requests.
        on_unfit: Called once with a release that was to stand beside the live one and cannot be served, and why.
        companions: Further processes beside the workers: module and its argument.
        port: 0 takes any free one.
        grpc_port: For gRPC; 0 takes any free one, None is for no gRPC.
        policy: How long predictions are kept.
        explore: Share of questions that the fallback answers to learn, 0 to 1.
        admission: Which applications may ask; None lets everybody, from this host alone.
        names: Host names beside the loopback names under which callers may ask.
        spares: Processes that wait to replace a worker that dies.
        access_log: File for a line per request, "-" for standard output; None for none.
        otel: URL of an OpenTelemetry collector; None for none.
        is_terminal: People read what the server says about itself.
        on_stage: Called with each thing a first worker does while it loads, in words.
        on_ready: Called once with the URL, and with the host and port for gRPC, when requests are answered.
    """

    pipeline: str
    home: Path
    current_release: Callable[[], LiveRelease | None]
    beside: Callable[[], Beside | Split | None] = lambda: None
    on_unfit: Callable[[ReleaseRef, str], None] = lambda _ref, _why: None
    companions: tuple[tuple[str, str], ...] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    workers: int = 1
    policy: ServePolicy = field(default_factory=ServePolicy)
    explore: float = 0.0
    admission: Admission | None = None
    poll_s: float = 0.5
    names: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    spares: int = 1
    access_log: str | None = None
    otel: str | None = None
    is_terminal: bool = False
    on_stage: Callable[[str], None] | None = None
    on_ready: Callable[[str, str | None], None] | None = None


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
    restarts: Restarts = field(default_factory=lambda: Restarts(live_s=time.monotonic()))
    workers: list[WorkerProcess] = field(default_factory=list)
    told_stages: int = 0
    is_rollback: bool = False

    @property
    def name(self) -> str:
        return "none" if self.release is None else str(self.release.ref)


class Supervisor:
    """Owns the listening socket and the workers; `run` holds the loop.

    Raises:
        InputError: The address is not a loopback one, or is taken.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        self._addresses = Addresses(
            options.host,
            options.port,
            options.grpc_port,
            require_key=options.admission is not None and options.admission.require_key,
        )
        self.url = self._addresses.url
        self._counters = ServerCounters(options.home)
        # A copy: in a worker, standard output itself is for what users print.
        self._access_fd = os.dup(1) if options.access_log == "-" else -1
        self._spares = Spares(
            Ground(
                listen_fd=self._addresses.listener.fileno(),
                is_terminal=options.is_terminal,
                access_fd=self._access_fd,
            )
        )
        self._hangs = HangWatch(options.limits.hang_s, now_s=time.monotonic())
        compacting = CompactorOptions(
            home=str(options.home),
            pipeline=options.pipeline,
            policy=options.policy,
            parent=os.getpid(),
            is_terminal=options.is_terminal,
        )
        self._compactor = Companion(_COMPACTOR, msgspec.json.encode(compacting).decode())
        self._companions = [Companion(module, argument) for module, argument in options.companions]
        self._side = Side(
            self._start_side,
            load_s=options.limits.load_s,
            died=self._fold_dead,
            unfit=options.on_unfit,
        )
        self._beside: Beside | Split | None = None
        self._answering_s: float | None = None
        self._live: _Generation | None = None
        self._coming: _Generation | None = None
        self._before: LiveRelease | None = None
        self._leaving: list[tuple[WorkerProcess, float]] = []
        self._refused: LiveRelease | None = None
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

    @property
    def spare_pids(self) -> list[int]:
        """Process ids of the processes that wait to replace a worker."""
        return self._spares.pids

    @property
    def side_pids(self) -> list[int]:
        """Process ids of the workers that hold the release beside the live one, and answer."""
        return self._side.pids

    @property
    def compactor_pid(self) -> int | None:
        """Process id of the process that compacts predictions; None while there is none."""
        return self._compactor.pid

    @property
    def grpc(self) -> str | None:
        """Host and port for gRPC; None for no gRPC."""
        return self._addresses.grpc

    @property
    def counters(self) -> Path:
        """The folder of the server's counters."""
        return self._counters.folder

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
                self._share()
                self._end_hung()
                self._reap()
                self._keep_spares()
                self._keep_companions()
                stop.wait(_TICK_S)
        finally:
            self._end_all()

    def _look_for_release(self) -> None:
        now = time.monotonic()
        if now < self._next_look_s or self._coming is not None:
            return  # what stands beside stays until the new release answers: it may be the same
        self._next_look_s = now + self._options.poll_s
        try:
            release, beside = self._options.current_release(), self._options.beside()
        except PenstockError as error:  # the ledger may be locked or away for a while; what is loaded goes on
            if self._live is None:
                raise
            if not self._look_failed:
                _events.warning("release_look_up_failed", code=error.code, message=error.message)
            self._look_failed = True
            return
        self._look_failed = False
        if self._side.ref is None or release is None or self._side.ref != release.ref:
            self._beside = beside
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
            self._tell_stages(coming)
            status = self._unfit(coming, worker)
            if status is not None:
                self._refuse(coming, status)
                return
        if all(worker.state == "ready" for worker in coming.workers):
            missing = range(len(coming.workers), self._options.workers)
            if missing:
                coming.workers.extend(self._start_worker(coming, slot) for slot in missing)
                return
            self._go_live(coming)

    def _unfit(self, coming: _Generation, worker: WorkerProcess) -> Status | None:
        """Return why a worker shows that its release cannot be served, or None."""
        if worker.state == "loading" and self._is_late(worker):
            worker.kill()
            message = f"Loading {coming.name} took over {self._options.limits.load_s:g} s ({_stage_of(worker)})."
            return Status(state="refused", code="step", message=message)
        if worker.state == "refused":
            return worker.status
        if worker.state == "dead":
            died = f"The worker ended with code {worker.process.poll()} while loading {coming.name}"
            return Status(state="refused", code="step", message=f"{died} ({_stage_of(worker)}).")
        return None

    def _is_late(self, worker: WorkerProcess) -> bool:
        return time.monotonic() - worker.started_s > self._options.limits.load_s

    def _tell_stages(self, coming: _Generation) -> None:
        stages = coming.workers[0].stages
        if self._options.on_stage is not None:
            for stage in stages[coming.told_stages :]:
                self._options.on_stage(stage)
        coming.told_stages = len(stages)

    def _go_live(self, coming: _Generation) -> None:
        before = self._live
        self._live, self._coming = coming, None
        coming.restarts = Restarts(live_s=time.monotonic())
        status = coming.workers[0].status
        _events.info("release_served", release=coming.name, url=self.url, workers=len(coming.workers))
        if status is not None:
            self._spares.learn(status.libraries)
            if status.differing:
                _events.warning("release_environment_differs", release=coming.name, differing=list(status.differing))
        if before is None:
            self._answering_s = time.monotonic()
            if self._options.on_ready is not None:
                self._options.on_ready(self.url, self.grpc)
            return
        if not coming.is_rollback:  # else what was given up stays refused, and there is nothing to go back to
            self._before, self._refused = before.release, None
        self._counters.note(swaps=1)
        self._beside = None
        self._retire(before.workers)

    def _share(self) -> None:
        """Keep the release that stands beside the live one; tell the live workers whom it, or the fallback, answers."""
        live, count, beside = self._live, self._options.workers, self._beside
        if live is None:
            return
        own = beside if isinstance(beside, Split) else None
        self._retire(self._side.keep(None if isinstance(beside, Split) else beside, workers=count, first_slot=count))
        split = own or self._side.split
        for worker in live.workers:
            if worker.state == "ready":
                worker.share(split)

    def _start_side(self, order: SideOrder) -> WorkerProcess:
        release = LiveRelease(order.beside.ref, order.beside.manifest)
        return self._start(release, order.slot, side=order.socket)

    def _fold_dead(self, worker: WorkerProcess) -> None:
        self._counters.fold(worker.counters)
        self._counters.note(restarts=1)
        _events.error("side_worker_died", pid=worker.pid, code=worker.process.poll(), release=worker.options.release)

    def _refuse(self, coming: _Generation, status: Status) -> None:
        self._coming = None
        self._retire(coming.workers)
        if self._live is None:
            raise refusal_error(status)
        self._refused, self._beside = coming.release, None
        self._counters.note(refused=1)
        _events.error(
            "release_refused", release=coming.name, kept=self._live.name, code=status.code, message=status.message
        )

    def _mend_live(self) -> None:
        live = self._live
        if live is None:
            return
        for place, worker in enumerate(live.workers):
            worker.poll()
            if worker.state == "loading" and self._is_late(worker):
                _events.error("worker_load_timed_out", pid=worker.pid, slot=worker.options.slot)
                worker.end(0)
                worker.poll()
            if worker.state not in {"dead", "refused"}:
                continue
            now_s, slot = time.monotonic(), worker.options.slot
            if not live.restarts.is_noted(slot):
                self._note_death(live, worker, now_s)
            if live.restarts.is_due(slot, now_s=now_s):
                live.restarts.started(slot)
                live.workers[place] = self._start_worker(live, slot)
        if live.restarts.is_hopeless:
            self._roll_back(live)

    def _note_death(self, live: _Generation, worker: WorkerProcess, now_s: float) -> None:
        slot, code = worker.options.slot, worker.process.poll()
        pause_s = live.restarts.died(
            slot, now_s=now_s, ready_s=worker.ready_s, is_own_fault=worker.is_hung or code != -signal.SIGKILL
        )
        self._counters.fold(worker.counters)
        self._counters.note(restarts=1)
        said = worker.status.message if worker.state == "refused" and worker.status is not None else ""
        _events.error("worker_died", pid=worker.pid, slot=slot, code=code, restart_in_s=pause_s, message=said)

    def _roll_back(self, live: _Generation) -> None:
        before = self._before
        if before is None or self._coming is not None:
            return
        _events.error("release_rolled_back", release=live.name, to=str(before.ref), reason="its workers keep dying")
        self._counters.note(refused=1)
        self._before, self._refused = None, live.release
        self._coming = _Generation(before, is_rollback=True)

    def _end_hung(self) -> None:
        if self._live is None or not self._hangs.is_due(time.monotonic()):
            return
        for worker in self._live.workers:
            if worker.state != "ready" or worker.ready_s is None or worker.status is None:
                continue
            silent_s = self._hangs.silence_s(
                read_beat(worker.counters), ready_s=worker.ready_s, longest_s=worker.status.longest_s
            )
            if silent_s is not None:
                slot, release = worker.options.slot, worker.options.release
                _events.error("worker_hung", pid=worker.pid, slot=slot, release=release, silent_s=round(silent_s, 1))
                self._counters.note(hung=1)
                worker.is_hung = True
                worker.kill()

    def _start_worker(self, generation: _Generation, slot: int) -> WorkerProcess:
        return self._start(generation.release, slot)

    def _start(self, release: LiveRelease | None, slot: int, *, side: str | None = None) -> WorkerProcess:
        options = self._options
        worker = self._spares.take()
        worker.load(
            WorkerOptions(
                pipeline=options.pipeline,
                release=None if release is None else str(release.ref),
                manifest=None if release is None else release.manifest,
                home=str(options.home),
                slot=slot,
                names=(*sorted(LOOPBACK_NAMES), *(name.lower() for name in options.names)),
                limits=options.limits,
                counters=str(self._counters.new_file(slot)),
                grpc=self._addresses.grpc,
                access_log=options.access_log,
                otel=options.otel,
                explore=options.explore,
                side=side,
                admission=options.admission if side is None else None,  # who hands a request on has seen to it
            )
        )
        return worker

    def _keep_spares(self) -> None:
        live, coming = self._live, self._coming
        if coming is not None:
            # The others of a release import while its first worker loads.
            self._spares.keep(max(self._options.workers - max(len(coming.workers), 1), self._spares.count))
            return
        if live is None or any(worker.state != "ready" for worker in live.workers):
            return  # those that load need the processor more
        if time.monotonic() - max(worker.ready_s or 0.0 for worker in live.workers) > _SETTLED_S:
            self._spares.keep(self._options.spares)

    def _keep_companions(self) -> None:
        if self._answering_s is None:
            return
        for companion in self._companions:
            companion.keep()
        # No hurry: a server that has just begun has better things to do.
        if time.monotonic() - self._answering_s > _COMPACT_AFTER_S:
            self._compactor.keep()

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
                self._counters.fold(worker.counters)
            else:
                staying.append((worker, deadline_s))
        self._leaving = staying

    def _end_all(self) -> None:
        self._addresses.close()
        self._spares.end()
        for generation in (self._live, self._coming):
            if generation is not None:
                self._retire(generation.workers)
        self._retire(self._side.end())
        for companion in self._companions:
            companion.leave()
            companion.end(_COMPANION_S)
        for worker, deadline_s in self._leaving:
            worker.end(deadline_s - time.monotonic())
        self._leaving = []
        self._live = self._coming = None
        # What the workers wrote last is finished only now.
        self._compactor.leave()
        self._compactor.end(_COMPACT_S)
        self._counters.close()
        if self._access_fd >= 0:
            os.close(self._access_fd)
        _events.info("server_stopped", url=self.url)


def _stage_of(worker: WorkerProcess) -> str:
    return worker.stages[-1] if worker.stages else "starting a worker"
