"""What a death, a scrape and idle callers cost a server: until a killed worker is replaced, and p99 beside them.

`python -m benchmarks.survival` prints the table; needs wrk. Releases are those of the tests.
"""

import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from benchmarks.table import Row, as_text, machine

from penstock.serving.limits import Limits
from penstock.serving.processes.background import Server, start
from serving_load import Shelf, options_for, wait_until
from serving_release import CODE, make_release

_KILLS = 5
_CALLERS = 16
_IDLE = 1000
_ASK = """
wrk.method = "POST"
wrk.body = '{"n": 1}'
wrk.headers["content-type"] = "application/json"
"""
_LIBRARIES = "import lightgbm, sklearn.pipeline, sklearn.linear_model, sklearn.preprocessing\n"
_TIMES = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@contextmanager
def loaded(url: str, folder: Path, seconds: int) -> Iterator["subprocess.Popen[str]"]:
    """Ask at full speed for some seconds."""
    script = folder / "ask.lua"
    script.write_text(_ASK)
    words = ["wrk", "-t1", f"-c{_CALLERS}", f"-d{seconds}s", "--latency", "-s", str(script), url + "/movies/which"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.terminate()


def p99_ms(url: str, folder: Path) -> float:
    with loaded(url, folder, 4) as process:
        said, _ = process.communicate()
    found = re.search(r"99%\s+([0-9.]+)(us|ms|s)", said)
    assert found is not None, said
    return float(found[1]) * _TIMES[found[2]]


def replaced_ms(server: Server) -> float:
    """Kill a worker and return how long it took until as many answer as before."""
    wait_until(lambda: server.spare_pids and len(server.worker_pids) == 2, "a spare waits", timeout_s=60)
    victim = server.worker_pids[0]
    started = time.perf_counter()
    os.kill(victim, signal.SIGKILL)
    while victim in server.worker_pids or len(server.worker_pids) < 2:
        threading.Event().wait(0.002)
    return (time.perf_counter() - started) * 1000


def deaths(name: str, code: str) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        shelf = Shelf(make_release(home, 1, code))
        with start(options_for(home, shelf, workers=2)) as server:
            idle = statistics.median(replaced_ms(server) for _ in range(_KILLS))
            yield Row(what=f"{name}: killed worker replaced, idle", ours=idle, unit="ms", limit=1000.0)
            with loaded(server.url, home, 60):
                busy = statistics.median(replaced_ms(server) for _ in range(_KILLS))
            yield Row(what=f"{name}: the same at full load", ours=busy, unit="ms", limit=1000.0)


def idle_callers() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with start(options_for(home, Shelf(make_release(home, 1)), limits=Limits(linger_s=0.3))) as server:
            p99_ms(server.url, home)
            alone = p99_ms(server.url, home)
            host, port = server.url.removeprefix("http://").split(":")
            held = [socket.create_connection((host, int(port))) for _ in range(_IDLE)]
            beside = p99_ms(server.url, home)
            for caller in held:
                caller.close()
            yield Row(
                what=f"p99 of {_CALLERS} callers beside {_IDLE} idle ones",
                ours=beside, unit="ms", peer=alone, against="alone", limit=2.0, is_ratio=True,
            )  # fmt: skip
            with httpx.Client(base_url=server.url) as client:
                took = [client.get("/metrics").elapsed.total_seconds() * 1000 for _ in range(50)]
            yield Row(what="GET /metrics", ours=statistics.median(took), unit="ms")


def rows() -> list[Row]:
    """Measure; takes about a minute."""
    return [
        *deaths("small release", CODE),
        *deaths("with scikit-learn and LightGBM", _LIBRARIES + CODE),
        *idle_callers(),
    ]


if __name__ == "__main__":
    print(f"{machine()}\n")
    print(as_text(rows()))
