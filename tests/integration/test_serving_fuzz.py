"""Bytes at random, and requests that are nearly right: no hang, no fault of the server's own, no growth."""

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import httptools
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))
import itertools

from penstock.serving.limits import Limits
from served_app import HEAD, Served, read_all, read_reply, serving

LIMITS = Limits(receive_s=20.0, idle_s=20.0, linger_s=0.5, body_bytes=2**16, head_bytes=2**12)
TRACE = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
GOOD = HEAD + b"Content-Length: 4\r\n\r\ngood"
PIECES = [
    *(
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"OPTIONS ",
        b"/echo",
        b"/target",
        b"/later/",
        b"/%",
        b"*",
        b"?",
        b" HTTP/1.1",
        b" HTTP/1.0",
    ),
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"\xff"),
    *(b"Host: localhost\r\n", b"Host: evil\r\n", b"Content-Type: text/plain\r\n", b"Connection: close\r\n"),
    *(b"Content-Length: 4\r\n", b"Content-Length: 0\r\n", b"Content-Length: 99999\r\n", b"Content-Length: -1\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"4\r\ngood\r\n", b"0\r\n\r\n", b"Expect: 100-continue\r\n"),
    *(
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Content-Encoding: gzip\r\n",
        b"good",
        b"traceparent: 00-1-1-01\r\n",
    ),
    TRACE,
    GOOD,
    HEAD + TRACE + b"Content-Length: 4\r\n\r\ngood",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n",
    b"GET /target HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(LIMITS) as running:
        yield running


class Replies:
    """Reads what a server sent, as a client would."""

    def __init__(self, received: bytes) -> None:
        self.statuses: list[int] = []
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(received)

    def on_headers_complete(self) -> None:
        self.statuses.append(self._parser.get_status_code())


def exchange(served: Served, parts: list[bytes]) -> bytes:
    """Send the parts, shut the write side, and return everything that came back."""
    with served.connect() as link:
        with contextlib.suppress(ConnectionError, OSError):
            for part in parts:
                link.sendall(part)
            link.shutdown(socket.SHUT_WR)
        return read_all(link)


def nearly_right() -> st.SearchStrategy[bytes]:
    """Return requests with a few bytes taken out, put in or exchanged."""

    def spoil(message: bytes, places: list[tuple[int, int, bytes]]) -> bytes:
        for place, count, piece in places:
            at = place % (len(message) + 1)
            message = message[:at] + piece + message[at + count :]
        return message

    edits = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from([b"", *PIECES])), max_size=4)
    return st.builds(
        spoil, st.sampled_from([GOOD, GOOD + GOOD, *[piece + GOOD for piece in PIECES[-3:]], PIECES[-3]]), edits
    )


hostile = st.one_of(
    st.binary(max_size=300), st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join), nearly_right()
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=hostile, cuts=st.lists(st.integers(1, 400), max_size=4))
def test_any_bytes_are_answered_or_refused_the_same_however_they_come(
    served: Served, data: bytes, cuts: list[int]
) -> None:
    """No hang and no 5xx but 505; the same bytes mean the same, whole or in parts, seen before or not."""
    whole = exchange(served, [data])
    if b" 100 Continue" not in whole:
        assert exchange(served, [data]) == whole
        places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        assert exchange(served, [data[a:b] for a, b in itertools.pairwise(places)]) == whole
    if not data.startswith(b"HEAD ") and b"HEAD " not in data:
        assert all(status < 500 or status == 505 for status in Replies(whole).statuses)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=hostile)
def test_hostile_bytes_leave_the_server_answering_others(served: Served, data: bytes) -> None:
    """A connection that is being misused disturbs no other one."""
    with served.connect() as other, served.connect() as link:
        with contextlib.suppress(ConnectionError):
            link.sendall(data)
        other.sendall(GOOD)
        assert read_reply(other)[::2] == (200, b"good")


def test_memory_stays_flat_under_hostile_bytes(served: Served) -> None:
    """Connections that end in a refusal leave nothing behind."""

    def abuse(count: int) -> None:
        for number in range(count):
            exchange(served, [HEAD + b"X-%d: 1\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n" % number])
            exchange(served, [GOOD.replace(b"Host", b"X-%d: 1\r\nHost" % number)])

    abuse(700)  # remembered heads are bounded; they are all there now
    before = psutil.Process().memory_info().rss
    abuse(1500)
    assert psutil.Process().memory_info().rss - before < 4 * 2**20
    assert served.open_count() <= 1
