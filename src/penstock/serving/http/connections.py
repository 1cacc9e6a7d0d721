"""HTTP connections of one worker: accepted on an inherited socket, looked after, drained without loss.

Closing idle connections at once when a worker stops would cut off a request that is on its way; a stopping worker
first answers `connection: close` and lets silent connections linger.
"""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Callable

import structlog

from penstock.serving.http.app import App
from penstock.serving.http.connection import Connection, Opened
from penstock.serving.http.reader import Shared
from penstock.serving.limits import Limits

_events = structlog.get_logger("penstock.serving")
_LOOKS = 8  # how often a connection is looked at during the shortest of its times
_LONGEST_PAUSE_S = 1.0
_OTHER_FILES = 128  # open files of a worker that are no callers: models, logs, libraries


class Connections:
    """Accepts connections on a socket shared with other workers and answers them with an app."""

    def __init__(self, app: App, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._opened: Opened | None = None
        self._listener: socket.socket | None = None
        self._arriving: set[asyncio.Task[object]] = set()
        self._next_look: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """How many callers are connected now."""
        return 0 if self._opened is None else len(self._opened.connections)

    async def open(self, listener: socket.socket) -> None:
        """Start to accept."""
        loop = asyncio.get_running_loop()
        shared = Shared(self._app, self._limits, loop.time())
        opened = self._opened = Opened(_most_connections(self._limits))
        self._listener = listener
        loop.add_reader(listener.fileno(), self._accept, listener, lambda: Connection(shared, opened))
        shortest = min(self._limits.receive_s, self._limits.idle_s, self._limits.linger_s)
        self._look(shared, opened, min(shortest / _LOOKS, _LONGEST_PAUSE_S))

    async def drain(self) -> None:
        """Stop accepting, answer what is under way, close what stays silent; bounded by `drain_s`."""
        self._app.draining = True
        opened = self._opened
        if opened is None:
            return
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        if self._arriving:
            await asyncio.wait(self._arriving)
        if opened.connections:
            opened.emptied.clear()
            await _wait(opened, self._limits.linger_s)
            for connection in list(opened.connections):
                connection.close_if_idle()
            await _wait(opened, self._limits.drain_s - self._limits.linger_s)
        if self._next_look is not None:
            self._next_look.cancel()

    def _accept(self, listener: socket.socket, make: Callable[[], Connection]) -> None:
        """Take one caller from the queue: whoever took all that wait would leave the other workers without any."""
        try:
            caller, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another worker was quicker, or the caller has left
        except OSError as error:
            _events.error("accept_failed", reason=error.strerror)
            return
        caller.setblocking(False)  # noqa: FBT003  # how the socket module spells it
        loop = asyncio.get_running_loop()
        arriving = loop.create_task(loop.connect_accepted_socket(make, caller))
        self._arriving.add(arriving)
        arriving.add_done_callback(self._arriving.discard)

    def _look(self, shared: Shared, opened: Opened, pause_s: float) -> None:
        # One timer for all: a timer per request costs as much as a small answer.
        loop = asyncio.get_running_loop()
        now_s = shared.now_s = loop.time()
        for connection in list(opened.connections):
            connection.expire(now_s)
        self._next_look = loop.call_later(pause_s, self._look, shared, opened, pause_s)


def _most_connections(limits: Limits) -> int:
    """Return how many callers this process may be connected with: out of files, it could not even refuse one more."""
    wanted = limits.connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits.connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(allowed - _OTHER_FILES, 1)


async def _wait(opened: Opened, longest_s: float) -> None:
    if opened.connections:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(opened.emptied.wait(), longest_s)
