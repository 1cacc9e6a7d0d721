"""Who hears of alerts, for real: an HTTP server that answers as it is told to, and a mail server."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session


@dataclass(frozen=True, slots=True)
class Heard:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        """What it says."""
        return json.loads(self.body)

    @property
    def key(self) -> str:
        """What makes it this message."""
        return self.headers["idempotency-key"]


@dataclass(slots=True)
class Receiver:
    """An HTTP server.

    Attributes:
        url: Where it is.
        answers: What it answers to the next requests, then 200: a status, "hang" until it ends, "drip" a byte a second.
        heard: What came.
    """

    url: str = ""
    answers: list[int | str] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def keys(self) -> list[str]:
        """The keys that came, in their order."""
        return [one.key for one in self.heard]


@contextlib.contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    """Listen on a free port until the block ends."""
    found = Receiver()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.heard.append(Heard(self.path, headers, body))
            answer = found.answers.pop(0) if found.answers else 200
            if answer == "hang":
                found.closing.wait(60)
                self.close_connection = True
                return
            if answer == "drip":
                self._drip()
                return
            self.send_response(int(answer))
            self.send_header("content-length", "0")
            self.end_headers()

        def _drip(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                for letter in b"HTTP/1.1 200 OK\r\nx-slow: " + b"x" * 100:
                    if found.closing.wait(0.1):
                        return
                    self.wfile.write(bytes([letter]))
                    self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is that of the library
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Answers)
    server.daemon_threads = False
    server.block_on_close = True
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        found.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(slots=True)
class Letterbox:
    """What a mail server took; `refuse` is what it answers to the next letters instead."""

    letters: list[Envelope] = field(default_factory=list)
    refuse: list[str] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802, ARG002  # as the library calls it
        """Take a letter."""
        if self.refuse:
            return self.refuse.pop(0)
        self.letters.append(envelope)
        return "250 taken"


@contextlib.contextmanager
def mail_server(box: Letterbox, **options: Any) -> Iterator[int]:
    """Serve SMTP on a free port; give the port."""
    controller = Controller(box, hostname="127.0.0.1", port=_free_port(), **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
