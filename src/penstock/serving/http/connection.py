"""One caller's connection: bytes in, requests to the app, replies out in their order; bounded in size and time."""

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import cast

import httptools
import structlog

from penstock.serving.http.app import App
from penstock.serving.http.bodies import inflate, too_large
from penstock.serving.http.heads import CHUNKED, Head, join_header, malformed, read_head
from penstock.serving.http.replies import CONTINUE, encode_reply
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Route
from penstock.serving.refusals import RequestError

_HEAD_END = b"\r\n\r\n"
_KNOWN_HEADS = 512
_KNOWN_HEAD_BYTES = 2048
_UNKNOWN_HEADS = 32
_DROPPED_BYTES = 64 * 1024  # a refused body up to this size is read and dropped, and the connection goes on
_READ_BYTES = 256 * 1024  # the least that a slow reader must take in each `receive_s`
_OVERHEAD = 8  # bytes on the wire for one of a chunked body: "1\r\nx\r\n" is 6
_SLACK_BYTES = 64 * 1024
_events = structlog.get_logger("penstock.serving")


class _Phase(Enum):
    """Where a connection is in what it receives; when it is deaf, whatever comes is dropped."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    DEAF = auto()


_IDLE, _HEAD, _BODY, _DEAF = _Phase  # read several times per request


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
        connections: Those that are open.
        emptied: Set when the last one has gone.
    """

    app: App
    limits: Limits
    now_s: float
    connections: set["Connection"] = field(default_factory=set)
    emptied: asyncio.Event = field(default_factory=asyncio.Event)
    known: dict[bytes, _Known] = field(default_factory=dict)

    def learn(self, head: bytes, known: _Known) -> None:
        """Remember a head."""
        if len(self.known) >= _KNOWN_HEADS:
            self.known.clear()
        self.known[head] = known


class _Exchange:
    """One request's place in the order of replies; called with its reply, once."""

    __slots__ = ("connection", "head", "is_last", "reply", "request", "route")

    def __init__(
        self, connection: "Connection", head: Head | None, route: Route | None, request: Request | None
    ) -> None:
        self.connection: Connection | None = connection
        self.head = head
        self.route = route
        self.request = request
        self.reply: Reply | None = None
        self.is_last = head is None or not head.is_kept

    def __call__(self, reply: Reply) -> None:
        connection = self.connection
        if connection is None:
            _events.error("answered_twice", path=self.request.path if self.request else "")
            return
        self.connection = None
        connection.reply(self, reply)


class _Stop(Exception):  # noqa: N818  # not an error: it ends the parser's run over bytes that nobody will read
    """Nothing more of this connection is read."""


class Connection(asyncio.Protocol):
    """A connection of one caller.

    While a reply is due, nothing more is parsed, and reading stops as soon as something more arrives: a caller that
    sends requests without waiting for replies fills the sockets, not this process.

    Attributes:
        due_s: When `expire` is to look at it.
    """

    __slots__ = (
        *("_body", "_exchange", "_fed", "_has_completed", "_head", "_head_bytes", "_headers", "_held", "_is_advancing"),
        *("_is_half_closed", "_is_leaving", "_is_replayed", "_is_stuck", "_owes_continue", "_parser", "_phase"),
        *("_queue", "_refusal", "_route", "_shared", "_target", "_transport", "_unknown", "_unsent", "_wire_bytes"),
        "due_s",
    )

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._phase = _IDLE
        self._exchange: _Exchange | None = None  # the one whose reply is due
        self._queue: deque[_Exchange] = deque()  # those behind it that came in the same read
        self._held = b""  # what came while a reply was due, not parsed
        self._is_advancing = self._is_half_closed = self._is_leaving = self._is_stuck = self._is_replayed = False
        self._owes_continue = self._has_completed = False
        self._unsent = self._unknown = 0
        self._fed: bytes | None = None
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head: Head | None = None
        self._head_bytes = self._wire_bytes = 0
        self._route: Route | None = None
        self._refusal: Reply | None = None
        self._body: bytes | bytearray = b""
        self.due_s = shared.now_s + shared.limits.receive_s

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._shared.connections.add(self)
        if len(self._shared.connections) > self._shared.limits.connections:
            self._end(self._shared.app.busy())

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything; a reply that is still due goes nowhere."""
        del exc  # whether the caller left in good order changes nothing here
        self._transport = None
        del self._parser  # it holds this connection's methods, and they the connection
        self._phase = _DEAF
        self._queue.clear()
        self._held = b""
        self._body = b""
        shared = self._shared
        shared.connections.discard(self)
        if not shared.connections:
            shared.emptied.set()

    def data_received(self, data: bytes) -> None:
        """Parse what came, or hold it while a reply is due."""
        if self._exchange is not None or self._is_stuck:
            if self._phase is not _DEAF:
                self._held += data
                self._pause()
            return
        if self._phase is _IDLE:
            known = self._shared.known.get(data[: data.find(_HEAD_END) + 4])
            if known is not None and known.size == len(data):
                self._unknown = 0
                self._take(known.head, known.route, data[-known.head.length :] if known.head.length else b"")
                return
        self._feed(data)

    def eof_received(self) -> bool:
        """Go on with what was asked when the caller will ask nothing more."""
        self._is_half_closed = True
        if self._exchange is not None or self._queue or self._held or self._is_stuck:
            return True
        if self._phase in {_HEAD, _BODY}:
            self._refuse(malformed("The caller left before the request was whole."))
            return True
        return False

    def pause_writing(self) -> None:
        """Answer nothing more until the caller has read what it was sent."""
        self._is_stuck = True
        self._unsent = self._buffered()
        self.due_s = self._shared.now_s + self._shared.limits.receive_s

    def resume_writing(self) -> None:
        """Go on."""
        self._is_stuck = False
        self.due_s = self._shared.now_s + self._shared.limits.idle_s
        self._advance()

    # What the worker tells.

    def expire(self) -> None:
        """End what has waited too long."""
        if self._is_stuck or self._is_leaving:
            self._look_at_reader()
        elif self._exchange is not None:
            return
        elif self._phase is _IDLE:
            self._close()
        elif self._phase is _DEAF:
            self._abort()
        else:
            part = "head" if self._phase is _HEAD else "body"
            self._refuse(
                RequestError(f"The {part} of the request did not arrive in time.", status=408, reason="too_slow")
            )

    def close_if_idle(self) -> None:
        """Close when nothing is under way."""
        if self._exchange is None and not self._queue and self._phase is _IDLE:
            self._close()

    def reply(self, exchange: _Exchange, reply: Reply) -> None:
        """Send the reply to a request, which is the one that is due."""
        self._exchange = None
        transport = self._transport
        if transport is None or self._is_leaving:
            return
        head = exchange.head
        is_done = self._is_half_closed and not self._queue and not self._held
        is_last = exchange.is_last or is_done or self._shared.app.draining
        connection = b"close" if is_last else b"keep-alive" if head is not None and head.is_old else b""
        is_head = head is not None and head.request.method == "HEAD"
        self.due_s = self._shared.now_s + self._shared.limits.idle_s
        try:
            transport.write(encode_reply(reply, connection=connection, is_head=is_head))
        except ValueError:
            _events.exception("reply_failed", status=reply.status)
            is_last = True
        if is_last:
            self._leave(has_unread=head is None)
        elif self._queue or self._held:
            self._advance()

    # What the parser tells.

    def on_message_begin(self) -> None:
        """Start with a new head."""
        if self._is_replayed:
            return
        self._phase = _HEAD
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
        if self._phase is not _HEAD:
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
        self._phase = _BODY
        self._body = b""
        self._wire_bytes = 0
        app = self._shared.app
        try:
            if self._fed is None or len(self._fed) > self._shared.limits.head_bytes:
                self._check_size()
            head = self._head = read_head(self._parser, self._target, self._headers)
        except RequestError as error:
            self._refuse(error)
            raise _Stop from error
        self.due_s = self._shared.now_s + self._shared.limits.receive_s
        found = app.admit(head.request, head.length)
        if isinstance(found, Route):
            self._route = found
            if head.waits:
                self._owes_continue = True
                self._offer_continue()
        elif head.waits or not 0 <= head.length <= _DROPPED_BYTES:
            self._end(found)
            raise _Stop
        else:
            self._refusal = found

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        if self._refusal is not None:
            return
        self._owes_continue = False
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
        """Hand the request over."""
        head = self._head
        if head is None or (self._parser.should_upgrade() and not self._is_replayed):
            return
        self._is_replayed = self._owes_continue = False
        self._has_completed = True
        self._head = None
        self._phase = _IDLE if head.is_kept else _DEAF
        body, self._body = bytes(self._body), b""
        if self._refusal is not None or self._route is None:
            self._say(self._refusal or self._shared.app.busy(), head)
            self._refusal = None
            return
        self._learn(head, self._route)
        self._take(head, self._route, body)

    # What follows from it.

    def _check_size(self) -> None:
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers.items())
        if size > self._shared.limits.head_bytes:
            raise _head_too_large()

    def _feed(self, data: bytes) -> None:
        phase = self._phase
        if phase is _DEAF:
            return
        self._fed = data if phase is _IDLE else None
        self._has_completed = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._note(error.__context__)
        except httptools.HttpParserError:
            # After the last request of a connection, whatever follows is nobody's.
            if self._phase is not _DEAF:
                self._refuse(malformed("The request is not HTTP/1.1."))
        self._fed = None
        # What was read of the request before is not counted against the one that began behind it.
        self._bound(0 if self._has_completed else len(data))

    def _bound(self, count: int) -> None:
        if self._phase is _HEAD:
            self._head_bytes = self._head_bytes + count if count else 0
            if self._head_bytes > self._shared.limits.head_bytes:
                self._refuse(_head_too_large())
            return
        self._head_bytes = 0
        if self._phase is _BODY and self._head is not None and self._head.length == CHUNKED:
            self._wire_bytes += count
            # Chunks may be as small as a byte, but their extensions and trailers may not go on without end.
            if self._wire_bytes > _OVERHEAD * len(self._body) + _SLACK_BYTES:
                self._refuse(too_large(self._shared.limits))

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read the body of a request that would rather speak another protocol, which a server need not take up."""
        head = self._head
        if head is None:
            return
        framing = b"transfer-encoding: chunked" if head.length == CHUNKED else b"content-length: %d" % head.length
        self._parser = httptools.HttpRequestParser(self)
        self._is_replayed = True
        self._feed(b"POST / HTTP/1.1\r\n" + framing + _HEAD_END + rest)

    def _note(self, error: BaseException | None) -> None:
        if isinstance(error, _Stop):
            return
        _events.error("connection_failed", exc_info=error)
        self._abort()

    def _learn(self, head: Head, route: Route) -> None:
        """Remember a head that came whole with its body, alone in one read, when nothing but its bytes decides."""
        data, self._fed = self._fed, None
        # A caller whose heads always differ would only push out those of others.
        self._unknown += 1
        if self._unknown > _UNKNOWN_HEADS and self._unknown % _UNKNOWN_HEADS:
            return
        if data is None or not head.is_plain or not head.is_kept or not data[:1].isalpha():
            return
        end = data.find(_HEAD_END) + 4
        if end <= _KNOWN_HEAD_BYTES and end + head.length == len(data):
            self._shared.learn(data[:end], _Known(head, route, len(data)))

    def _take(self, head: Head, route: Route, body: bytes) -> None:
        given = head.request
        if b"content-encoding" in given.headers and body:
            try:
                body = inflate(body, given.headers[b"content-encoding"].lower(), self._shared.limits)
            except RequestError as error:
                self._say(self._shared.app.refuse(error, given.path), head)
                return
        request = Request(given.method, given.path, given.headers, body, given.query) if body else given
        exchange = _Exchange(self, head, route, request)
        if self._exchange is None and not self._is_stuck:
            self._exchange = exchange
            self._shared.app.answer(route, request, exchange)
        else:
            self._queue.append(exchange)

    def _say(self, reply: Reply, head: Head | None) -> None:
        """Give a reply that needs no answer, in its turn."""
        exchange = _Exchange(self, head, None, None)
        if self._exchange is None and not self._is_stuck:
            self._exchange = exchange
            exchange(reply)
        else:
            exchange.reply = reply
            self._queue.append(exchange)

    def _refuse(self, error: RequestError) -> None:
        path = self._head.request.path if self._head is not None else ""
        self._end(self._shared.app.refuse(error, path))

    def _end(self, reply: Reply) -> None:
        """Give the last reply of this connection, and read nothing more."""
        self._phase = _DEAF
        self._head = None
        self._say(reply, None)

    def _advance(self) -> None:
        """Go on with what waits behind a reply that has been sent."""
        if self._is_advancing:
            return
        self._is_advancing = True
        while self._exchange is None and not self._is_stuck and self._transport is not None and not self._is_leaving:
            if self._queue:
                exchange = self._exchange = self._queue.popleft()
                if exchange.route is not None and exchange.request is not None:
                    self._shared.app.answer(exchange.route, exchange.request, exchange)
                elif exchange.reply is not None:
                    exchange(exchange.reply)
            elif self._held:
                data, self._held = self._held, b""
                self._resume()
                self.data_received(data)
            else:
                break
        self._is_advancing = False
        self._offer_continue()
        if self._is_half_closed and self._exchange is None and not self._queue and not self._held:
            self._close()

    def _offer_continue(self) -> None:
        is_turn = self._exchange is None and not self._queue and not self._is_stuck
        if self._owes_continue and is_turn and self._transport is not None:
            self._owes_continue = False
            self._transport.write(CONTINUE)

    def _leave(self, *, has_unread: bool) -> None:
        """Part after the last reply.

        Closing a socket with unread bytes in it resets the connection, and the reply may be lost on its way; so the
        caller is told that nothing follows, and what it still sends is dropped for a moment.
        """
        self._phase = _DEAF
        self._queue.clear()
        self._held = b""
        transport = self._transport
        if transport is None:
            return
        if not has_unread or self._is_half_closed:
            self._close()
            return
        transport.write_eof()
        self._resume()
        self.due_s = self._shared.now_s + self._shared.limits.linger_s

    def _look_at_reader(self) -> None:
        unsent = self._buffered()
        if self._unsent - unsent < _READ_BYTES:
            self._abort()
        else:
            self._unsent = unsent
            self.due_s = self._shared.now_s + self._shared.limits.receive_s

    def _buffered(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _pause(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_reading() and not self._transport.is_closing():
            self._transport.resume_reading()

    def _close(self) -> None:
        if self._transport is None or self._is_leaving:
            return
        self._is_leaving = True
        self._unsent = self._buffered()
        self.due_s = self._shared.now_s + self._shared.limits.receive_s
        self._transport.close()

    def _abort(self) -> None:
        self.due_s = math.inf
        if self._transport is not None:
            self._transport.abort()


def _head_too_large() -> RequestError:
    return RequestError("The request line and headers are too large.", status=431, reason="head_too_large")
