"""An app with routes for the tests of connections, served over real sockets by an event loop in a thread."""

import asyncio
import concurrent.futures
import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvloop

from penstock.serving.http.app import App
from penstock.serving.http.connections import Connections
from penstock.serving.http.requests import LOOPBACK_NAMES, Heads
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Respond, Route

HEAD = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"


@dataclass
class Served:
    """A served app.

    Attributes:
        waiting: Requests to `/later` with the functions that answer them.
    """

    port: int
    loop: asyncio.AbstractEventLoop
    connections: Connections
    waiting: "queue.Queue[tuple[Request, Respond]]"

    def connect(self, timeout_s: float = 10.0) -> socket.socket:
        """Return a new connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def talk(self, *parts: bytes) -> bytes:
        """Send bytes on one connection and return everything that comes back until the server closes."""
        with self.connect() as link:
            with contextlib.suppress(ConnectionError):  # it may close before it has read everything
                for part in parts:
                    link.sendall(part)
            return read_all(link)

    def answer_one(self, body: bytes) -> Request:
        """Answer the request to `/later` that has waited longest, and return it."""
        request, respond = self.waiting.get(timeout=10)
        self.loop.call_soon_threadsafe(respond, Reply(200, body, kind=b"text/plain"))
        return request

    def drain(self) -> "concurrent.futures.Future[None]":
        """Tell the server to leave."""
        return asyncio.run_coroutine_threadsafe(self.connections.drain(), self.loop)

    @property
    def is_draining(self) -> bool:
        """Whether the server has been told to leave."""
        return self.connections._app.draining

    def open_count(self) -> int:
        """Return how many connections the server holds."""
        opened = self.connections._opened
        return 0 if opened is None else len(opened.connections)


def echo(body: bytes, extra: bytes = b"") -> bytes:
    """Return a request to `/echo`, with further header lines."""
    return HEAD + extra + b"Content-Length: %d\r\n\r\n" % len(body) + body


def get_request(path: str, extra: str = "") -> bytes:
    """Return a request that reads a path, with further header lines."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode()


def status_of(received: bytes) -> int:
    """Return the status of the first reply."""
    return int(received.split(b" ", 2)[1])


def read_all(link: socket.socket) -> bytes:
    """Return everything until the server closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := link.recv(65536):
            received += chunk
    return received


def read_reply(link: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of one reply; whatever follows stays in the socket."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = link.recv(1)
        if not byte:
            raise EOFError(head)
        head += byte
    first, *lines = head.decode().strip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    body = b""
    while len(body) < int(headers.get("content-length", "0")):
        part = link.recv(int(headers["content-length"]) - len(body))
        if not part:
            raise EOFError(body)
        body += part
    return int(first.split(" ")[1]), headers, body


def _echo(request: Request, respond: Respond) -> None:
    respond(Reply(200, request.body, kind=b"text/plain"))


def _target(request: Request, respond: Respond) -> None:
    respond(Reply(200, f"{request.method} {request.path} {request.query.decode()}".encode(), kind=b"text/plain"))


def _trace(request: Request, respond: Respond) -> None:
    respond(Reply(200, request.headers.get(b"traceparent", b"none"), kind=b"text/plain"))


def _big(request: Request, respond: Respond) -> None:
    respond(Reply(200, b"x" * int(request.query or b"0"), kind=b"text/plain"))


def _failing(request: Request, respond: Respond) -> None:
    raise RuntimeError("a fault of the server's own")


def _injecting(request: Request, respond: Respond) -> None:
    respond(Reply(200, b"", headers=((b"x-echo", b"a\r\nx-injected: b"),)))


def _twice(request: Request, respond: Respond) -> None:
    respond(Reply(200, b"first", kind=b"text/plain"))
    respond(Reply(200, b"second", kind=b"text/plain"))


def post(handle: Callable[[Request, Respond], None]) -> Route:
    """Return a route that takes any body."""
    return Route(methods=frozenset({"POST"}), permission="predict", handle=handle, kinds=("*",))


def get(handle: Callable[[Request, Respond], None]) -> Route:
    """Return a route that is read."""
    return Route(methods=frozenset({"GET"}), permission="read", handle=handle)


@contextlib.contextmanager
def serving(limits: Limits) -> Iterator[Served]:
    """Serve until the block ends."""
    started: queue.Queue[Served] = queue.Queue()
    stop = asyncio.Event()
    waiting: queue.Queue[tuple[Request, Respond]] = queue.Queue()

    async def run() -> None:
        routes = {
            "/echo": post(_echo),
            "/later": post(lambda request, respond: waiting.put((request, respond))),
            "/twice": post(_twice),
            "/target": get(_target),
            "/big": get(_big),
            "/trace": get(_trace),
            "/failing": get(_failing),
            "/injecting": get(_injecting),
        }
        app = App(routes, "movies@1", heads=Heads(LOOPBACK_NAMES), limits=limits)
        connections = Connections(app, limits)
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        listener.setblocking(False)
        port = listener.getsockname()[1]
        await connections.open(listener)
        started.put(Served(port, asyncio.get_running_loop(), connections, waiting))
        await stop.wait()
        await connections.drain()

    def work() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run())

    thread = threading.Thread(target=work, name="served-app")
    thread.start()
    served = started.get(timeout=10)
    try:
        yield served
    finally:
        served.loop.call_soon_threadsafe(stop.set)
        thread.join(30)
