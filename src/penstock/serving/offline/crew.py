"""The worker processes of a job: gives each a task at a time, and replaces one that dies.

A task whose worker died is given again twice: the machine may have killed it for reasons of its own.
"""

import collections
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait

import msgspec

from penstock.core.errors import StepError
from penstock.engine.causes import died
from penstock.serving.offline.tasks import Done, Task, WorkerOptions, error_of

_TRIES = 3
_LAST_WORDS_S = 5.0
_DONE = msgspec.msgpack.Decoder(Done)
_THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class _Worker:
    """One process, and the task it holds."""

    def __init__(self, options: WorkerOptions, threads: int) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "penstock.serving.offline.worker", str(theirs.fileno())]
        # Several processes that each start a thread per core would only wait for one another.
        environment = {**dict.fromkeys(_THREADS, str(threads)), **os.environ}
        self.popen = subprocess.Popen(
            [*command, msgspec.json.encode(options).decode()],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        theirs.close()
        self.channel = Connection(ours.detach())
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        self.task = task
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its death is noticed by the next wait
            self.channel.send_bytes(msgspec.msgpack.encode(task))

    def end(self) -> int:
        self.channel.close()
        self.popen.kill()
        return self.popen.wait()


class Crew:
    """Processes that answer pieces of rows.

    Args:
        options: What each loads.
        count: How many there are at most; they are started when there is work for them.
        cores: Cores that they share.
    """

    def __init__(self, options: WorkerOptions, count: int, cores: int) -> None:
        self._options = options
        self._count = count
        self._threads = max(1, cores // count)
        self._workers: list[_Worker] = []
        self._queue: collections.deque[Task] = collections.deque()
        self._deaths: collections.Counter[int] = collections.Counter()

    @property
    def room(self) -> int:
        """How many more tasks would begin soon: one waits for each worker, so that none is idle between two."""
        busy = sum(worker.task is not None for worker in self._workers)
        return 2 * self._count - busy - len(self._queue)

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [worker.popen.pid for worker in self._workers]

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._queue.append(task)
        self._feed()

    def results(self, timeout_s: float | None = None) -> Iterator[Done]:
        """Wait until tasks end, and yield what came of them.

        Raises:
            PenstockError: What stood in the way of a task, or the release cannot be loaded.
            StepError: A task ended its worker's process three times.
        """
        by_channel = {worker.channel: worker for worker in self._workers}
        for channel in wait(list(by_channel), timeout=timeout_s):
            worker = by_channel[channel]  # type: ignore[index]  # only connections were waited for
            done = self._receive(worker)
            if done is not None:
                yield done
        self._feed()

    def close(self) -> None:
        """End every process; what they were at is lost, and is not missed."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()
        self._queue.clear()

    def _feed(self) -> None:
        while self._queue:
            free = next((w for w in self._workers if w.task is None), None)
            if free is None and len(self._workers) < self._count:
                free = _Worker(self._options, self._threads)
                self._workers.append(free)
            if free is None:
                return
            free.give(self._queue.popleft())

    def _receive(self, worker: _Worker) -> Done | None:
        try:
            done = _DONE.decode(worker.channel.recv_bytes())
        except (EOFError, OSError):
            self._bury(worker)
            return None
        if done.error is not None:
            raise error_of(*done.error)
        if done.number < 0:
            return None
        worker.task = None
        return done

    def _bury(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.popen.wait(_LAST_WORDS_S)
        code, task = worker.end(), worker.task
        if task is None:
            return
        self._deaths[task.number] += 1
        if self._deaths[task.number] >= _TRIES:
            failure = died(f"Serve function {self._options.asking.function!r}", code, 0, was_oom=False)
            raise StepError(
                f"{failure.message} That was the third time on part {task.number}.",
                hint=failure.hint or "start again when the cause is mended: what was finished is kept",
            )
        self._queue.appendleft(task)
