"""The ear of a worker: a thread that answers HTTP, and the place where it listens.

Every request is a connection of its own that lives seconds, so nobody who is slow holds a place for long.
"""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from penstock.core.errors import InputError
from penstock.project.workspace import Workspace
from penstock.serving.http.requests import LOOPBACK_NAMES
from penstock.worker.door import Door

_MOST_CONNECTIONS = 512
_CONNECTION_S, _GRACE_S = 20.0, 5.0
_HEAD_BYTES = 16_384
_SHORTEST_TOKEN = 32


@dataclass(frozen=True, slots=True)
class Listener:
    """A worker's ear.

    Attributes:
        url: "http://127.0.0.1:8900".
        stop: Lets requests under way end, then ends the thread.
    """

    url: str
    stop: Callable[[], None]


class _Brief(H11Protocol):
    """A connection that is over after some seconds, however slowly its other end speaks; an answer is never cut off."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._over = self.loop.call_later(_CONNECTION_S, self._end, transport)

    def _end(self, transport: Any) -> None:
        cycle: Any = self.cycle  # None before the first request
        if cycle is not None and not cycle.response_complete:
            self._over = self.loop.call_later(1.0, self._end, transport)
            return
        transport.close()
        self._over = self.loop.call_later(_GRACE_S, transport.abort)  # what is read too slowly

    def connection_lost(self, exc: Exception | None) -> None:
        self._over.cancel()
        super().connection_lost(exc)


def _nothing() -> None:
    """Nobody is told."""


def read_place(text: str) -> tuple[str, int]:
    """Return host and port of "127.0.0.1:8900", "[::1]:8900" or ":8900".

    Raises:
        InputError: It is no such text.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise InputError(f"{text!r} is no place to listen at.", hint="write host and port, as 127.0.0.1:8900")
    return host, int(port)


def listen(
    workspace: Callable[[], Workspace], place: str, token: str | None, *, on_asked: Callable[[], None] = _nothing
) -> Listener:
    """Answer requests for retrains in a thread of its own.

    Args:
        workspace: Gives the project as it is now.
        place: "127.0.0.1:8900"; port 0 takes any free one.
        token: What callers must know, whatever the place.
        on_asked: Is told of each new wish.

    Raises:
        InputError: There is no token or a short one, or the place cannot be used.
    """
    if token is None or len(token) < _SHORTEST_TOKEN:
        what = "no token" if not token else f"a token of {len(token)} characters"
        raise InputError(
            f"Listening with {what} is refused: whoever reaches the port could start retrains.",
            hint="export PENSTOCK_WEBHOOK_TOKEN=\"$(python -c 'import secrets; print(secrets.token_urlsafe(32))')\"",
        )
    host, _ = read_place(place)
    names = LOOPBACK_NAMES if host in LOOPBACK_NAMES else None
    return answer_at(Door(workspace, token, names, on_asked).app(), place, name="listen")


def answer_at(app: ASGIApp, place: str, *, name: str) -> Listener:
    """Answer by an application in a thread of its own.

    Args:
        app: What answers.
        place: "127.0.0.1:8900"; port 0 takes any free one.
        name: Of the option that gave the place.

    Raises:
        InputError: The place cannot be used.
    """
    host, port = read_place(place)
    bound = _bound(host, port, name)
    config = uvicorn.Config(
        app,
        http=_Brief,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        limit_concurrency=_MOST_CONNECTIONS,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        timeout_graceful_shutdown=5,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=partial(server.run, sockets=[bound]), name=name, daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join(15)

    shown = f"[{host}]" if ":" in host else host
    return Listener(url=f"http://{shown}:{bound.getsockname()[1]}", stop=stop)


def _bound(host: str, port: int, name: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_MOST_CONNECTIONS)
    except OSError as error:
        raise InputError(
            f"Port {port} of {host!r} cannot be used: {error.strerror}.", hint=f"choose another with --{name} HOST:PORT"
        ) from error
