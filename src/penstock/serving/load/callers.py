"""Callers that keep to a timetable: requests leave when they are due, whether or not earlier ones were answered.

Latency counts from when a request was due, so a pause of the server is felt by all who would have asked in it. Plain
non-blocking sockets and one selector: a generator that cannot keep the rate would be mistaken for a slow server.
"""

import contextlib
import select
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator

import numpy as np

from penstock.serving.load.outcomes import (
    BROKEN,
    FALLBACK,
    RETRY_AFTER,
    UNANSWERED,
    LoadOrder,
    Outcomes,
    due_times,
)

_AGAIN_S = 0.05
_CLOSED_MOST = 2_000_000
# Requests given up before an overloaded step is called hopeless: a twentieth, and enough to be sure.
_HOPELESS, _HOPELESS_SHARE = 100, 0.05
_ID_START = b'{"prediction_id":"'
_FALLBACK = b'"fallback":true,"answer":'
_HEAD_OF_ANSWER = 400


class Caller:
    """One connection with at most one request under way."""

    __slots__ = ("address", "asked", "freed_s", "received", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.socket: socket.socket | None = None
        self.asked = -1
        self.freed_s = 0.0
        self.received = b""

    def connect(self) -> bool:
        """Connect; False when the server does not take the connection now."""
        try:
            self.socket = socket.create_connection(self.address, timeout=1.0)
        except OSError:
            return False
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(0)
        self.asked, self.received = -1, b""
        return True

    def receive(self) -> tuple[bytes, bytes] | None:
        """Return head and body of the answer when it is whole.

        Raises:
            OSError: The connection ended.
        """
        if self.socket is None:
            raise ConnectionError("not connected")
        try:
            data = self.received + self.socket.recv(262_144)
        except BlockingIOError:
            return None
        if len(data) == len(self.received):
            raise ConnectionError("The server closed the connection.")
        end = data.find(b"\r\n\r\n")
        head = data[:end].lower() if end >= 0 else b""
        if end < 0 or len(data) < end + 4 + _length(head):
            self.received = data
            return None
        self.received = b""
        return head, data[end + 4 :]

    def close(self) -> None:
        """End the connection."""
        if self.socket is not None:
            self.socket.close()
        self.socket = None


def _length(head: bytes) -> int:
    start = head.find(b"content-length:")
    if start < 0:
        return 0
    end = head.find(b"\r\n", start)
    return int(head[start + 15 : end if end >= 0 else None])


class Timetable:
    """Requests of one order, asked over a fixed set of connections.

    Args:
        order: What to ask, and when.
    """

    def __init__(self, order: LoadOrder) -> None:
        self._order = order
        self._requests = order.requests
        self._selector = selectors.DefaultSelector()
        self._free: deque[Caller] = deque()
        self._away: list[tuple[float, Caller]] = []
        self._under_way = 0
        self._due: list[float] = []
        self._left: list[float] = []
        self._done: list[float] = []
        self._lag: list[float] = []
        self._status: list[int] = []
        self._marks: list[int] = []
        self._ids: list[str] = []
        self._given_up = 0

    def run(self) -> Outcomes:
        """Ask everything, wait for the answers as long as callers would, and return what became of each."""
        order = self._order
        due = np.zeros(0) if order.is_closed else due_times(order.phases, order.seed)
        self._due = due.tolist()
        with self._connections():
            began_s, cpu_s = time.perf_counter(), time.process_time()
            self._began_s = began_s
            if order.is_closed:
                self._ask_again_and_again(sum(phase.seconds for phase in order.phases))
            else:
                self._ask_when_due()
            wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        count = len(self._status)
        return Outcomes(
            began_s=began_s,
            cpu_s=cpu_s,
            wall_s=wall_s,
            due=np.array(self._due[:count]),
            left=np.array(self._left),
            done=np.array(self._done),
            lag=np.array(self._lag),
            status=np.array(self._status, np.int16),
            marks=np.array(self._marks, np.uint8),
            ids=tuple(self._ids),
        )

    @contextlib.contextmanager
    def _connections(self) -> Iterator[None]:
        callers = [Caller((self._order.host, self._order.port)) for _ in range(self._order.connections)]
        try:
            for caller in callers:
                self._open(caller, 0.0)
            yield
        finally:
            for caller in callers:
                caller.close()
            self._selector.close()

    def _open(self, caller: Caller, now_s: float) -> None:
        if caller.connect() and caller.socket is not None:
            self._selector.register(caller.socket, selectors.EVENT_READ, caller)
            caller.freed_s = now_s
            self._free.append(caller)
        else:
            self._away.append((now_s + _AGAIN_S, caller))

    def _ask_when_due(self) -> None:
        due, count, sent = self._due, len(self._due), 0
        patience_s = self._order.patience_s
        end_s = (due[-1] if due else 0.0) + patience_s
        while sent < count or self._under_way:
            now_s = self._now()
            while sent < count and due[sent] <= now_s and (self._free or now_s - due[sent] > patience_s):
                if now_s - due[sent] > patience_s:
                    self._note_given_up()
                else:
                    self._ask(self._free.popleft(), due[sent], now_s)
                sent += 1
            if now_s > end_s or (self._order.gives_up and self._is_hopeless(count)):
                break
            self._wait(min(due[sent] if sent < count and self._free else end_s, end_s) - now_s)
        while len(self._status) < (sent if self._order.gives_up else count):
            self._note_given_up()

    def _ask_again_and_again(self, seconds: float) -> None:
        while (now_s := self._now()) < seconds and len(self._due) < _CLOSED_MOST:
            while self._free:
                now_s = self._now()
                self._due.append(now_s)
                self._ask(self._free.popleft(), now_s, now_s)
            self._wait(seconds - now_s)
        end_s = self._now() + self._order.patience_s
        while self._under_way and (now_s := self._now()) < end_s:
            self._wait(end_s - now_s)

    def _now(self) -> float:
        return time.perf_counter() - self._began_s

    def _is_hopeless(self, count: int) -> bool:
        return self._given_up > max(_HOPELESS, _HOPELESS_SHARE * count)

    def _ask(self, caller: Caller, due_s: float, now_s: float) -> None:
        number = len(self._status)
        request = self._requests[number % len(self._requests)]
        self._left.append(now_s)
        self._done.append(float("inf"))
        self._lag.append(max(0.0, now_s - max(due_s, caller.freed_s)))
        self._status.append(UNANSWERED)
        self._marks.append(0)
        caller.asked = number
        self._under_way += 1
        try:
            if caller.socket is None or caller.socket.send(request) != len(request):
                raise ConnectionError("The request did not fit the socket's buffer.")
        except OSError:
            self._break(caller)

    def _note_given_up(self) -> None:
        self._left.append(float("nan"))
        self._done.append(float("inf"))
        self._lag.append(0.0)
        self._status.append(UNANSWERED)
        self._marks.append(0)
        self._given_up += 1

    def _wait(self, seconds: float) -> None:
        if self._away:
            self._come_back()
            seconds = min(seconds, _AGAIN_S)
        # `select` waits for microseconds where the selectors' own timeouts are whole milliseconds.
        if seconds > 0:
            select.select([self._selector.fileno()], [], [], seconds)
        for key, _ in self._selector.select(0):
            self._take(key.data)

    def _come_back(self) -> None:
        now_s = self._now()
        ready = [caller for at_s, caller in self._away if at_s <= now_s]
        self._away = [(at_s, caller) for at_s, caller in self._away if at_s > now_s]
        for caller in ready:
            self._open(caller, now_s)

    def _take(self, caller: Caller) -> None:
        try:
            answer = caller.receive()
        except OSError:
            self._break(caller)
            return
        if answer is None:
            return
        head, body = answer
        now_s, number = self._now(), caller.asked
        if number >= 0:
            self._note(number, head, body, now_s)
            self._under_way -= 1
        caller.asked, caller.freed_s = -1, now_s
        if b"\r\nconnection: close" in head:
            self._drop(caller)
            self._open(caller, now_s)
        else:
            self._free.append(caller)

    def _note(self, number: int, head: bytes, body: bytes, now_s: float) -> None:
        status = int(head[9:12])
        self._done[number] = now_s
        self._status[number] = status
        if status == 200:
            if _FALLBACK in body[:_HEAD_OF_ANSWER]:
                self._marks[number] = FALLBACK
            if self._order.keeps_ids and body.startswith(_ID_START):
                self._ids.append(body[len(_ID_START) : body.index(b'"', len(_ID_START))].decode())
        elif b"\r\nretry-after:" in head:
            self._marks[number] = RETRY_AFTER

    def _break(self, caller: Caller) -> None:
        if caller.asked >= 0:
            self._status[caller.asked] = BROKEN
            self._done[caller.asked] = float("inf")
            self._marks[caller.asked] = 0
            self._under_way -= 1
        else:
            with contextlib.suppress(ValueError):
                self._free.remove(caller)
        self._drop(caller)
        self._open(caller, self._now())

    def _drop(self, caller: Caller) -> None:
        if caller.socket is not None:
            self._selector.unregister(caller.socket)
        caller.close()
        caller.asked = -1
