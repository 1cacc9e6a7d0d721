"""The door of a worker that holds another release: requests that the live release's workers hand on, and no callers."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

import msgspec

from penstock.serving.http.app import App
from penstock.serving.messages import Reply, Request
from penstock.serving.processes.frames import Frames, framed
from penstock.serving.processes.relay import Handed, Told

_DECODE = msgspec.msgpack.Decoder(Handed).decode
_ENCODE = msgspec.msgpack.Encoder().encode
_PAUSE_S = 0.02
_CLIENT_ERRORS = range(400, 500)


class SideDoor:
    """Listens on a Unix socket and answers what is handed to it with an app.

    Args:
        app: What answers.
        path: Of the socket; nobody but this user may connect.
        refused: Told the function and variant of a request that the live release takes and this one refuses.
        drain_s: Longest wait for requests under way when it is told to leave.
    """

    def __init__(self, app: App, path: Path, refused: Callable[[str, str], None], drain_s: float) -> None:
        self._app = app
        self._path = path
        self._refused = refused
        self._drain_s = drain_s
        self._server: asyncio.Server | None = None
        self._links: set[_Caller] = set()

    async def open(self, listener: socket.socket) -> None:
        """Start to listen; the socket of callers is let go."""
        listener.close()
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Caller(self), str(self._path))

    async def drain(self) -> None:
        """Take no new connection, answer what is under way, then close; bounded by `drain_s`."""
        if self._server is not None:
            self._server.close()
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._drain_s
        while any(link.under_way for link in self._links) and loop.time() < until_s:  # noqa: ASYNC110 - of many links
            await asyncio.sleep(_PAUSE_S)
        for link in list(self._links):
            link.close()

    @property
    def count(self) -> int:
        """How many workers are connected."""
        return len(self._links)

    def answer(self, handed: Handed, link: "_Caller") -> None:
        """Answer one request on the connection that it came by."""
        headers = dict(handed.headers)
        request = Request(handed.method, handed.path, headers, handed.body, handed.query, handed.variant)

        def respond(reply: Reply) -> None:
            if reply.status in _CLIENT_ERRORS:
                self._refused(handed.serve, handed.variant)
            link.tell(Told(handed.number, reply.status, reply.kind, list(reply.headers), reply.body))

        self._app.handle(request, respond)

    def opened(self, link: "_Caller") -> None:
        """Remember a connection."""
        self._links.add(link)

    def closed(self, link: "_Caller") -> None:
        """Forget a connection."""
        self._links.discard(link)


class _Caller(asyncio.Protocol):
    """One worker of the live release."""

    def __init__(self, door: SideDoor) -> None:
        self._door = door
        self._frames = Frames()
        self._transport: asyncio.WriteTransport | None = None
        self.under_way = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's own class
        self._door.opened(self)

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        for frame in self._frames.take(data):
            self.under_way += 1
            self._door.answer(_DECODE(frame), self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go; replies that are still due go nowhere."""
        del exc
        self._transport = None
        self._door.closed(self)

    def tell(self, told: Told) -> None:
        """Send a reply."""
        self.under_way -= 1
        if self._transport is not None:
            self._transport.write(framed(_ENCODE(told)))

    def close(self) -> None:
        """End the connection once what was written is sent."""
        if self._transport is not None:
            self._transport.close()
