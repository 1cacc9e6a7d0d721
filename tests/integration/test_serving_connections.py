"""Connections on raw sockets: order, bounds in time and size, and every way in which a request can be wrong."""

import contextlib
import fcntl
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.serving.limits import Limits
from served_app import HEAD, Served, echo, get_request, read_all, read_reply, serving, status_of

LIMITS = Limits(receive_s=0.8, idle_s=1.5, linger_s=0.2, drain_s=5.0, body_bytes=2**20, connections=50)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(LIMITS) as running:
        yield running


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited too long until {what}"
        threading.Event().wait(0.01)


def unread_bytes(link: socket.socket) -> int:
    """Return how many bytes sent on a connection its other end has not acknowledged."""
    return int.from_bytes(fcntl.ioctl(link.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def test_one_connection_answers_many_requests(served: Served) -> None:
    """A kept connection answers each with its own body, whether the head was seen before or not."""
    with served.connect() as link:
        for number in range(100):
            body = b"%d" % number
            link.sendall(echo(body))
            assert read_reply(link)[::2] == (200, body)


def test_a_reply_says_what_it_is_and_nothing_of_the_server(served: Served) -> None:
    """Type, length and nosniff; no date, no server, no connection header where HTTP/1.1 implies it."""
    with served.connect() as link:
        link.sendall(echo(b"abc"))
        _, headers, _ = read_reply(link)
    assert headers == {"x-content-type-options": "nosniff", "content-type": "text/plain", "content-length": "3"}


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    """Many requests in one packet; the slow first one is not overtaken."""
    with served.connect() as link:
        link.sendall(
            echo(b"one").replace(b"/echo", b"/later") + echo(b"two") + get_request("/nowhere") + echo(b"three")
        )
        assert served.answer_one(b"late").body == b"one"
        replies = [read_reply(link)[::2] for _ in range(4)]
    assert [status for status, _ in replies] == [200, 200, 404, 200]
    assert [replies[0][1], replies[1][1], replies[3][1]] == [b"late", b"two", b"three"]


def test_a_caller_that_never_reads_its_replies_stops_being_read(served: Served) -> None:
    """Requests without end on a connection whose replies are not taken fill the sockets, not the process."""
    with served.connect() as link:
        link.sendall(echo(b"first").replace(b"/echo", b"/later"))
        link.settimeout(0.2)
        before = psutil.Process().memory_info().rss
        with pytest.raises(TimeoutError, match="timed out"):
            link.sendall(echo(b"x" * 10_000) * 3000)
        assert psutil.Process().memory_info().rss - before < 20 * 2**20
        served.answer_one(b"late")
        link.settimeout(10)
        assert read_reply(link)[2] == b"late"
        assert read_reply(link)[2] == b"x" * 10_000


def test_bodies_may_come_in_pieces_and_in_chunks(served: Served) -> None:
    """The same body by length, by chunks with extensions and trailers, and byte by byte."""
    chunked = (
        HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nX-Trailer: 1\r\n\r\n"
    )
    with served.connect() as link:
        for message in (echo(b"hello world"), chunked):
            link.sendall(message)
            assert read_reply(link)[2] == b"hello world"
            for place in range(len(message)):
                link.sendall(message[place : place + 1])
            assert read_reply(link)[2] == b"hello world"


def test_a_head_that_was_seen_before_may_come_without_its_body(served: Served) -> None:
    """Most clients send head and body apart; both are waited for, wherever the bytes are cut, and not for ever."""
    message = echo(b"hello", b"X-Apart: 1\r\n")
    with served.connect() as link:
        for cut in (len(message), len(message) - 5, len(message) - 2, len(message) - 7, len(message) - 5):
            link.sendall(message[:cut])
            wait_until(lambda: unread_bytes(link) == 0, "the first part is read")
            link.sendall(message[cut:] + (message if cut == len(message) - 2 else b""))
            assert read_reply(link)[::2] == (200, b"hello")
        assert read_reply(link)[::2] == (200, b"hello")
        link.sendall(message[:-5])
        assert read_reply(link)[0] == 408
        with contextlib.suppress(ConnectionError):
            link.sendall(b"hello")
        assert read_all(link) == b""


def test_each_request_keeps_its_own_trace_context(served: Served) -> None:
    """Heads that differ in nothing else are not mixed up; without one, or with two, they are what was sent."""
    traces = [f"00-{number:032x}-{number:016x}-01" for number in range(1, 6)]
    with served.connect() as link:
        for trace in [*traces, "", *traces, "00-zz-01", "", f"{traces[0]}\r\ntraceparent: {traces[1]}", traces[2]]:
            link.sendall(get_request("/trace", f"traceparent: {trace}\r\n" if trace else ""))
            assert read_reply(link)[2].decode() == (trace.replace("\r\ntraceparent:", ",") or "none")


def test_a_trailer_changes_nothing(served: Served) -> None:
    """What comes after a chunked body is no header of the request, nor of the next one."""
    bomb = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nContent-Encoding: gzip\r\nHost: evil\r\n\r\n"
    with served.connect() as link:
        link.sendall(bomb + echo(b"next"))
        assert [read_reply(link)[::2] for _ in range(2)] == [(200, b"a"), (200, b"next")]


def test_a_caller_that_waits_for_100_continue_hears_it(served: Served) -> None:
    """It is sent once the head is admitted, and not when the whole request came at once."""
    with served.connect() as link:
        link.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert read_reply(link)[0] == 100
        link.sendall(b"ok")
        assert read_reply(link)[::2] == (200, b"ok")
        link.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nok")
        assert read_reply(link)[::2] == (200, b"ok")


@pytest.mark.parametrize(("length", "status"), [(2**21, 413), (99_999_999_999, 413)])
def test_a_caller_that_waits_is_refused_before_it_sends(served: Served, length: int, status: int) -> None:
    """The refusal comes in place of 100, so the body is never sent."""
    received = served.talk(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % length)
    assert status_of(received) == status
    assert b"connection: close" in received


def test_head_is_answered_without_a_body(served: Served) -> None:
    """The head is that of GET; the next reply follows at once."""
    with served.connect() as link:
        link.sendall(b"HEAD /big?1000 HTTP/1.1\r\nHost: localhost\r\n\r\n" + get_request("/target?a=1"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += link.recv(1)
        assert b"content-length: 1000\r\n" in head
        assert read_reply(link)[2] == b"GET /target a=1"


def test_http_1_0_is_closed_after_a_reply_unless_it_asks_to_be_kept(served: Served) -> None:
    """Old callers get what they expect."""
    old = b"GET /target HTTP/1.0\r\nHost: localhost\r\n"
    received = served.talk(old + b"\r\n")
    assert status_of(received) == 200
    assert b"connection: close\r\n" in received
    with served.connect() as link:
        for _ in range(2):
            link.sendall(old + b"Connection: keep-alive\r\n\r\n")
            status, headers, _ = read_reply(link)
            assert (status, headers["connection"]) == (200, "keep-alive")


def test_close_is_obeyed(served: Served) -> None:
    """The connection ends after the reply; what follows is nobody's."""
    received = served.talk(echo(b"last", b"Connection: close\r\n") + echo(b"never"))
    assert received.endswith(b"last")
    assert b"connection: close\r\n" in received
    assert received.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("path", ["/echo", "/later"])
def test_a_half_closed_caller_still_gets_its_reply(served: Served, path: str) -> None:
    """It shuts its side after asking, as `nc -N` does; the answer comes, then the end."""
    with served.connect() as link:
        link.sendall(echo(b"ask").replace(b"/echo", path.encode()))
        link.shutdown(socket.SHUT_WR)
        if path == "/later":
            served.answer_one(b"ask")
        received = read_all(link)  # which ends only when the server closes
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"ask")


def test_a_half_closed_caller_with_half_a_request_is_told(served: Served) -> None:
    """What can never be whole is refused at once."""
    for part in (HEAD, HEAD + b"Content-Length: 9\r\n\r\nhalf"):
        with served.connect() as link:
            link.sendall(part)
            link.shutdown(socket.SHUT_WR)
            assert status_of(read_all(link)) == 400


@pytest.mark.parametrize("part", [b"POST /ec", HEAD, HEAD + b"Content-Length: 100\r\n\r\n"])
def test_a_slow_sender_is_given_up(served: Served, part: bytes) -> None:
    """A byte now and then does not keep a connection: head and body have a time each."""
    with served.connect() as link:
        link.sendall(part)
        received = b""
        link.settimeout(0.1)
        deadline = time.monotonic() + 20
        while not received.startswith(b"HTTP"):
            assert time.monotonic() < deadline
            with contextlib.suppress(ConnectionError):
                link.sendall(b"1")
            with contextlib.suppress(TimeoutError):
                received += link.recv(100)
    assert status_of(received) == 408


def test_a_slow_reader_is_given_up_and_does_not_grow_the_process(served: Served) -> None:
    """Replies that are not read stop further ones, and after a time the connection is dropped."""
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(("127.0.0.1", served.port))
        before = psutil.Process().memory_info().rss
        link.sendall(get_request("/big?4000000") * 50)
        wait_until(lambda: served.open_count() > 0, "it is connected")
        wait_until(lambda: served.open_count() == 0, "it is dropped")
        assert psutil.Process().memory_info().rss - before < 40 * 2**20
    assert served.talk(get_request("/target", "Connection: close\r\n"))


def test_a_reader_that_goes_on_gets_all_of_a_large_reply(served: Served) -> None:
    """Slow is not stuck: what is read in time is not cut off."""
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        link.settimeout(10)
        link.connect(("127.0.0.1", served.port))
        link.sendall(get_request("/big?8000000") + get_request("/target"))
        assert len(read_reply(link)[2]) == 8_000_000
        assert read_reply(link)[2] == b"GET /target "


def test_silent_connections_are_closed(served: Served) -> None:
    """One that never asked, and one that asked before."""
    assert served.talk() == b""
    with served.connect() as link:
        link.sendall(echo(b"a"))
        read_reply(link)
        assert read_all(link) == b""


def test_one_caller_too_many_is_told_so(served: Served) -> None:
    """503 beyond the bound on connections; room again when others leave."""
    wait_until(lambda: served.open_count() == 0, "earlier tests have left")
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(served.connect()) for _ in range(LIMITS.connections)]
        for link in links:
            link.sendall(echo(b"a"))
            assert read_reply(link)[0] == 200
        received = served.talk()
        assert status_of(received) == 503
        assert b"retry-after: 1\r\n" in received
    wait_until(lambda: served.open_count() == 0, "all have left")
    assert status_of(served.talk(echo(b"a", b"Connection: close\r\n"))) == 200


def test_a_long_pipeline_of_small_requests_is_no_flood(served: Served) -> None:
    """Heads are bounded one by one, wherever packets are cut."""
    message = echo(b"abc")
    count = 2000
    with served.connect() as link:
        sender = threading.Thread(target=link.sendall, args=(message * count,))
        sender.start()
        assert all(read_reply(link)[::2] == (200, b"abc") for _ in range(count))
        sender.join()


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
def test_an_upgrade_that_is_not_taken_up_loses_no_body(served: Served, framing: bytes) -> None:
    """Java's and other clients offer HTTP/2 with their first request; it is answered as it is."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    with served.connect() as link:
        link.sendall(HEAD + upgrade + framing + echo(b"next"))
        assert [read_reply(link)[::2] for _ in range(2)] == [(200, b"hello"), (200, b"next")]
        message = HEAD + upgrade + framing
        for place in range(len(message)):
            link.sendall(message[place : place + 1])
        assert read_reply(link)[::2] == (200, b"hello")


def test_a_websocket_is_not_spoken(served: Served) -> None:
    """The request is answered as plain HTTP."""
    with served.connect() as link:
        link.sendall(
            get_request("/target", "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
        )
        assert read_reply(link)[0] == 200


def test_a_fault_of_the_server_is_an_error_and_the_connection_goes_on(served: Served) -> None:
    """500 without a word of what went wrong."""
    with served.connect() as link:
        link.sendall(get_request("/failing") + get_request("/target"))
        status, _, body = read_reply(link)
        assert (status, b"fault" in body) == (500, False)
        assert read_reply(link)[0] == 200


def test_a_handler_that_answers_twice_is_heard_once(served: Served) -> None:
    """The second answer cannot become the reply to another request."""
    with served.connect() as link:
        link.sendall(echo(b"a").replace(b"/echo", b"/twice") + echo(b"next"))
        assert [read_reply(link)[2] for _ in range(2)] == [b"first", b"next"]


def test_a_line_break_in_a_header_of_a_reply_is_never_sent(served: Served) -> None:
    """The connection ends without the reply."""
    assert b"x-injected" not in served.talk(get_request("/injecting"))


def test_a_caller_that_leaves_while_its_answer_is_made_harms_nobody(served: Served) -> None:
    """The answer goes nowhere; others are answered."""
    with served.connect() as link:
        link.sendall(echo(b"a").replace(b"/echo", b"/later"))
        request, respond = served.waiting.get(timeout=10)
    wait_until(lambda: served.open_count() <= 1, "it has left")
    served.waiting.put((request, respond))
    served.answer_one(b"late")
    with served.connect() as link:
        link.sendall(echo(b"other"))
        assert read_reply(link)[2] == b"other"


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 256))
sys.path.insert(0, sys.argv[1])
from penstock.serving.limits import Limits
from served_app import serving
with serving(Limits(linger_s=0.1)) as served:
    print(served.port, flush=True)
    sys.stdin.read()
"""


def test_a_worker_with_few_files_refuses_before_it_has_none_left() -> None:
    """The bound on connections follows what the system allows; others are answered while there is room."""
    command = [sys.executable, "-c", FEW_FILES, str(Path(__file__).parents[1])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            statuses: set[int] = set()
            while 503 not in statuses:  # at 256 open files at the latest, or the connection fails
                link = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
                link.sendall(echo(b"a"))
                statuses.add(read_reply(link)[0])
            assert statuses == {200, 503}
            first.sendall(echo(b"first"))
            assert read_reply(first)[2] == b"first"
        process.communicate("", timeout=20)


def test_a_thousand_idle_and_slow_callers_keep_nobody_waiting() -> None:
    """Each costs a few kilobytes, others are answered meanwhile, and in the end they are gone."""
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(Limits(receive_s=3.0, idle_s=3.0, linger_s=0.1)))
        before = psutil.Process().memory_info().rss
        links = [stack.enter_context(served.connect()) for _ in range(1000)]
        for link in links[::2]:
            link.sendall(HEAD)
        with served.connect() as busy:
            for number in range(200):
                busy.sendall(echo(b"%d" % number))
                assert read_reply(busy)[2] == b"%d" % number
                links[number * 2].sendall(b"X-%d: 1\r\n" % number)
        assert psutil.Process().memory_info().rss - before < 24 * 2**20
        wait_until(lambda: served.open_count() == 0, "they are given up")
        assert [status_of(read_all(link)) for link in links[:20:2]] == [408] * 10


def test_a_leaving_worker_answers_what_is_under_way() -> None:
    """Requests in flight and requests on kept connections are answered with `close`; silent connections end."""
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(serving(LIMITS))
        silent, kept, busy = (stack.enter_context(served.connect()) for _ in range(3))
        for link in (silent, kept):
            link.sendall(echo(b"a"))
            read_reply(link)
        busy.sendall(echo(b"b").replace(b"/echo", b"/later"))
        wait_until(lambda: served.waiting.qsize() == 1, "the request is under way")
        drained = served.drain()
        wait_until(lambda: served.is_draining, "the worker leaves")
        kept.sendall(echo(b"more"))
        assert b"connection: close\r\n" in (received := read_all(kept))
        assert received.endswith(b"more")
        assert read_all(silent) == b""
        assert not drained.done()
        served.answer_one(b"late")
        assert read_all(busy).endswith(b"late")
        drained.result(10)
        with pytest.raises(ConnectionRefusedError, match="refused"):
            served.connect()
