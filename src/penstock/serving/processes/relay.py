"""Hands whole requests to a worker that holds another release, and brings its replies back; used on one event loop.

Nobody pays for the other release: where it is gone, full or without an answer, the plane is asked after all. Requests
of all callers share a connection; each carries a number, so that a slow one holds up nobody.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import msgspec
import structlog

from penstock.serving.messages import Reply, Request
from penstock.serving.plane.questions import Question
from penstock.serving.plane.split import SHADOW, Exchange, Split, drawn
from penstock.serving.processes.frames import Frames, framed

_MOST_WAITING = 512
_MOST_SHADOWS = 128
_MOST_BUFFERED = 8 * 2**20
_LONGEST_S = 30.0
_GRACE_S = 0.1
_AGAIN_S = 0.2
_FAILED = 500
_REFUSED = 400
_events = structlog.get_logger("penstock.serving")


class Handed(msgspec.Struct, frozen=True, array_like=True):
    """A request on its way to another release.

    Attributes:
        number: Of the request on this connection.
        serve: The function that is asked.
        variant: What the log is to say of the answer.
    """

    number: int
    serve: str
    variant: str
    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Told(msgspec.Struct, frozen=True, array_like=True):
    """The reply of another release."""

    number: int
    status: int
    kind: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(Told).decode


class _Waiting(msgspec.Struct):
    exchange: Exchange
    timer: asyncio.TimerHandle
    since_s: float
    deadline_s: float | None


class Relay:
    """What a plane hands requests on to while a split stands.

    Args:
        split: Whom it takes, and where it hands them.
        count: Told what became of each request that was handed on: "answered", "rescued", "shadowed" or "dropped".
    """

    def __init__(self, split: Split, count: Callable[[str], None] = lambda _what: None) -> None:
        self.split = split
        self._count = count
        self._is_shadow = split.variant == SHADOW
        self._links = [_Link(path, self._tell, self._lost) for path in split.sockets]
        self._waiting: dict[int, _Waiting] = {}
        self._shadows: set[int] = set()
        self._number = 0

    def open(self) -> None:
        """Connect; where that fails it is tried again for as long as the split stands."""
        for link in self._links:
            link.connect()

    def close(self) -> None:
        """Let go: what is under way is answered by the plane."""
        for link in self._links:
            link.close()
        for number in list(self._waiting):
            self._rescue(number)

    def take(self, question: Question, key: bytes, exchange: Exchange) -> bool:
        """Take a request and see to its reply; False leaves it to the plane."""
        if self._is_shadow:
            # After the answer, which waits for nothing of this.
            asyncio.get_running_loop().call_soon(self._mirror, question.function.name, exchange.request)
            return False
        if drawn(key, self.split.salt) >= self.split.share or len(self._waiting) >= _MOST_WAITING:
            return False
        number = self._send(question.function.name, exchange.request)
        if number is None:
            return False
        loop = asyncio.get_running_loop()
        deadline_s = question.function.deadline_s
        # It keeps the deadline by itself; whoever waits longer waits for a worker that is gone or stands still.
        longest_s = _LONGEST_S if deadline_s is None else deadline_s + _GRACE_S
        timer = loop.call_later(longest_s, self._rescue, number)
        self._waiting[number] = _Waiting(exchange, timer, loop.time(), deadline_s)
        return True

    def _mirror(self, serve: str, request: Request) -> None:
        number = self._send(serve, request) if len(self._shadows) < _MOST_SHADOWS else None
        if number is None:
            self._count("dropped")
        else:
            self._shadows.add(number)

    def _send(self, serve: str, request: Request) -> int | None:
        self._number += 1
        for turn in range(len(self._links)):
            link = self._links[(self._number + turn) % len(self._links)]
            if link.has_room:
                link.send(
                    _ENCODE(
                        Handed(
                            number=self._number,
                            serve=serve,
                            variant=self.split.variant,
                            method=request.method,
                            path=request.path,
                            query=request.query,
                            headers=list(request.headers.items()),
                            body=request.body,
                        )
                    ),
                    self._number,
                )
                return self._number
        return None

    def _tell(self, told: Told) -> None:
        if told.number in self._shadows:
            self._shadows.discard(told.number)
            self._count("shadowed")
            return
        waiting = self._waiting.get(told.number)
        if waiting is None:  # it came too late, and the plane has been asked
            return
        if told.status >= _REFUSED and self._may_rescue(waiting):
            self._rescue(told.number)
            return
        del self._waiting[told.number]
        waiting.timer.cancel()
        self._count("answered")
        waiting.exchange.respond(Reply(told.status, told.body, kind=told.kind, headers=tuple(told.headers)))

    @staticmethod
    def _may_rescue(waiting: _Waiting) -> bool:
        """Return whether the plane can still answer within the deadline: a late answer is never given."""
        if waiting.deadline_s is None:
            return True
        return asyncio.get_running_loop().time() - waiting.since_s < waiting.deadline_s / 2

    def _rescue(self, number: int) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is None:
            return
        waiting.timer.cancel()
        self._count("rescued")
        waiting.exchange.otherwise()

    def _lost(self, numbers: set[int]) -> None:
        """Answer what a worker that has gone left behind."""
        self._shadows -= numbers
        for number in sorted(numbers & self._waiting.keys()):
            self._rescue(number)


class _Link(asyncio.Protocol):
    """A connection to one worker, made again when it breaks."""

    def __init__(self, path: str, tell: Callable[[Told], None], lost: Callable[[set[int]], None]) -> None:
        self._path = path
        self._tell = tell
        self._lost = lost
        self._frames = Frames()
        self._transport: asyncio.WriteTransport | None = None
        self._under_way: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def has_room(self) -> bool:
        """Whether something more may be sent."""
        return self._transport is not None and self._transport.get_write_buffer_size() < _MOST_BUFFERED

    def connect(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        while not self._is_closed:
            try:
                await asyncio.get_running_loop().create_unix_connection(lambda: self, self._path)
            except OSError:
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    def send(self, data: bytes, number: int) -> None:
        """Send one request."""
        if self._transport is not None:
            self._under_way.add(number)
            self._transport.write(framed(data))

    def close(self) -> None:
        """Let go."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        """Take replies."""
        for frame in self._frames.take(data):
            told = _DECODE(frame)
            self._under_way.discard(told.number)
            self._tell(told)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give what is under way back, and connect again."""
        self._transport, self._frames = None, Frames()
        under_way, self._under_way = self._under_way, set()
        if not self._is_closed:
            told = _events.warning if under_way else _events.info  # one that leaves in good order has nothing under way
            told("side_worker_lost", under_way=len(under_way), reason=type(exc).__name__ if exc else "closed")
            self.connect()
        self._lost(under_way)
