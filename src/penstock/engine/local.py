"""The engine on this machine: a pool of long-lived run processes.

A process that dies, hangs past its time or outgrows its memory is reported with its cause and replaced.
"""

import collections
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait

import msgspec

from penstock.core.process import is_running
from penstock.core.records import Failure, Usage
from penstock.core.states import AttemptState
from penstock.engine import causes
from penstock.engine.guard import Guard
from penstock.engine.logs import log_path, read_tail
from penstock.engine.protocol import Result, Task

_POLL_S = 0.05
_STOPPED_TOO_LONG_S = 10.0
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
_RESULT = msgspec.msgpack.Decoder(Result)
_ENCODER = msgspec.msgpack.Encoder()


class _Process:
    """One run process and the task it holds."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "penstock.engine.worker", str(theirs.fileno()), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        self.channel = Connection(ours.detach())
        self.task: Task | None = None
        self.code = ""
        self.since = 0.0
        self.looked_at = 0.0
        self.peak = 0
        self.stopped_since: float | None = None
        self.oom_kills = 0

    def has_ended(self, *, wait: bool = False) -> bool:
        """Return whether the process is no more, taking note of how it ended and what it used."""
        if self.popen.returncode is None:
            try:
                pid, status, usage = os.wait4(self.popen.pid, 0 if wait else os.WNOHANG)
            except ChildProcessError:  # the program we are part of lets the system reap its children
                return self.popen.poll() is not None
            if not pid:
                return False
            self.popen.returncode = os.waitstatus_to_exitcode(status)
            self.peak = self.peak or usage.ru_maxrss * _MAXRSS_UNIT
        return True

    def holds_other_code(self, task: Task) -> bool:
        """Return whether the process has imported another code snapshot: Python keeps the modules it has imported."""
        return self.code not in {"", task.place.code_dir}

    def is_dying(self) -> bool:
        """Return whether the process can take no task; one with many threads is dead a while before it has ended."""
        return self.has_ended() or not is_running(self.popen.pid)

    def give(self, task: Task) -> None:
        self.task, self.since, self.peak, self.stopped_since = task, time.monotonic(), 0, None
        self.looked_at, self.code = self.since, task.place.code_dir
        self.oom_kills = causes.oom_kills()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its death is noticed by the next poll
            self.channel.send_bytes(_ENCODER.encode(task))

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.has_ended(wait=True)
        self.channel.close()


class LocalEngine:
    """Runs tasks in `workers` processes on this machine.

    Args:
        workers: Most tasks at once.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._processes: list[_Process] = []
        self._queue: collections.deque[Task] = collections.deque()
        self._ended: list[Result] = []
        self._guard = Guard()
        self._add()  # the first one starts up while the run is still being planned

    @property
    def slots(self) -> int:
        """How many tasks can run at once."""
        return self._workers

    def submit(self, task: Task) -> None:
        """Queue a task; it starts as soon as a process is free."""
        self._queue.append(task)
        self._feed()

    def results(self, timeout_s: float) -> Sequence[Result]:
        """Wait up to `timeout_s` for tasks to end."""
        deadline = time.monotonic() + timeout_s
        while not self._ended:
            busy = [p for p in self._processes if p.task is not None]
            left = deadline - time.monotonic()
            if not busy or left <= 0:
                break
            ready = wait([p.channel for p in busy], timeout=min(left, _POLL_S))
            for process in busy:
                if process.channel in ready:
                    self._receive(process)
                elif time.monotonic() - process.looked_at >= _POLL_S:
                    self._watch(process)
        self._feed()
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, task_id: str) -> None:
        """End a task and everything it started."""
        queued = [t for t in self._queue if t.id == task_id]
        for task in queued:
            self._queue.remove(task)
            self._end(task, AttemptState.CANCELLED, Failure(kind="cancelled", message="Cancelled before it started."))
        for process in list(self._processes):
            if process.task is not None and process.task.id == task_id:
                failure = Failure(kind="cancelled", message=f"{_name(process.task)} was cancelled.")
                self._kill(process, AttemptState.CANCELLED, failure)

    def close(self) -> None:
        """End every process."""
        for process in self._processes:
            process.end()
            if process.task is not None:
                log_path(process.task).unlink(missing_ok=True)
        self._processes.clear()
        self._queue.clear()
        self._guard.watch(())
        self._guard.close()

    def _feed(self) -> None:
        while self._queue:
            free = next((p for p in self._processes if p.task is None), None)
            if free is not None and (free.is_dying() or free.holds_other_code(self._queue[0])):
                self._remove(free)  # it died idle, which is no task's fault, or served a run before with other code
            elif free is not None:
                free.give(self._queue.popleft())
            elif len(self._processes) < self._workers:
                self._add()
            else:
                return

    def _add(self) -> None:
        self._processes.append(_Process())
        self._guard.watch(p.popen.pid for p in self._processes)

    def _remove(self, process: _Process) -> None:
        process.end()
        self._processes.remove(process)
        self._guard.watch(p.popen.pid for p in self._processes)

    def _receive(self, process: _Process) -> None:
        task = process.task
        try:
            data = process.channel.recv_bytes()
        except (EOFError, OSError):
            self._buried(process)
            return
        process.task = None
        self._ended.append(_RESULT.decode(data))
        if task is not None:
            log_path(task).unlink(missing_ok=True)

    def _watch(self, process: _Process) -> None:
        task, now = process.task, time.monotonic()
        process.looked_at = now
        if process.has_ended():  # what it forked may hold its end of the channel open
            self._buried(process)
        if task is None or process not in self._processes:
            return
        status = causes.status_of(process.popen.pid)
        process.peak = max(process.peak, status.peak_bytes)
        limits = task.limits
        if limits.timeout_s is not None and now - process.since > limits.timeout_s:
            self._kill(process, AttemptState.TIMED_OUT, causes.timed_out(_name(task), limits.timeout_s))
        elif limits.memory_bytes is not None and status.resident_bytes > limits.memory_bytes:
            failure = causes.over_memory(_name(task), status.resident_bytes, limits.memory_bytes)
            self._kill(process, AttemptState.KILLED, failure)
        elif status.is_stopped:
            process.stopped_since = process.stopped_since or now
            if now - process.stopped_since > _STOPPED_TOO_LONG_S:
                self._kill(process, AttemptState.LOST, causes.stopped(_name(task)))
        else:
            process.stopped_since = None

    def _buried(self, process: _Process) -> None:
        """Say of what a process died."""
        task = process.task
        process.has_ended(wait=True)
        if task is not None:
            code, peak = process.popen.returncode, process.peak
            was_oom = causes.oom_kills() > process.oom_kills
            self._end(task, AttemptState.KILLED, causes.died(_name(task), code, peak, was_oom=was_oom), process)
        self._remove(process)

    def _kill(self, process: _Process, state: AttemptState, failure: Failure) -> None:
        task = process.task
        self._remove(process)
        if task is not None:
            self._end(task, state, failure, process)

    def _end(self, task: Task, state: AttemptState, failure: Failure, process: _Process | None = None) -> None:
        usage = Usage()
        if process is not None:
            usage = Usage(wall_s=time.monotonic() - process.since, peak_bytes=process.peak)
        log = log_path(task)
        self._ended.append(Result(id=task.id, state=state, failure=failure, usage=usage, log=read_tail(log)))
        log.unlink(missing_ok=True)


def _name(task: Task) -> str:
    return f"{task.node.role.capitalize()} {task.node.name!r}" + (f" for {task.part!r}" if task.part else "")
