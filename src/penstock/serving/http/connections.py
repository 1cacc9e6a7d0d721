"""HTTP connections of one worker: accepted on an inherited socket, looked after, drained without loss.

Closing idle connections at once when a worker stops would cut off a request that is on its way; a stopping worker
first answers `connection: close` and lets silent connections linger.
"""

import asyncio
import contextlib
import socket

from penstock.serving.http.app import App
from penstock.serving.http.connection import Connection, Shared
from penstock.serving.limits import Limits

_LOOKS = 8  # how often a connection is looked at during the shortest of its times
_LONGEST_PAUSE_S = 1.0


class Connections:
    """Accepts connections on a socket shared with other workers and answers them with an app."""

    def __init__(self, app: App, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._shared: Shared | None = None
        self._server: asyncio.Server | None = None
        self._next_look: asyncio.TimerHandle | None = None

    async def open(self, listener: socket.socket) -> None:
        """Start to accept."""
        loop = asyncio.get_running_loop()
        shared = self._shared = Shared(self._app, self._limits, loop.time())
        self._server = await loop.create_server(lambda: Connection(shared), sock=listener, backlog=2048)
        shortest = min(self._limits.receive_s, self._limits.idle_s, self._limits.linger_s)
        self._look(loop, shared, min(shortest / _LOOKS, _LONGEST_PAUSE_S))

    async def drain(self) -> None:
        """Stop accepting, answer what is under way, close what stays silent; bounded by `drain_s`."""
        self._app.draining = True
        shared = self._shared
        if self._server is None or shared is None:
            return
        self._server.close()
        if shared.connections:
            shared.emptied.clear()
            await self._wait(shared, self._limits.linger_s)
            for connection in list(shared.connections):
                connection.close_if_idle()
            await self._wait(shared, self._limits.drain_s - self._limits.linger_s)
        if self._next_look is not None:
            self._next_look.cancel()

    async def _wait(self, shared: Shared, longest_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(shared.emptied.wait(), longest_s)

    def _look(self, loop: asyncio.AbstractEventLoop, shared: Shared, pause_s: float) -> None:
        # One timer for all: a timer per request costs as much as a small answer.
        now_s = shared.now_s = loop.time()
        for connection in [found for found in shared.connections if found.due_s <= now_s]:
            connection.expire()
        self._next_look = loop.call_later(pause_s, self._look, loop, shared, pause_s)
