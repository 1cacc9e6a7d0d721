"""One caller's connection: requests to the app, replies out in their order; bounded in what waits either way."""

import asyncio
import math
from collections import deque
from dataclasses import dataclass, field
from typing import cast

import structlog

from penstock.serving.http.heads import Head
from penstock.serving.http.reader import Phase, Reader, Shared
from penstock.serving.http.replies import CONTINUE, encode_reply
from penstock.serving.messages import Reply, Request, Route

_READ_BYTES = 256 * 1024  # the least that a slow reader must take in each `receive_s`
_events = structlog.get_logger("penstock.serving")


@dataclass(slots=True)
class Opened:
    """The connections that are open.

    Attributes:
        most: How many there may be; one more is told so.
        emptied: Set when the last one has gone.
    """

    most: int
    connections: set["Connection"] = field(default_factory=set)
    emptied: asyncio.Event = field(default_factory=asyncio.Event)


class _Exchange:
    """One request's place in the order of replies; called with its reply, once."""

    __slots__ = ("connection", "head", "reply", "request", "route")

    def __init__(
        self, connection: "Connection", head: Head | None, route: Route | None = None, request: Request | None = None
    ) -> None:
        self.connection: Connection | None = connection
        self.head = head
        self.route = route
        self.request = request
        self.reply: Reply | None = None

    def __call__(self, reply: Reply) -> None:
        connection = self.connection
        if connection is None:
            _events.error("answered_twice", path=self.request.path if self.request else "")
            return
        self.connection = None
        connection.reply(self, reply)


class Connection(asyncio.Protocol):
    """A connection of one caller.

    While a reply is due, nothing more is parsed, and reading stops as soon as something more arrives: a caller that
    sends requests without waiting for replies fills the sockets, not this process.
    """

    __slots__ = (
        *("_exchange", "_held", "_is_advancing", "_is_half_closed", "_is_leaving", "_is_stuck", "_leave_s", "_opened"),
        *("_queue", "_reader", "_shared", "_transport", "_unsent"),
    )

    def __init__(self, shared: Shared, opened: Opened) -> None:
        self._shared = shared
        self._opened = opened
        self._reader = Reader(shared, self)
        self._transport: asyncio.Transport | None = None
        self._exchange: _Exchange | None = None  # the one whose reply is due
        self._queue: deque[_Exchange] = deque()  # those behind it that came in the same read
        self._held = b""  # what came while a reply was due, not parsed
        self._is_advancing = self._is_half_closed = self._is_leaving = self._is_stuck = False
        self._leave_s = math.inf  # when a caller that reads too slowly, or has been parted from, must have gone on
        self._unsent = 0

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._opened.connections.add(self)
        if len(self._opened.connections) > self._opened.most:
            self._reader.phase = Phase.DEAF
            self.end(self._shared.app.busy())

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything; a reply that is still due goes nowhere."""
        del exc  # whether the caller left in good order changes nothing here
        self._transport = None
        self._reader.close()
        self._queue.clear()
        self._held = b""
        self._opened.connections.discard(self)
        if not self._opened.connections:
            self._opened.emptied.set()

    def data_received(self, data: bytes) -> None:
        """Read requests, or hold what came while a reply is due."""
        if self._exchange is None and not self._is_stuck:
            self._reader.read(data)
            if self._reader.owes_continue:
                self._offer_continue()
        elif self._reader.phase is not Phase.DEAF:
            self._held += data
            self._pause()

    def eof_received(self) -> bool:
        """Go on with what was asked when the caller will ask nothing more."""
        self._is_half_closed = True
        if self._exchange is not None or self._queue or self._held or self._is_stuck:
            return True
        if self._reader.phase in {Phase.HEAD, Phase.BODY}:
            self._reader.cut_off()
            return True
        return False

    def pause_writing(self) -> None:
        """Answer nothing more until the caller has read what it was sent."""
        self._is_stuck = True
        self._watch_reader()

    def resume_writing(self) -> None:
        """Go on."""
        self._is_stuck = False
        self._reader.expect()
        if not self._is_leaving:
            self._leave_s = math.inf
            self._advance()

    # What the worker tells.

    def expire(self, now_s: float) -> None:
        """End what has waited too long; `now_s` is the event loop's clock."""
        phase = self._reader.phase
        if now_s >= self._leave_s:
            self._look_at_reader()
        elif self._is_stuck or self._exchange is not None or phase is Phase.DEAF or now_s < self._reader.due_s:
            return
        elif phase is Phase.IDLE:
            self._close()
        else:
            self._reader.give_up()

    def close_if_idle(self) -> None:
        """Close when nothing is under way."""
        if self._exchange is None and not self._queue and not self._held and self._reader.phase is Phase.IDLE:
            self._close()

    # What the reader tells.

    def take(self, head: Head, route: Route, request: Request) -> None:
        """Answer a request when it is its turn."""
        exchange = _Exchange(self, head, route, request)
        if self._exchange is None and not self._is_stuck:
            self._exchange = exchange
            self._shared.app.answer(route, request, exchange)
        else:
            self._queue.append(exchange)

    def say(self, reply: Reply, head: Head | None) -> None:
        """Give a reply that needs no answer, when it is its turn."""
        exchange = _Exchange(self, head)
        if self._exchange is None and not self._is_stuck:
            self._exchange = exchange
            exchange(reply)
        else:
            exchange.reply = reply
            self._queue.append(exchange)

    def end(self, reply: Reply) -> None:
        """Give the last reply of this connection when it is its turn."""
        self.say(reply, None)

    def fail(self) -> None:
        """Drop the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    # What the app tells, by way of an exchange.

    def reply(self, exchange: _Exchange, reply: Reply) -> None:
        """Send the reply to a request, which is the one that is due."""
        self._exchange = None
        transport = self._transport
        if transport is None or self._is_leaving:
            return
        head = exchange.head
        is_done = self._is_half_closed and not self._queue and not self._held
        is_last = head is None or not head.is_kept or is_done or self._shared.app.draining
        connection = b"close" if is_last else b"keep-alive" if head is not None and head.is_old else b""
        is_head = head is not None and head.request.method == "HEAD"
        try:
            transport.write(encode_reply(reply, connection=connection, is_head=is_head))
        except ValueError:
            _events.exception("reply_failed", status=reply.status)
            is_last = True
        self._reader.expect()
        if is_last:
            self._leave(has_unread=head is None)
        elif self._queue or self._held:
            self._advance()

    def _advance(self) -> None:
        """Go on with what waits behind a reply that has been sent."""
        if self._is_advancing:
            return
        self._is_advancing = True
        while self._exchange is None and not self._is_stuck and not self._is_leaving and self._transport is not None:
            if self._queue:
                exchange = self._exchange = self._queue.popleft()
                if exchange.route is not None and exchange.request is not None:
                    self._shared.app.answer(exchange.route, exchange.request, exchange)
                elif exchange.reply is not None:
                    exchange(exchange.reply)
            elif self._held:
                data, self._held = self._held, b""
                self._resume()
                self._reader.read(data)
            else:
                break
        self._is_advancing = False
        self._offer_continue()
        if self._is_half_closed and self._exchange is None and not self._queue and not self._held:
            self._close()

    def _offer_continue(self) -> None:
        is_turn = self._exchange is None and not self._queue and not self._is_stuck
        if self._reader.owes_continue and is_turn and self._transport is not None:
            self._reader.owes_continue = False
            self._transport.write(CONTINUE)

    def _leave(self, *, has_unread: bool) -> None:
        """Part after the last reply.

        Closing a socket with unread bytes in it resets the connection, and the reply may be lost on its way; so the
        caller is told that nothing follows, and what it still sends is dropped for a moment.
        """
        self._reader.phase = Phase.DEAF
        self._queue.clear()
        self._held = b""
        if not has_unread or self._is_half_closed or self._transport is None:
            self._close()
            return
        self._is_leaving = True
        if not self._transport.is_closing():
            self._transport.write_eof()
            self._resume()
        self._unsent = 0
        self._leave_s = self._shared.now_s + self._shared.limits.linger_s

    def _close(self) -> None:
        if self._transport is None or self._is_leaving:
            return
        self._is_leaving = True
        self._watch_reader()
        self._transport.close()

    def _watch_reader(self) -> None:
        self._unsent = self._buffered()
        self._leave_s = self._shared.now_s + self._shared.limits.receive_s

    def _look_at_reader(self) -> None:
        if self._unsent - self._buffered() < _READ_BYTES:
            self.fail()
        else:
            self._watch_reader()

    def _buffered(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _pause(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_reading() and not self._transport.is_closing():
            self._transport.resume_reading()
