"""What a server does for long and under strain: many swaps, a soak, a thousand idle callers, a store that is away.

Twenty swaps and twenty seconds of soak by default; 100 swaps in a million requests with PENSTOCK_LONG=1, an hour with
PENSTOCK_SOAK_S=3600 (`make soak`).
"""

import contextlib
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.serving.limits import Limits
from penstock.serving.observe import metrics
from penstock.serving.observe.totals import read_totals
from penstock.serving.predictions.reading import read_predictions
from penstock.serving.processes.background import Server, start
from serving_load import Load, Shelf, options_for, resident_bytes, wait_until
from serving_release import make_release

SWAPS, REQUESTS = (100, 1_000_000) if os.environ.get("PENSTOCK_LONG") else (20, 0)
SOAK_S = float(os.environ.get("PENSTOCK_SOAK_S", "20"))
IDLE = 1000
GROWTH_BYTES = 8 * 2**20


def gauge(server: Server, metric: metrics.Metric) -> float:
    return read_totals(server.counters).values.get((metric.name, ()), (0.0,))[0]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_releases_swapped_under_load_drop_no_request(tmp_path: Path) -> None:
    """Each answer names the release that made it and comes from its code, none fails, and no process stays behind."""
    shelf = Shelf(make_release(tmp_path, 1))
    with start(options_for(tmp_path, shelf)) as server:
        wait_until(lambda: server.spare_pids, "a spare waits")
        before = len(psutil.Process().children(recursive=True))
        with Load(server.url).running() as load:
            for version in range(2, SWAPS + 2):
                shelf.release = make_release(tmp_path, version)
                load.wait_for_release(f"movies@{version}")
                load.wait_for_count(REQUESTS * (version - 1) // SWAPS, timeout_s=600)
        assert load.failures == []
        assert load.mismatched == 0
        assert len(load.releases) == SWAPS + 1

        def at_rest() -> bool:
            compacting = server.compactor_pid is not None
            return len(psutil.Process().children(recursive=True)) == before + compacting

        wait_until(at_rest, "as many processes are left as there were", timeout_s=60)
    stored = [p.id for p in read_predictions(tmp_path, "movies")]
    assert sorted(stored) == sorted(load.ids)


def mixed_requests(client: httpx.Client) -> None:
    """Ask in several protocols, well and badly, as callers do all day."""
    asked: list[tuple[str, Any]] = [
        ("/movies/recommend", {"user_id": 7}),
        ("/movies/which", {"n": "one"}),
        ("/movies/fragile", {"text": "nan"}),
        ("/movies/guarded", {"wait_ms": -1}),
        ("/movies/nothing", {}),
        ("/v2/models/which/infer", {"inputs": [{"name": "n", "datatype": "INT64", "shape": [1], "data": [1]}]}),
        ("/feedback", {"prediction_id": "p018f312b4c00000000000000000000f", "value": 1}),
    ]
    for path, body in asked:
        client.post(path, json=body)
    client.get("/metrics")


@pytest.mark.slow
@pytest.mark.timeout(int(SOAK_S) + 300)
def test_memory_stays_flat_at_full_speed(tmp_path: Path) -> None:
    """What a worker holds of its own does not grow with the requests it has answered."""
    with start(options_for(tmp_path, Shelf(make_release(tmp_path, 1)))) as server:
        sizes: list[int] = []
        (pid,) = server.worker_pids
        with httpx.Client(base_url=server.url) as client, Load(server.url).running(2) as load:
            ends_s = time.monotonic() + SOAK_S
            while time.monotonic() < ends_s:
                mixed_requests(client)
                sizes.append(resident_bytes(pid))
        assert load.failures == []
        assert server.worker_pids == [pid]
    # The first quarter is for caches and pools to fill.
    quarter = len(sizes) // 4
    early, late = statistics.median(sizes[quarter : 2 * quarter]), statistics.median(sizes[-quarter:])
    assert late - early < GROWTH_BYTES, f"{early} bytes, then {late}, after {load.count} requests"


@contextlib.contextmanager
def idle_callers(url: str) -> Iterator[list[socket.socket]]:
    """Hold connections that asked once and say nothing more, and some that send their request byte by byte."""
    host, port = url.removeprefix("http://").split(":")
    held: list[socket.socket] = []
    stop = threading.Event()

    def trickle() -> None:
        slow = held[:20]
        while not stop.wait(0.1):
            for caller in slow:
                with contextlib.suppress(OSError):
                    caller.sendall(b"P")

    try:
        held.extend(socket.create_connection((host, int(port)), timeout=30) for _ in range(IDLE))
        for caller in held[20:]:
            caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for caller in held[20:]:
            assert caller.recv(4096).startswith(b"HTTP/1.1 200")
        thread = threading.Thread(target=trickle)
        thread.start()
        yield held
        stop.set()
        thread.join()
    finally:
        stop.set()
        for caller in held:
            caller.close()


@pytest.mark.slow
def test_a_thousand_idle_callers_and_slow_senders_hold_up_nobody(tmp_path: Path) -> None:
    """Others are answered without a failure, and those that say nothing are let go in time."""
    limits = Limits(linger_s=0.3, idle_s=8.0, receive_s=4.0)
    with start(options_for(tmp_path, Shelf(make_release(tmp_path, 1)), limits=limits)) as server:
        with idle_callers(server.url) as held, Load(server.url).running(2) as load:
            wait_until(lambda: gauge(server, metrics.CONNECTIONS) >= IDLE, "all are connected")
            load.wait_for_more(500)
            wait_until(lambda: gauge(server, metrics.CONNECTIONS) <= 2, "the silent ones are let go", timeout_s=60)
            assert all(is_closed(caller) for caller in held)
        assert load.failures == []


def is_closed(caller: socket.socket) -> bool:
    caller.settimeout(5)
    try:
        while caller.recv(4096):
            pass
    except ConnectionError:
        return True
    return True


def test_predictions_go_on_while_they_cannot_be_kept(tmp_path: Path) -> None:
    """The store is away: requests are answered and told so, memory is bounded, losses are counted; then it is kept."""
    in_the_way = tmp_path / "predictions"
    in_the_way.write_text("not a folder")
    text = "x" * 2**20
    with start(options_for(tmp_path, Shelf(make_release(tmp_path, 1)))) as server:
        (pid,) = server.worker_pids
        with httpx.Client(base_url=server.url, timeout=30) as client:
            before = resident_bytes(pid)
            for _ in range(60):
                reply = client.post("/movies/whoami", json={"q": text})
                assert reply.status_code == 200
                assert reply.headers["x-penstock-prediction-log"] == "delayed"
            assert resident_bytes(pid) - before < 64 * 2**20
            wait_until(lambda: gauge(server, metrics.LOG_DROPPED) >= 40, "what is lost is counted")
            in_the_way.unlink()
            kept = client.post("/movies/whoami", json={"q": ""})
            assert "x-penstock-prediction-log" not in kept.headers
            assert gauge(server, metrics.LOG_DROPPED) < 60
    stored = {p.id for p in read_predictions(tmp_path, "movies")}
    assert kept.json()["prediction_id"] in stored
    assert len(stored) >= 2, "what waited in memory was kept too"
