"""Another system asks for a retrain over HTTP: once per key, known callers only, within bounds, whoever is killed."""

import collections
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from loop_project import Loop, chain_loop
from penstock.core.clock import Clock
from penstock.core.errors import InputError
from penstock.store.ledger import causes, events
from penstock.worker.door import MOST_WAITING, Allowance
from penstock.worker.listening import listen, read_place
from project_folder import COMMAND
from run_processes import all_runs, end, until

TOKEN = "a-token-of-forty-characters-for-the-tests"
STILL = 'retrain_on = []\nintake = "4000d"'
PATH = "/pipelines/chain/retrain"


def _ask(
    url: str, key: str | None = "k1", path: str = PATH, *, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any], dict[str, str]]:
    sent = {"Authorization": f"Bearer {TOKEN}"} | ({} if key is None else {"Idempotency-Key": key})
    sent |= headers or {}
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", path, body, sent)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read()), {k.lower(): v for k, v in reply.getheaders()}


@contextlib.contextmanager
def _listening(loop: Loop) -> Iterator[str]:
    """Listen in this process, beside no worker: wishes wait."""
    with loop.project.opened() as workspace:
        listener = listen(lambda: workspace, "127.0.0.1:0", TOKEN)
        try:
            yield listener.url
        finally:
            listener.stop()


@contextlib.contextmanager
def _up(loop: Loop, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run `penstock up --listen` until the block ends; give the process and where it listens."""
    process = subprocess.Popen(
        [*COMMAND, "up", "--every", "200ms", "--listen", "127.0.0.1:0"],
        cwd=loop.project.root,
        env={**os.environ, "PENSTOCK_WEBHOOK_TOKEN": TOKEN, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        line = next(line for line in process.stdout if line.startswith("Listening at "))
        yield process, line.split()[-1]
    finally:
        process.terminate()
        end(process)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    return chain_loop(tmp_path_factory.mktemp("still"), STILL)


def test_a_hundred_equal_wishes_over_http_are_one_retrain(tmp_path: Path) -> None:
    """Fault 17: one is told 202, the rest 200 with the same cause; one run; a late retry is told what came of it."""
    loop = chain_loop(tmp_path, STILL)
    with _up(loop) as (_, url):
        with ThreadPoolExecutor(50) as pool:
            replies = list(pool.map(lambda _: _ask(url, "the-same"), range(100)))
        assert collections.Counter(status for status, _, _ in replies) == {202: 1, 200: 99}
        assert {body["cause"] for _, body, _ in replies} == {"webhook:the-same"}
        until(lambda: dict(loop.told()).get("webhook:the-same") == "done")
        status, body, _ = _ask(url, "the-same")
    assert (status, body["state"], body["run"], body["is_new"]) == (200, "done", "r2", False)
    assert [run.cause for run in all_runs(loop.project)] == ["manual", "webhook:the-same"]


@pytest.mark.parametrize("point", ["wish_before_commit", "wish_after_commit"])
def test_a_server_killed_in_the_write_keeps_one_row_for_a_caller_who_tries_again(tmp_path: Path, point: str) -> None:
    """Fault 4: SIGKILL before and after the commit; the retry with the same key is the same wish, run once."""
    loop = chain_loop(tmp_path, STILL)
    with _up(loop, PENSTOCK_FAULT=f"{point}:kill") as (process, url):
        with pytest.raises((http.client.HTTPException, OSError), match=r".*"):
            _ask(url, "again")
        assert process.wait(60) == -signal.SIGKILL
    was_kept = [name for name, _ in loop.told()]
    assert was_kept == ([] if point == "wish_before_commit" else ["webhook:again"])
    with _up(loop) as (_, url):
        status, body, _ = _ask(url, "again")
        assert status == (200 if was_kept else 202)
        assert body["cause"] == "webhook:again"
        until(lambda: dict(loop.told())["webhook:again"] == "done")
    assert [run.cause for run in all_runs(loop.project)] == ["manual", "webhook:again"]
    with loop.project.opened() as workspace, workspace.ledger.read() as conn:
        assert events.verify(conn) == []
        asked = [event for event in events.page(conn) if event.action == "retrain.asked"]
    assert [(event.actor, event.target) for event in asked] == [("webhook", "chain")]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": "Bearer wrong"}, 401, "no_token"),
        ({"Authorization": "Bearer "}, 401, "no_token"),
        ({"Authorization": f"Basic {TOKEN}"}, 401, "no_token"),
        ({"Authorization": f"Bearer {TOKEN}x"}, 401, "no_token"),
        ({"Host": "evil.example"}, 403, "bad_host"),
        ({"Origin": "http://evil.example"}, 403, "bad_origin"),
        ({"Origin": "http://localhost:8900"}, 403, "bad_origin"),
        ({"Idempotency-Key": "x" * 129}, 400, "no_key"),
        ({"Idempotency-Key": "two words"}, 400, "no_key"),
        ({"Content-Length": "1e3"}, 400, None),
    ],
)
def test_who_is_not_known_or_does_not_fit_is_refused(
    still: Loop, headers: dict[str, str], status: int, code: str | None
) -> None:
    """Each refusal is JSON with a stable code and the next step, and records nothing."""
    before = still.told()
    with _listening(still) as url:
        if code is None:
            with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as sender:
                sender.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1e3\r\n\r\n".encode())
                assert sender.recv(100).startswith(b"HTTP/1.1 400")
        else:
            got, body, reply = _ask(url, headers=headers)
            assert (got, body["error"]["code"]) == (status, code)
            assert reply["content-type"] == "application/json"
            assert (status != 401) or reply["www-authenticate"] == "Bearer"
            assert TOKEN not in json.dumps(body)
    assert still.told() == before


def test_a_token_is_asked_for_before_anything_else_is_told(still: Loop) -> None:
    """Who has no token does not learn which pipelines there are."""
    with _listening(still) as url:
        known = _ask(url, headers={"Authorization": ""})[:2]
        unknown = _ask(url, path="/pipelines/nothing/retrain", headers={"Authorization": ""})[:2]
    assert known == unknown
    assert known[0] == 401


@pytest.mark.parametrize(
    ("path", "key", "status", "code"),
    [
        ("/pipelines/nothing/retrain", "k", 404, "not_found"),
        ("/pipelines/..%2f..%2fetc/retrain", "k", 404, "no_route"),
        ("/pipelines/%00/retrain", "k", 404, "not_found"),
        ("/", "k", 404, "no_route"),
        (PATH, None, 400, "no_key"),
    ],
)
def test_what_is_not_there_is_said(still: Loop, path: str, key: str | None, status: int, code: str) -> None:
    """An unknown pipeline or path is a 404, a missing key a 400."""
    with _listening(still) as url:
        got, body, _ = _ask(url, key, path)
    assert (got, body["error"]["code"]) == (status, code)


def test_another_method_is_refused(still: Loop) -> None:
    """Only POST asks."""
    with _listening(still) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", PATH, headers={"Authorization": f"Bearer {TOKEN}"})
            reply = connection.getresponse()
            assert (reply.status, json.loads(reply.read())["error"]["code"]) == (405, "wrong_method")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * 10_000, 413),
        (b"not json", 422),
        (b'{"reason": 3}', 422),
        (b'{"reason": "r", "run": "rm -rf"}', 422),
        (b'{"reason": "' + b"r" * 201 + b'"}', 422),
        (b"[" * 5000, 422),
        (b'"\xff"', 422),
    ],
)
def test_a_body_that_does_not_fit_is_refused(still: Loop, body: bytes, status: int) -> None:
    """Nothing of a body is believed: size, form and length are checked, and nothing is recorded."""
    before = still.told()
    with _listening(still) as url:
        got, said, _ = _ask(url, "bad", body=body)
    assert (got, "error" in said) == (status, True)
    assert still.told() == before


def test_an_endless_body_is_refused_before_it_is_read(still: Loop) -> None:
    """Fault 23: chunks without end stop at the bound."""
    with _listening(still) as url, socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as sender:
        sender.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode())
        sender.sendall(b"Idempotency-Key: e\r\nTransfer-Encoding: chunked\r\n\r\n")
        stop = threading.Event()

        def send() -> None:
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    sender.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")

        thread = threading.Thread(target=send)
        thread.start()
        try:
            assert sender.recv(100).startswith(b"HTTP/1.1 413")
        finally:
            stop.set()
            thread.join()


def test_a_flood_of_headers_is_refused(still: Loop) -> None:
    """Fault 23: more than 16 KB of head end the connection with a 400."""
    with _listening(still) as url, socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as sender:
        with contextlib.suppress(OSError):
            sender.sendall(f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nX: {'x' * 200_000}".encode())
        assert sender.recv(100).startswith(b"HTTP/1.1 400")


def test_what_a_caller_says_is_kept_without_what_a_terminal_would_act_on(still: Loop) -> None:
    """The reason is shown to people: escape sequences, line ends and turned-round text do not get that far."""
    said = {"reason": "news\x1b[2J\r\nERROR\u202e from ünïcode 東京"}
    with _listening(still) as url:
        status, body, _ = _ask(url, "said", body=json.dumps(said).encode())
    assert status == 202
    assert body["said"] == "a webhook asked for it: news [2J ERROR from ünïcode 東京"


def test_no_more_wishes_wait_than_policy_bears(tmp_path: Path) -> None:
    """Other keys are other wishes, up to a bound: then 429 and when to come again; known ones are still told of."""
    loop = chain_loop(tmp_path, STILL)
    with loop.project.opened() as workspace, workspace.ledger.write() as conn:
        for number in range(MOST_WAITING):
            causes.put(conn, causes.NewCause(pipeline="chain", kind="webhook", key=str(number)))
    with _listening(loop) as url:
        status, body, headers = _ask(url, "one-more")
        assert (status, body["error"]["code"]) == (429, "too_many_waiting")
        assert int(headers["retry-after"]) > 0
        assert _ask(url, "7")[0] == 200


def test_requests_beyond_the_allowance_are_told_to_wait() -> None:
    """So many at once, then so many a second; the rest hear after how long to come again."""
    now_s = 0.0
    allowance = Allowance(Clock(monotonic_s=lambda: now_s), most=3, per_s=2)
    assert [allowance.take() for _ in range(4)] == [0, 0, 0, 0.5]
    now_s = 0.5
    assert [allowance.take(), allowance.take()] == [0, 0.5]
    now_s = 1000
    assert [allowance.take() for _ in range(4)] == [0, 0, 0, 0.5]


@pytest.mark.parametrize(
    ("place", "token", "said"),
    [
        ("127.0.0.1:0", None, "Listening with no token is refused"),
        ("127.0.0.1:0", "short", "a token of 5 characters is refused"),
        ("127.0.0.1", TOKEN, "is no place to listen at"),
        ("127.0.0.1:70000", TOKEN, "is no place to listen at"),
    ],
)
def test_a_worker_that_cannot_listen_safely_does_not_start(
    still: Loop, place: str, token: str | None, said: str
) -> None:
    """Exit code 2 and the next step, before anything is looked at."""
    given = {} if token is None else {"PENSTOCK_WEBHOOK_TOKEN": token}
    done = still.project.command("up", "--listen", place, **given)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


def test_a_port_in_use_is_said(still: Loop) -> None:
    """The worker does not start on a port that another program has."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        done = still.project.command("up", "--listen", place, PENSTOCK_WEBHOOK_TOKEN=TOKEN)
    assert done.returncode == 2
    assert "cannot be used: Address already in use" in done.stderr
    assert "choose another with --listen" in done.stderr


def test_the_worker_stops_with_its_ear(still: Loop) -> None:
    """SIGTERM ends the worker cleanly, also while somebody holds a connection open, and frees the port."""
    with _up(still) as (process, url):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as idle:
            idle.sendall(b"POST ")
            process.send_signal(signal.SIGTERM)
            code, output = end(process)
    assert code == 0, output
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_place_is_read_with_and_without_brackets() -> None:
    """IPv6 in brackets, the host may be left out."""
    assert read_place("[::1]:8900") == ("::1", 8900)
    assert read_place(":8900") == ("127.0.0.1", 8900)
    with pytest.raises(InputError, match="is no place to listen at"):
        read_place("8900")


def test_a_person_asks_for_a_retrain(tmp_path: Path) -> None:
    """`penstock retrain` records one wish, however impatient one is; the next tick runs it, and who asked is kept."""
    loop = chain_loop(tmp_path, STILL)
    asked = json.loads(loop.project.command("retrain", "chain", "--reason", "mended", "--json").stdout)
    again = json.loads(loop.project.command("retrain", "chain", "--json").stdout)
    assert (asked["is_new"], again["is_new"], again["cause"]) == (True, False, asked["cause"])
    assert asked["said"].endswith("asked for it: mended")
    loop.project.command("tick")
    assert loop.told() == [(asked["cause"], "done")]
    named = [loop.project.command("retrain", "chain", "--key", "march").stdout for _ in range(2)]
    assert "Asked: chain is to be retrained (manual:march)" in named[0]
    assert "Asked before (manual:march): waiting" in named[1]
    unknown = loop.project.command("retrain", "chian")
    assert unknown.returncode == 2
    assert "The worker keeps no pipeline 'chian'" in unknown.stderr
