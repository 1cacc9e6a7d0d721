"""The workers of a release that stands beside the live one: started, watched, told of to those who hand requests on."""

import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from penstock.core.refs import ReleaseRef
from penstock.serving.plane.split import Split, Variant
from penstock.serving.processes.restarts import Restarts
from penstock.serving.processes.workers import WorkerProcess

_events = structlog.get_logger("penstock.serving")
_HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A release that is to answer, or to see, a share of the requests.

    Attributes:
        manifest: Digest of the manifest's blob.
        share: Of the keys that it answers, 0 to 1.
        salt: What the split is for.
    """

    ref: ReleaseRef
    manifest: str
    share: float
    salt: str
    variant: Variant


@dataclass(frozen=True, slots=True, kw_only=True)
class SideOrder:
    """What a side worker is to load.

    Attributes:
        slot: Its place among the workers of the server.
        socket: Where it is to listen.
    """

    beside: Beside
    slot: int
    socket: str


class Side:
    """The side workers of a server; `keep` never waits.

    Args:
        start: Starts a worker.
        load_s: Longest time to load.
        died: Told of a worker that died.
        unfit: Told once of a release that cannot be served, and why.
    """

    def __init__(
        self,
        start: Callable[[SideOrder], WorkerProcess],
        *,
        load_s: float,
        died: Callable[[WorkerProcess], None],
        unfit: Callable[[ReleaseRef, str], None],
    ) -> None:
        self._start = start
        self._load_s = load_s
        self._died = died
        self._tell_unfit = unfit
        self._folder = tempfile.TemporaryDirectory(prefix="penstock-")  # paths of sockets are short
        self._wanted: Beside | None = None
        self._workers: list[WorkerProcess] = []
        self._sockets: list[str] = []
        self._restarts = Restarts(live_s=time.monotonic())
        self._unfit: tuple[ReleaseRef, str] | None = None
        self._started = 0

    @property
    def ref(self) -> ReleaseRef | None:
        """The release that stands beside; None for none."""
        return None if self._wanted is None else self._wanted.ref

    @property
    def pids(self) -> list[int]:
        """Process ids of the side workers that answer."""
        return [worker.pid for worker in self._workers if worker.state == "ready"]

    @property
    def split(self) -> Split | None:
        """What the live workers are to do; None while nobody is ready to be handed anything."""
        beside = self._wanted
        sockets = tuple(
            path for worker, path in zip(self._workers, self._sockets, strict=True) if worker.state == "ready"
        )
        if beside is None or not sockets:
            return None
        return Split(
            release=str(beside.ref), share=beside.share, salt=beside.salt, variant=beside.variant, sockets=sockets
        )

    def keep(self, wanted: Beside | None, *, workers: int, first_slot: int) -> list[WorkerProcess]:
        """See to it that the wanted release stands beside the live one; return workers that are to leave.

        Args:
            wanted: None for none.
            workers: How many the live release has.
            first_slot: The slot of the first side worker.
        """
        leaving: list[WorkerProcess] = []
        if wanted is not None and self._unfit == (wanted.ref, wanted.salt):
            wanted = None
        before = self._wanted
        if before is not None and (wanted is None or (wanted.ref, wanted.salt) != (before.ref, before.salt)):
            leaving, self._workers, self._sockets = self._workers, [], []
            before = None
        self._wanted = wanted
        if wanted is None:
            return leaving
        if before is None:
            self._restarts = Restarts(live_s=time.monotonic())
        self._mend(wanted, first_slot)
        if self._wanted is not None:
            missing = (workers if wanted.share > _HALF else 1) - len(self._workers)
            for _ in range(missing if all(worker.state == "ready" for worker in self._workers) else 0):
                self._add(wanted, first_slot + len(self._workers))
        else:
            leaving += self._workers
            self._workers, self._sockets = [], []
        return leaving

    def end(self) -> list[WorkerProcess]:
        """Return the workers, which are to leave, and forget them."""
        leaving, self._workers, self._sockets, self._wanted = self._workers, [], [], None
        self._folder.cleanup()
        return leaving

    def _mend(self, wanted: Beside, first_slot: int) -> None:
        for place, worker in enumerate(self._workers):
            worker.poll()
            if worker.state == "loading" and time.monotonic() - worker.started_s > self._load_s:
                worker.kill()
                self._give_up(wanted, f"loading took over {self._load_s:g} s")
                return
            if worker.state == "refused" and worker.status is not None:
                self._give_up(wanted, worker.status.message)
                return
            if worker.state != "dead":
                continue
            slot, now_s = first_slot + place, time.monotonic()
            if not self._restarts.is_noted(slot):
                if worker.ready_s is None:
                    self._give_up(wanted, f"its worker ended with code {worker.process.poll()} while it loaded")
                    return
                self._died(worker)
                is_own = worker.is_hung or worker.process.poll() != -signal.SIGKILL
                self._restarts.died(slot, now_s=now_s, ready_s=worker.ready_s, is_own_fault=is_own)
            if self._restarts.is_hopeless:
                self._give_up(wanted, "its workers keep dying")
                return
            if self._restarts.is_due(slot, now_s=now_s):
                self._restarts.started(slot)
                self._workers[place], self._sockets[place] = self._begin(wanted, slot)

    def _add(self, wanted: Beside, slot: int) -> None:
        worker, path = self._begin(wanted, slot)
        self._workers.append(worker)
        self._sockets.append(path)

    def _begin(self, wanted: Beside, slot: int) -> tuple[WorkerProcess, str]:
        self._started += 1
        path = str(Path(self._folder.name) / f"{self._started}.sock")
        return self._start(SideOrder(beside=wanted, slot=slot, socket=path)), path

    def _give_up(self, wanted: Beside, why: str) -> None:
        _events.error("candidate_unfit", release=str(wanted.ref), reason=why)
        self._unfit, self._wanted = (wanted.ref, wanted.salt), None
        self._tell_unfit(wanted.ref, why)
