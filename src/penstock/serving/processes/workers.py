"""Worker processes as the supervisor sees them: started, watched, told to leave. Imports no user code."""

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Literal

import msgspec

from penstock.core.errors import PenstockError, StepError
from penstock.core.records import Record
from penstock.serving.limits import Limits

_WORKER = "penstock.serving.processes.worker"


class WorkerOptions(Record, frozen=True, kw_only=True):
    """What a worker is told.

    Attributes:
        release: Its reference as text; None serves "no release yet".
        manifest: Digest of the manifest's blob.
        home: The project's store.
        names: Host names under which callers may ask.
        listen_fd: The shared listening socket.
        status_fd: Where it says once that it is ready, or why not.
        lifeline_fd: Closed by the kernel when the supervisor is gone.
    """

    pipeline: str
    release: str | None
    manifest: str | None
    home: str
    slot: int
    names: tuple[str, ...]
    limits: Limits
    listen_fd: int
    status_fd: int = -1
    lifeline_fd: int = -1


class Status(Record, frozen=True, kw_only=True):
    """What a worker says of itself.

    Attributes:
        differing: Packages that the released code imports, where another version is installed here.
    """

    state: Literal["ready", "refused"]
    code: str = ""
    message: str = ""
    hint: str = ""
    differing: tuple[str, ...] = ()


class WorkerProcess:
    """One worker; `poll` never waits.

    Attributes:
        state: "loading", "ready", "refused" (it said why and left) or "dead".
        differing: What it said of packages of another version.
    """

    def __init__(self, options: WorkerOptions) -> None:
        self._status_fd, status_end = os.pipe()
        lifeline_end, self._lifeline_fd = os.pipe()
        told = msgspec.structs.replace(options, status_fd=status_end, lifeline_fd=lifeline_end)
        os.set_blocking(self._status_fd, False)
        try:
            # -P: the working directory must not shadow the snapshot. -B: the snapshot gets no compiled files.
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-B",
                    "-m",
                    "penstock.serving.processes.worker",
                    msgspec.json.encode(told).decode(),
                ],
                pass_fds=(options.listen_fd, status_end, lifeline_end),
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a user's function prints must not mix with the output of a command
            )
        finally:
            os.close(status_end)
            os.close(lifeline_end)
        self.options = options
        self.started_s = time.monotonic()
        self.state: Literal["loading", "ready", "refused", "dead"] = "loading"
        self.refusal: Status | None = None
        self.differing: tuple[str, ...] = ()
        self._said = b""
        self._told_to_leave = False

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

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
            self._said += os.read(self._status_fd, 65536)
        except BlockingIOError:
            return
        if not self._said.endswith(b"\n"):
            return
        status = msgspec.json.decode(self._said, type=Status)
        self.state = status.state
        self.differing = status.differing
        if status.state == "refused":
            self.refusal = status
            self.process.wait()

    def _close(self) -> None:
        for fd in (self._status_fd, self._lifeline_fd):
            if fd >= 0:
                os.close(fd)
        self._status_fd = self._lifeline_fd = -1


def refusal_error(status: Status) -> PenstockError:
    """Return the error a worker refused with, of its own class where that takes a message."""
    kinds = list(PenstockError.__subclasses__())
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
        if kind.code == status.code and kind.__init__ is PenstockError.__init__:
            return kind(status.message, hint=status.hint)
    return StepError(status.message, hint=status.hint)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket that workers may inherit.

    Raises:
        OSError: The port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
        os.set_blocking(listener.fileno(), False)
    except OSError:
        listener.close()
        raise
    return listener
