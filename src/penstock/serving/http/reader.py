"""What one caller sends, from bytes to requests: the parser, its bounds, and the heads that were read before."""

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

import httptools
import structlog

from penstock.serving.http.app import App
from penstock.serving.http.bodies import inflate, too_large
from penstock.serving.http.heads import CHUNKED, Head, join_header, malformed, read_head
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Route
from penstock.serving.refusals import RequestError

_HEAD_END = b"\r\n\r\n"
_KNOWN_HEADS = 512
_KNOWN_HEAD_BYTES = 2048
_UNKNOWN_HEADS = 32
_DROPPED_BYTES = 64 * 1024  # a refused body up to this size is read and dropped, and the connection goes on
_OVERHEAD = 8  # bytes on the wire for one of a chunked body: "1\r\nx\r\n" is 6
_SLACK_BYTES = 64 * 1024
_TRACE = re.compile(rb"\r\ntraceparent: (00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})(?=\r\n)")
_events = structlog.get_logger("penstock.serving")


class Phase(Enum):
    """Where a caller is in what it sends; when nobody listens any more, whatever comes is dropped."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    DEAF = auto()


_IDLE, _HEAD, _BODY, _DEAF = Phase  # read several times per request


@dataclass(frozen=True, slots=True)
class _Known:
    """A head that was read before: the same bytes need not be parsed again."""

    head: Head
    route: Route
    size: int


@dataclass(slots=True)
class Shared:
    """What all connections of a worker share.

    Attributes:
        now_s: The event loop's clock when it was last looked at, which is often enough for what takes seconds.
        known: Heads that were read before.
        known_traced: Heads that were read before with a trace context, which is left out.
    """

    app: App
    limits: Limits
    now_s: float
    known: dict[bytes, _Known] = field(default_factory=dict)
    known_traced: dict[bytes, _Known] = field(default_factory=dict)


class Exchanges(Protocol):
    """What a reader tells its connection."""

    def take(self, head: Head, route: Route, request: Request) -> None:
        """Answer a request when it is its turn."""
        ...

    def say(self, reply: Reply, head: Head) -> None:
        """Refuse a request when it is its turn, and go on."""
        ...

    def end(self, reply: Reply) -> None:
        """Refuse what is being read when it is its turn, and read nothing more."""
        ...

    def fail(self) -> None:
        """Drop the connection."""
        ...


class _Stop(Exception):  # noqa: N818  # not an error: it ends the parser's run over bytes that nobody will read
    """Nothing more of this connection is read."""


class Reader:
    """Reads the requests of one connection.

    Attributes:
        phase: Where the caller is.
        due_s: When what is being read, or awaited, must be there.
        owes_continue: The caller waits for "100 Continue" before it sends its body.
    """

    __slots__ = (
        *(
            "_body",
            "_early",
            "_exchanges",
            "_fed",
            "_has_completed",
            "_head",
            "_head_bytes",
            "_headers",
            "_is_replayed",
        ),
        *("_parser", "_refusal", "_route", "_shared", "_target", "_unknown", "_wire_bytes"),
        *("due_s", "owes_continue", "phase"),
    )

    def __init__(self, shared: Shared, exchanges: Exchanges) -> None:
        self._shared = shared
        self._exchanges = exchanges
        self._parser = httptools.HttpRequestParser(self)
        self._fed: bytes | None = None  # the bytes being parsed, until the first head in them is whole
        self._early = b""  # a known head whose body had not come with it
        self._has_completed = self._is_replayed = False
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head: Head | None = None
        self._route: Route | None = None
        self._refusal: Reply | None = None
        self._body: bytes | bytearray = b""
        self._head_bytes = self._wire_bytes = self._unknown = 0
        self.phase = _IDLE
        self.due_s = shared.now_s + shared.limits.receive_s
        self.owes_continue = False

    def read(self, data: bytes) -> None:
        """Parse what came; requests that are whole are handed on before this returns."""
        if self.phase is _DEAF:
            return
        if self._early:
            data, self._early = self._early + data, b""
            self.phase = _IDLE
        if self.phase is _IDLE:
            end = data.find(_HEAD_END) + 4
            known = self._shared.known.get(data[:end])
            if known is None:
                if self._is_read_traced(data, end):
                    return
            elif self._is_read(known, known.head.request, data, end):
                return
        self._feed(data)

    def expect(self) -> None:
        """Wait for the next request, or its rest; the last one has been replied to."""
        limits = self._shared.limits
        self.due_s = self._shared.now_s + (limits.idle_s if self.phase is _IDLE else limits.receive_s)

    def give_up(self) -> None:
        """Refuse what did not arrive in time."""
        part = "head" if self.phase is _HEAD else "body"
        self._refuse(RequestError(f"The {part} of the request did not arrive in time.", status=408, reason="too_slow"))

    def cut_off(self) -> None:
        """Refuse what will never be whole."""
        self._refuse(malformed("The caller left before the request was whole."))

    def close(self) -> None:
        """Let go of everything."""
        self.phase = _DEAF
        self._body = self._early = b""
        del self._parser  # it holds this reader's methods, and they the reader

    # What the parser tells.

    def on_message_begin(self) -> None:
        """Start with a new head."""
        if self._is_replayed:
            return
        self.phase = _HEAD
        self._target = b""
        self._headers = {}
        self._refusal = None
        self.due_s = self._shared.now_s + self._shared.limits.receive_s

    def on_url(self, url: bytes) -> None:
        """Take the target, or a part of it."""
        if not self._is_replayed:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those after a chunked body are dropped."""
        if self.phase is not _HEAD:
            return
        name = name.lower()
        if name not in self._headers:
            self._headers[name] = value.rstrip(b" \t")
            return
        try:
            join_header(self._headers, name, value.rstrip(b" \t"))
        except RequestError as error:
            self._refuse(error)
            raise _Stop from error

    def on_headers_complete(self) -> None:
        """Decide by the head whether the body is read."""
        if self._is_replayed:
            return
        self.phase = _BODY
        self._body = b""
        self._wire_bytes = 0
        try:
            if self._fed is None or len(self._fed) > self._shared.limits.head_bytes:
                self._check_size()
            head = self._head = read_head(self._parser, self._target, self._headers)
        except RequestError as error:
            self._refuse(error)
            raise _Stop from error
        self.due_s = self._shared.now_s + self._shared.limits.receive_s
        found = self._shared.app.admit(head.request, head.length)
        if isinstance(found, Route):
            self._route = found
            self._learn(head, found)
            self.owes_continue = head.waits
        elif head.waits or not 0 <= head.length <= _DROPPED_BYTES:
            self._end(found)
            raise _Stop
        else:
            self._refusal = found
        self._fed = None

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        if self._refusal is not None:
            return
        self.owes_continue = False
        if not self._body:
            self._body = data
        elif isinstance(self._body, bytearray):
            self._body += data
        else:
            self._body = bytearray(self._body) + data
        if len(self._body) > self._shared.limits.body_bytes:
            self._refuse(too_large(self._shared.limits))
            raise _Stop

    def on_message_complete(self) -> None:
        """Hand the request on."""
        head, route, refusal = self._head, self._route, self._refusal
        if head is None or (self._parser.should_upgrade() and not self._is_replayed):
            return
        self._is_replayed = self.owes_continue = False
        self._has_completed = True
        self._head = None
        self.phase = _IDLE if head.is_kept else _DEAF
        body, self._body = bytes(self._body), b""
        if refusal is not None:
            self._exchanges.say(refusal, head)
        elif route is not None:
            self._hand_over(head, route, head.request, body)

    # What follows from it.

    def _is_read_traced(self, data: bytes, end: int) -> bool:
        """Read a request whose head is known but for its trace context, which callers change with every request."""
        found = _trace_of(data, end)
        known = None if found is None else self._shared.known_traced.get(found[0])
        if found is None or known is None:
            return False
        given = known.head.request
        headers = {**given.headers, b"traceparent": found[1]}
        return self._is_read(known, Request(given.method, given.path, headers, b"", given.query), data, end)

    def _is_read(self, known: _Known, request: Request, data: bytes, end: int) -> bool:
        """Read a request with a known head, if it is whole; hold the head when nothing of its body is there yet."""
        if known.size == len(data):
            self._unknown = 0
            self._hand_over(known.head, known.route, request, data[end:])
            return True
        if end < len(data):
            return False
        self._early = data
        self.phase = _BODY
        self.due_s = self._shared.now_s + self._shared.limits.receive_s
        return True

    def _feed(self, data: bytes) -> None:
        self._fed = data if self.phase is _IDLE else None
        self._has_completed = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, _Stop):
                _events.error("connection_failed", exc_info=error.__context__)
                self._exchanges.fail()
        except httptools.HttpParserError:
            # After the last request of a connection, whatever follows is nobody's.
            if self.phase is not _DEAF:
                self._refuse(malformed("The request is not HTTP/1.1."))
        self._fed = None
        # What was read of the request before is not counted against the one that began behind it.
        self._bound(0 if self._has_completed else len(data))

    def _bound(self, count: int) -> None:
        if self.phase is _HEAD:
            self._head_bytes = self._head_bytes + count if count else 0
            if self._head_bytes > self._shared.limits.head_bytes:
                self._refuse(_head_too_large())
            return
        self._head_bytes = 0
        if self.phase is _BODY and self._head is not None and self._head.length == CHUNKED:
            self._wire_bytes += count
            # Chunks may be as small as a byte, but their extensions and trailers may not go on without end.
            if self._wire_bytes > _OVERHEAD * len(self._body) + _SLACK_BYTES:
                self._refuse(too_large(self._shared.limits))

    def _check_size(self) -> None:
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers.items())
        if size > self._shared.limits.head_bytes:
            raise _head_too_large()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read the body of a request that would rather speak another protocol, which a server need not take up."""
        head = self._head
        if head is None:
            return
        framing = b"transfer-encoding: chunked" if head.length == CHUNKED else b"content-length: %d" % head.length
        self._parser = httptools.HttpRequestParser(self)
        self._is_replayed = True
        self._feed(b"POST / HTTP/1.1\r\n" + framing + _HEAD_END + rest)

    def _learn(self, head: Head, route: Route) -> None:
        """Remember a head that came whole, first in what was read, when nothing but its bytes decides."""
        data = self._fed
        # A caller whose heads always differ would only push out those of others.
        self._unknown += 1
        if self._unknown > _UNKNOWN_HEADS and self._unknown % _UNKNOWN_HEADS:
            return
        if data is None or not head.is_plain or not head.is_kept or not data[:1].isalpha():
            return
        end = data.find(_HEAD_END) + 4
        if end <= _KNOWN_HEAD_BYTES:
            found = _trace_of(data, end)
            known = _Known(head, route, end + head.length)
            if found is None:
                _learn(self._shared.known, data[:end], known)
            elif b"traceparent" not in found[0].lower():  # a second one would be joined with the first
                _learn(self._shared.known_traced, found[0], known)

    def _hand_over(self, head: Head, route: Route, request: Request, body: bytes) -> None:
        if body:
            if b"content-encoding" in request.headers:
                try:
                    coding = request.headers[b"content-encoding"].lower()
                    body = inflate(body, coding, self._shared.limits)
                except RequestError as error:
                    self._exchanges.say(self._shared.app.refuse(error, request), head)
                    return
            request = Request(request.method, request.path, request.headers, body, request.query)
        self._exchanges.take(head, route, request)

    def _refuse(self, error: RequestError) -> None:
        app = self._shared.app
        self._end(app.refuse(error) if self._head is None else app.refuse(error, self._head.request))

    def _end(self, reply: Reply) -> None:
        self.phase = _DEAF
        self._head = None
        self._exchanges.end(reply)


def _learn(heads: dict[bytes, _Known], head: bytes, known: _Known) -> None:
    if len(heads) >= _KNOWN_HEADS:
        heads.clear()
    heads[head] = known


def _trace_of(data: bytes, end: int) -> tuple[bytes, bytes] | None:
    """Return a head without its trace context, and that; None when it has none of the usual form."""
    at = data.find(b"\r\ntraceparent: 00-", 0, end)
    found = _TRACE.match(data, at, end) if at > 0 else None
    return None if found is None else (data[:at] + data[found.end() : end], found[1])


def _head_too_large() -> RequestError:
    return RequestError("The request line and headers are too large.", status=431, reason="head_too_large")
