"""Worker processes as the supervisor sees them: started, told what to load, watched, told to leave. No user code."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from penstock.core.errors import PenstockError, StepError
from penstock.core.records import Record
from penstock.serving.limits import Limits
from penstock.serving.plane.split import Split
from penstock.serving.protocols.consumers import Admission

State = Literal["spare", "loading", "ready", "refused", "dead"]


class WorkerEnds(Record, frozen=True, kw_only=True):
    """What a worker process is started with: its ends of the pipes, and what it may import while it waits.

    Attributes:
        listen_fd: The shared listening socket.
        order_fd: Where it is told what to load, a `WorkerOptions` in one line, and then how to share requests with
            another release, a `Split` or null per line.
        status_fd: Where it says how it gets on, a `Status` per line.
        lifeline_fd: Closed by the kernel when the supervisor is gone.
        libraries: Installed modules that a release has needed, to be imported before it is asked for.
        is_terminal: People read what it says about itself.
        access_fd: Where lines about requests go when that is standard output; -1 when it is not.
    """

    listen_fd: int
    order_fd: int
    status_fd: int
    lifeline_fd: int
    libraries: tuple[str, ...] = ()
    is_terminal: bool = False
    access_fd: int = -1


class WorkerOptions(Record, frozen=True, kw_only=True):
    """What a worker is told.

    Attributes:
        release: Its reference as text; None serves "no release yet".
        manifest: Digest of the manifest's blob.
        home: The project's store.
        names: Host names under which callers may ask.
        counters: The file it makes for its counters.
        grpc: Host and port for gRPC, "127.0.0.1:8001"; None for no gRPC.
        access_log: File for a line per request, "-" for what `access_fd` leads to; None for none.
        otel: URL of an OpenTelemetry collector; None for none.
        explore: Share of questions that the fallback answers to learn, 0 to 1.
        side: Path of the Unix socket of a worker that answers what others hand on to it; None for one that callers ask.
        admission: Which applications may ask; None lets everybody.
    """

    pipeline: str
    release: str | None
    manifest: str | None
    home: str
    slot: int
    names: tuple[str, ...]
    limits: Limits
    counters: str
    grpc: str | None = None
    access_log: str | None = None
    otel: str | None = None
    explore: float = 0.0
    side: str | None = None
    admission: Admission | None = None


class Status(Record, frozen=True, kw_only=True):
    """What a worker says of itself.

    Attributes:
        stage: What it does while it loads, in words.
        differing: Packages that the released code imports, where another version is installed here.
        longest_s: Longest deadline that the release declares.
        libraries: Installed modules that the release needed.
    """

    state: Literal["spare", "loading", "ready", "refused"]
    stage: str = ""
    code: str = ""
    message: str = ""
    hint: str = ""
    differing: tuple[str, ...] = ()
    longest_s: float = 0.0
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What every worker process of a server starts from; the attributes are those of `WorkerEnds`."""

    listen_fd: int
    is_terminal: bool = False
    access_fd: int = -1


class WorkerProcess:
    """One worker, a spare until it is told what to load; `poll` never waits.

    Args:
        ground: What every worker of this server starts from.
        libraries: What it may import while it waits.

    Attributes:
        state: "spare", "loading", "ready", "refused" (it said why and left) or "dead".
        status: The last thing it said; None before the first.
        stages: What it has done while it loaded, in words.
        started_s: Monotonic time at which it was told what to load.
        ready_s: Monotonic time at which it was heard to be ready; None before.
        is_warm: It has imported all that it can before it is told what to load.
        is_hung: It was killed because its event loop stood still.
    """

    def __init__(self, ground: "Ground", *, libraries: tuple[str, ...] = ()) -> None:
        self._status_fd, status_end = os.pipe()
        lifeline_end, self._lifeline_fd = os.pipe()
        order_end, self._order_fd = os.pipe()
        ends = WorkerEnds(
            listen_fd=ground.listen_fd,
            order_fd=order_end,
            status_fd=status_end,
            lifeline_fd=lifeline_end,
            libraries=libraries,
            is_terminal=ground.is_terminal,
            access_fd=ground.access_fd,
        )
        os.set_blocking(self._status_fd, False)
        try:
            self.process = _start(ends)
        finally:
            for fd in (status_end, lifeline_end, order_end):
                os.close(fd)
        self.state: State = "spare"
        self.status: Status | None = None
        self.stages: list[str] = []
        self.started_s = time.monotonic()
        self.ready_s: float | None = None
        self.is_hung = False
        self.is_warm = False
        self._options: WorkerOptions | None = None
        self._said = b""
        self._told_to_leave = False
        self._told_split: Split | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def options(self) -> WorkerOptions:
        """What it was told to load."""
        if self._options is None:
            raise RuntimeError("a spare has no options yet")
        return self._options

    @property
    def counters(self) -> Path:
        """The file of its counters."""
        return Path(self.options.counters)

    def load(self, options: WorkerOptions) -> None:
        """Tell a spare what to load and serve."""
        self._options = options
        self.started_s = time.monotonic()
        self.state = "loading"
        self._order(msgspec.json.encode(options))

    def share(self, split: Split | None) -> None:
        """Tell a worker how it shares requests with another release; told the same again, it is left alone."""
        if split != self._told_split:
            self._told_split = split
            self._order(msgspec.json.encode(split))

    def _order(self, line: bytes) -> None:
        if self._order_fd >= 0:
            with contextlib.suppress(BrokenPipeError):  # it has died; the next look finds that
                os.write(self._order_fd, line + b"\n")

    def poll(self) -> None:
        """Hear what the worker said and notice whether it lives."""
        if self.state in {"dead", "refused"}:
            return
        exited = self.process.poll() is not None
        self._hear()
        if exited and self.state != "refused":
            self.state = "dead"
        if exited or self.state == "refused":
            self._close()

    def leave(self) -> None:
        """Tell the worker to answer what is under way and go."""
        if self.process.poll() is None and not self._told_to_leave:
            self.process.send_signal(signal.SIGTERM)
        self._told_to_leave = True

    def kill(self) -> None:
        """End the worker at once."""
        if self.process.poll() is None:
            self.process.kill()

    def end(self, timeout_s: float) -> None:
        """Wait for the worker to go; kill it after `timeout_s`."""
        try:
            self.process.wait(max(timeout_s, 0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._hear()
        self._close()

    def _hear(self) -> None:
        if self._status_fd < 0:
            return
        try:
            self._said += os.read(self._status_fd, 2**20)
        except BlockingIOError:
            return
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            self._take(msgspec.json.decode(line, type=Status))

    def _take(self, status: Status) -> None:
        if status.state == "spare":  # it may have been told what to load in the meantime
            self.is_warm = True
            return
        self.status = status
        self.state = status.state
        if status.stage:
            self.stages.append(status.stage)
        if status.state == "ready":
            self.ready_s = time.monotonic()
        elif status.state == "refused":
            self.process.wait()

    def _close(self) -> None:
        for fd in (self._status_fd, self._lifeline_fd, self._order_fd):
            if fd >= 0:
                os.close(fd)
        self._status_fd = self._lifeline_fd = self._order_fd = -1


def _start(ends: WorkerEnds) -> "subprocess.Popen[bytes]":
    # Ctrl-C reaches the whole terminal group; blocked from the start, it cannot end a worker while that imports.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        # -P: the working directory must not shadow the snapshot. -B: the snapshot gets no compiled files.
        return subprocess.Popen(
            [
                *(sys.executable, "-P", "-B", "-m", "penstock.serving.processes.worker"),
                msgspec.json.encode(ends).decode(),
            ],
            pass_fds=[
                fd
                for fd in (ends.listen_fd, ends.order_fd, ends.status_fd, ends.lifeline_fd, ends.access_fd)
                if fd >= 0
            ],
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a user's function prints must not mix with the output of a command
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def refusal_error(status: Status) -> PenstockError:
    """Return the error a worker refused with, of its own class where that takes a message."""
    kinds = list(PenstockError.__subclasses__())
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
        if kind.code == status.code and kind.__init__ is PenstockError.__init__:
            return kind(status.message, hint=status.hint)
    return StepError(status.message, hint=status.hint)
