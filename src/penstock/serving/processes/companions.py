"""Processes beside the workers, without user code: started once the server answers, watched, started again."""

import subprocess
import sys
import time

import structlog

from penstock.core.records import Record
from penstock.core.settings import ServePolicy

_PAUSES_S = (0.0, 1.0, 5.0, 30.0)
_HEALTHY_S = 60.0
_events = structlog.get_logger("penstock.serving")


class CompactorOptions(Record, frozen=True, kw_only=True):
    """What a compactor is told.

    Attributes:
        home: The project's store.
        pipeline: Whose predictions.
        policy: How long they are kept.
        every_s: Pause between two compactions.
        parent: Process id of who starts it; it ends when that one does.
        is_terminal: People read what it says about itself.
    """

    home: str
    pipeline: str
    policy: ServePolicy = ServePolicy()
    every_s: float = 10.0
    parent: int | None = None
    is_terminal: bool = False


class Companion:
    """One process beside the workers; times are monotonic seconds.

    Args:
        module: What it runs, as `python -m` takes it.
        options: Its only argument.
    """

    def __init__(self, module: str, options: str) -> None:
        self._module = module
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self._started_s = self._due_s = 0.0

    @property
    def pid(self) -> int | None:
        """Its process id; None while it does not run."""
        return None if self._process is None else self._process.pid

    def keep(self) -> None:
        """Start it when it is not there, after a pause that grows when it keeps dying; never waits."""
        now_s = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            self._deaths = 1 if now_s - self._started_s > _HEALTHY_S else self._deaths + 1
            pause_s = _PAUSES_S[min(self._deaths - 1, len(_PAUSES_S) - 1)]
            name, code = self._module.rpartition(".")[2], self._process.returncode
            _events.error("companion_died", name=name, pid=self._process.pid, code=code, restart_in_s=pause_s)
            self._process, self._due_s = None, now_s + pause_s
        if self._process is None and now_s >= self._due_s:
            self._started_s = now_s
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module, self._options], stdin=subprocess.DEVNULL, stdout=2
            )

    def leave(self) -> None:
        """Tell it to finish."""
        if self._process is not None:
            self._process.terminate()

    def end(self, timeout_s: float) -> None:
        """Wait for it to go; kill it after `timeout_s`."""
        if self._process is None:
            return
        try:
            self._process.wait(max(timeout_s, 0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
