"""Processes that have imported what a worker needs and wait to be told what to load, so that a death costs little.

A spare holds no user code and no release: only Python, our modules, and the installed libraries a release has needed.
"""

import sys
from pathlib import Path

from penstock.serving.processes.workers import Ground, WorkerProcess


class Spares:
    """Worker processes in waiting.

    Args:
        ground: What every worker process of the server starts from.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._waiting: list[tuple[WorkerProcess, tuple[tuple[str, int], ...]]] = []
        self._libraries: tuple[str, ...] = ()

    @property
    def pids(self) -> list[int]:
        """Process ids of those that wait and have imported what they can."""
        return [worker.pid for worker, _ in self._waiting if worker.is_warm]

    @property
    def count(self) -> int:
        """How many wait or are about to."""
        return len(self._waiting)

    def learn(self, libraries: tuple[str, ...]) -> None:
        """Remember what a release needed, for the spares to come."""
        self._libraries = libraries

    def take(self) -> WorkerProcess:
        """Return a process to be told what to load: one that waits, or else a new one."""
        self._drop_unfit()
        self._waiting.sort(key=lambda waiting: not waiting[0].is_warm)
        return self._waiting.pop(0)[0] if self._waiting else WorkerProcess(self._ground, libraries=())

    def keep(self, count: int) -> None:
        """Start what is missing to `count` spares, end what is too many."""
        self._drop_unfit()
        while len(self._waiting) < count:
            worker = WorkerProcess(self._ground, libraries=self._libraries)
            self._waiting.append((worker, _installed()))
        while len(self._waiting) > count:
            self._end(self._waiting.pop()[0])

    def end(self) -> None:
        """End them all."""
        self.keep(0)

    def _drop_unfit(self) -> None:
        # What was installed since a spare imported its libraries must not be mixed with them.
        now = _installed()
        fit = [(worker, installed) for worker, installed in self._waiting if self._is_fit(worker, installed == now)]
        for worker, _ in self._waiting:
            if all(worker is not kept for kept, _ in fit):
                self._end(worker)
        self._waiting = fit

    def _is_fit(self, worker: WorkerProcess, is_current: bool) -> bool:  # noqa: FBT001  # private, and clear where it is called
        worker.poll()
        return is_current and worker.state == "spare"

    def _end(self, worker: WorkerProcess) -> None:
        worker.kill()
        worker.end(5.0)


def _installed() -> tuple[tuple[str, int], ...]:
    """Return when something was last installed or removed, by folder of installed packages."""
    folders = [Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    return tuple((str(folder), folder.stat().st_mtime_ns) for folder in folders if folder.is_dir())
