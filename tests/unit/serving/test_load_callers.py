"""Callers that keep to a timetable, against a server that stands still for a moment."""

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import numpy as np

from penstock.serving.load.callers import Timetable
from penstock.serving.load.outcomes import BROKEN, RETRY_AFTER, LoadOrder, Phase, due_times
from penstock.serving.load.promise import Promise, judge

STALL_S = 0.6
REQUEST = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}"


class Stalling(socketserver.ThreadingTCPServer):
    """Answers at once, but stands still once, for everybody; refuses and breaks when it is told to."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256

    def __init__(self, stall_at: int | None, *, reply: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.stall_at, self.reply = stall_at, reply
        self.count, self.lock = 0, threading.Lock()

    def take_one(self) -> None:
        with self.lock:  # who comes while it stands still waits here
            self.count += 1
            if self.count == self.stall_at:
                time.sleep(STALL_S)


class _Answering(socketserver.BaseRequestHandler):
    server: Stalling

    def handle(self) -> None:
        while self.request.recv(4096):
            self.server.take_one()
            if not self.server.reply:
                return
            self.request.sendall(self.server.reply)


def answer(status: bytes, body: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n%s" % (status, more, len(body), body)


ANSWER = answer(b"200 OK", b'{"prediction_id":"abc","release":"m@1","answer":1}')


@contextmanager
def standing(stall_at: int | None = None, reply: bytes = ANSWER) -> Iterator[Stalling]:
    with Stalling(stall_at, reply=reply) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def order(server: Stalling, *phases: Phase, is_closed: bool = False, connections: int = 16) -> LoadOrder:
    host, port = server.server_address[:2]
    return LoadOrder(
        host=str(host), port=int(port), requests=(REQUEST,), phases=phases, connections=connections,
        patience_s=5.0, is_closed=is_closed, keeps_ids=True, seed=1,
    )  # fmt: skip


def test_a_pause_of_the_server_is_felt_by_all_who_would_have_asked_in_it() -> None:
    """L4: no coordinated omission: a stall is in p99, where callers who wait their turn would see one slow answer."""
    with standing(stall_at=100) as server:
        found = Timetable(order(server, Phase(200.0, 2.0))).run()
    late = judge(found, Promise(within_s=0.05), 200.0)
    assert (found.status == 200).all()
    assert late.p99_ms is not None
    assert late.p99_ms > 800 * STALL_S
    assert late.verdict == "breaks"
    # Of the requests due while it stood still each waited for the rest of the pause.
    assert late.late_share > 0.6 * STALL_S / 2.0
    with standing(stall_at=100) as server:
        closed = Timetable(order(server, Phase(0.0, 2.0), is_closed=True, connections=1)).run()
    slow = closed.latency_s > 0.5 * STALL_S
    assert slow.sum() == 1, "one caller who waits sees one slow answer, whatever the others would have seen"


def test_what_is_no_answer_is_told_apart() -> None:
    """L9: ids of answers, refusals that say when to come again, and connections that break are each known."""
    with standing() as server:
        found = Timetable(order(server, Phase(100.0, 0.5))).run()
    assert found.ids == ("abc",) * len(found.due)
    assert np.isfinite(found.latency_s).all()
    with standing(reply=answer(b"503 Service Unavailable", b"{}", b"Retry-After: 1\r\n")) as server:
        refused = Timetable(order(server, Phase(100.0, 0.5))).run()
    assert set(refused.status) == {503}
    assert set(refused.marks) == {RETRY_AFTER}
    assert refused.ids == ()
    with standing(reply=b"") as server:
        broken = Timetable(order(server, Phase(100.0, 0.5))).run()
    assert set(broken.status) == {BROKEN}
    assert np.isinf(broken.latency_s).all()


def test_callers_give_up_and_a_hopeless_step_ends_early() -> None:
    """L4: requests that nobody could be sent in time count as unanswered, and an overload is not waited for."""
    with standing(stall_at=1) as server:
        wanted = order(server, Phase(2000.0, 3.0), connections=1)
        found = Timetable(msgspec.structs.replace(wanted, patience_s=0.05, gives_up=True)).run()
    assert len(found.due) < len(due_times(wanted.phases, wanted.seed)), "it ended before all were due"
    assert np.isinf(found.latency_s).any()
    assert judge(found, Promise(within_s=0.05), 2000.0).verdict in {"breaks", "generator"}
