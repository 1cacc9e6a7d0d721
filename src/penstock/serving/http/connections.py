"""HTTP connections of one worker: uvicorn's parser and cycle on an inherited socket, bounded, drained without loss.

uvicorn's own server closes idle connections at once when it stops, which cuts off a request that is on its way;
here a stopping worker first answers `connection: close` and lets silent connections linger.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from penstock.serving.http.app import App
from penstock.serving.limits import Limits


class _Connection(HttpToolsProtocol):
    """A connection whose heads are bounded in size and time."""

    limits: Limits
    _head_bytes = 0
    _in_head = True
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.limits.receive_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # The callbacks below set the count back to 0 when the head is whole, which is nearly always by now.
        if self._head_bytes == 0 or self.transport.is_closing():
            return
        if self._head_bytes > self.limits.head_bytes:
            self._refuse(431, "The request line and headers are too large.")
        elif self._timer is None:
            self._timer = self.loop.call_later(self.limits.receive_s, self._give_up)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._in_head = False
        self._head_bytes = 0
        if sum(len(name) + len(value) + 4 for name, value in self.headers) + len(self.url) > self.limits.head_bytes:
            self._refuse(431, "The request line and headers are too large.")
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        if not self.transport.is_closing():
            super().on_message_complete()

    def on_body(self, body: bytes) -> None:
        if not self.transport.is_closing():
            super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            self._refuse(400, msg)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        reason = {400: "malformed_request", 431: "head_too_large"}[status]
        phrase = {400: "Bad Request", 431: "Request Header Fields Too Large"}[status]
        body = msgspec.json.encode({"error": {"code": reason, "message": message}})
        head = (
            f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class Connections:
    """Accepts connections on a socket shared with other workers and answers them with an app."""

    def __init__(self, app: App, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._state = ServerState()
        self._config = Config(
            app,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            log_level="critical",
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(limits.idle_s),
        )
        self._config.load()
        self._server: asyncio.Server | None = None

    async def open(self, listener: socket.socket) -> None:
        """Start to accept."""
        loop = asyncio.get_running_loop()
        connection = type("Connection", (_Connection,), {"limits": self._limits})

        def make() -> asyncio.Protocol:
            made: Any = connection(config=self._config, server_state=self._state, app_state={}, _loop=loop)
            protocol: asyncio.Protocol = made
            return protocol

        self._server = await loop.create_server(make, sock=listener, backlog=2048)

    async def drain(self) -> None:
        """Stop accepting, answer what is under way, close what stays silent; bounded by `drain_s`."""
        self._app.draining = True
        if self._server is not None:
            self._server.close()
        started = time.monotonic()
        await self._wait(lambda: not self._state.connections, started + self._limits.linger_s)
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._wait(lambda: not self._state.connections and not self._state.tasks, started + self._limits.drain_s)

    async def _wait(self, done: Callable[[], bool], until_s: float) -> None:
        while not done() and time.monotonic() < until_s:  # noqa: ASYNC110  # uvicorn's sets offer no event
            await asyncio.sleep(0.02)
