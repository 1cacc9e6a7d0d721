"""The loop around ticks: looks again and again, gives retrains to processes of their own, outlasts an absent store.

Two of them share the work: each looks after a pipeline under a lease, and a run begins with its cause. Nothing is kept
in memory but the processes that were started.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from types import FrameType

import msgspec
import structlog

from penstock.core.errors import PenstockError, StoreError
from penstock.core.records import Record
from penstock.core.settings import load_settings
from penstock.engine.stopping import CancelledRunError
from penstock.project.alerting import deliver
from penstock.project.workspace import Workspace
from penstock.worker import carry
from penstock.worker.economics import worth
from penstock.worker.performing import Performing
from penstock.worker.state import Open, Start
from penstock.worker.tick import Economics, decide_all, look_after, pipelines_of, slot_of

_events = structlog.get_logger("penstock.worker")
EVERY_S = 30.0
_LONGEST_WAIT_S = 300.0
_GRACE_S = 30.0
_LOOK_S = 0.2


class Beat(Record, frozen=True, kw_only=True):
    """What a worker says at each look."""

    at: datetime
    pipelines: int
    retrains: int


@dataclass(slots=True)
class Up:
    """A worker.

    Args:
        workspace: The project.
        every_s: Time between looks.
        economics: Says what a retrain is expected to gain, where that is known; None to weigh nothing.
        on_beat: Is told after each look.
    """

    workspace: Workspace
    every_s: float = EVERY_S
    economics: Economics | None = worth
    on_beat: Callable[[Beat], None] | None = None
    _told: threading.Event = field(default_factory=threading.Event)
    _hurried: threading.Event = field(default_factory=threading.Event)
    _running: dict[int, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    _sending: threading.Thread | None = None

    def stop(self) -> None:
        """Ask the worker to end; its runs are cancelled and wait for whoever comes next."""
        self._told.set()

    def hurry(self) -> None:
        """Look again at once: somebody has asked for something."""
        self._hurried.set()

    def run(self) -> None:
        """Look until told to stop.

        Raises:
            InputError: Policy cannot be followed, as at the first look.
        """
        pipelines_of(self.workspace)  # what is wrong from the start is said and ends it; later on it is only told
        wait_s = self.every_s
        try:
            while not self._told.is_set():
                wait_s = self.every_s if self._look() else min(2 * wait_s, max(_LONGEST_WAIT_S, self.every_s))
                self._rest(wait_s)
        finally:
            self._end_runs()

    def _look(self) -> bool:
        """Do what is due; return False where the store was away, to be asked less and less often."""
        try:
            self._read_policy()
            names = pipelines_of(self.workspace)
            for name in names:
                if self._told.is_set():
                    return True
                look_after(self.workspace, name, self.workspace.clock.now())
            self._begin_retrains(names)
            self._tell_people()
        except (StoreError, OSError) as error:
            _events.error("store_away", error=type(error).__qualname__, reason=str(error))
            return False
        except (CancelledRunError, KeyboardInterrupt):  # an intake was under way, which hears of signals itself
            self.stop()
            return True
        except PenstockError as error:
            _events.error("look_failed", error=type(error).__qualname__, reason=str(error))
            return True
        if self.on_beat is not None:
            beat = Beat(at=self.workspace.clock.now(), pipelines=len(names), retrains=len(self._running))
            self.on_beat(beat)
        return True

    def _read_policy(self) -> None:
        """Take up what was changed in `penstock.toml`, except where things are kept: that is open."""
        before = self.workspace.settings
        found = load_settings(before.root)
        settings = msgspec.structs.replace(found, home=before.home, ledger_url=before.ledger_url)
        self.workspace = dataclasses.replace(self.workspace, settings=settings)

    def _begin_retrains(self, names: list[str]) -> None:
        for settled in carry.settle(self.workspace):
            _events.info("retrain_ended", **msgspec.to_builtins(settled))
        for action in decide_all(self.workspace, self.workspace.clock.now(), names=names, economics=self.economics):
            if isinstance(action, Start) and action.cause.id in self._running:
                continue  # its process has yet to begin the run
            _events.info("decided", action=type(action).__name__.lower(), **_plain(action))
            if isinstance(action, Start):
                self._running[action.cause.id] = self._begin(action.cause)

    def _begin(self, cause: Open) -> "subprocess.Popen[bytes]":
        performing = Performing(
            root=str(self.workspace.settings.root), cause=cause, parent=os.getpid(), slot=slot_of(cause)
        )
        words = [sys.executable, "-P", "-m", "penstock.worker.performing", msgspec.json.encode(performing).decode()]
        return subprocess.Popen(words, cwd=self.workspace.settings.root, stdin=subprocess.DEVNULL)

    def _tell_people(self) -> None:
        """Send what is due beside the loop, which no receiver holds up; one call at a time."""
        if self._sending is not None and self._sending.is_alive():
            return
        self._sending = threading.Thread(target=self._deliver, name="penstock-alerts", daemon=True)
        self._sending.start()

    def _deliver(self) -> None:
        try:
            deliver(self.workspace, self.workspace.clock.now())
        except (PenstockError, OSError) as error:
            _events.error("delivery_failed", error=type(error).__qualname__, reason=str(error))

    def _rest(self, wait_s: float) -> None:
        """Wait for the next look; the end of a retrain calls for one at once, and so does who asks for one."""
        deadline_s = self.workspace.clock.monotonic_s() + wait_s
        while self.workspace.clock.monotonic_s() < deadline_s and not self._told.wait(_LOOK_S):
            if self._reap() or self._hurried.is_set():
                self._hurried.clear()
                return

    def _reap(self) -> bool:
        ended = [number for number, process in self._running.items() if process.poll() is not None]
        for number in ended:
            del self._running[number]
        return bool(ended)

    def _end_runs(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()
        if self._sending is not None:
            self._sending.join(_GRACE_S)
        with contextlib.suppress(StoreError):  # whoever comes next settles it
            carry.settle(self.workspace)


@contextlib.contextmanager
def stopped_by_signals(worker: Up) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM stop a worker where it stands between two things."""

    def told(_number: int, _frame: FrameType | None) -> None:
        worker.stop()

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _plain(action: object) -> dict[str, object]:
    found = msgspec.to_builtins(action)
    return {f"of_{key}" if key in {"event", "level"} else key: value for key, value in found.items() if key != "type"}
