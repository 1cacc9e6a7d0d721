"""The access log: a line per request, nothing of what was asked, and never a reason not to answer."""

import os
import threading
from pathlib import Path

import msgspec
from structlog.testing import capture_logs

from penstock.serving.messages import Reply, Request, Respond
from penstock.serving.observe.access import AccessLine, AccessLog
from penstock.serving.observe.exchanges import watching

SECRET = "the-value-of-a-row"


def answer(request: Request, respond: Respond) -> None:
    """Answer as a serve route does: with an id, or with 404."""
    if request.path == "/movies/which":
        respond(Reply(200, SECRET.encode(), headers=((b"x-penstock-prediction-id", b"0198-abc"),)))
    else:
        respond(Reply(404, b"{}"))


def make_request(path: str = "/movies/which") -> Request:
    return Request(
        method="POST",
        path=path,
        query=f"token={SECRET}".encode(),
        headers={b"x-penstock-consumer": b"shop", b"authorization": SECRET.encode()},
        body=f'{{"name": "{SECRET}"}}'.encode(),
    )


def ask(log: AccessLog, path: str = "/movies/which") -> Reply:
    replies: list[Reply] = []
    request = make_request(path)
    answer(request, watching(request, replies.append, [log.write]))
    assert len(replies) == 1
    return replies[0]


def read_lines(path: Path) -> list[AccessLine]:
    return [msgspec.json.decode(line, type=AccessLine) for line in path.read_bytes().splitlines()]


def test_a_line_says_who_asked_what_and_how_long_it_took(tmp_path: Path) -> None:
    """Route, status, sizes, id and consumer are there; no value of the request, its query or the reply is."""
    path = tmp_path / "access.log"
    log = AccessLog(path, worker=3, release="movies@7")
    ask(log)
    ask(log, f"/{SECRET}")
    log.close()
    served, unknown = read_lines(path)
    assert (served.event, served.worker, served.release) == ("request_answered", 3, "movies@7")
    assert (served.method, served.path, served.status) == ("POST", "/movies/which", 200)
    assert (served.bytes_in, served.bytes_out) == (len(make_request().body), len(SECRET))
    assert (served.prediction_id, served.consumer) == ("0198-abc", "shop")
    assert served.duration_ms >= 0
    assert (unknown.path, unknown.status) == ("", 404)
    assert SECRET not in path.read_text()


def test_a_log_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    """Logrotate moves the file and signals nobody; lines go on in a new one, and none is lost."""
    path = tmp_path / "access.log"
    log = AccessLog(path, worker=0, release="movies@1")
    ask(log)
    path.rename(tmp_path / "access.log.1")
    count = 1
    while not path.exists():
        ask(log)
        count += 1
        threading.Event().wait(0.01)
        assert count < 1000
    log.close()
    assert len(read_lines(path)) + len(read_lines(tmp_path / "access.log.1")) == count


def test_a_full_disk_loses_lines_and_no_answer() -> None:
    """One event says so, and what is lost is counted."""
    log = AccessLog(Path("/dev/full"), worker=0, release="movies@1")
    with capture_logs() as events:
        assert ask(log).status == 200
        assert ask(log).status == 200
    assert log.dropped == 2
    assert [event["event"] for event in events] == ["access_log_failed"]


def test_lines_can_go_to_a_descriptor() -> None:
    """As for standard output."""
    reading, writing = os.pipe()
    ask(AccessLog(None, descriptor=writing, worker=0, release="movies@1"))
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert msgspec.json.decode(file.read(), type=AccessLine).path == "/movies/which"
