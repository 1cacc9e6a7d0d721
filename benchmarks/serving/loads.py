"""The loads: a burst of requests on one route, and what the server spent on it.

Closed loops are `wrk`'s (Debian package, one thread: 16, 64 or 4 connections, each with one request under way); the
open loop is ours (`steady`), as no packaged generator counts latency from the time a request was due.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.serving import samples
from benchmarks.serving.processes import Tree
from benchmarks.serving.servers import Route

CONNECTIONS = {"16": 16, "64": 64, "batch": 4}
STEADY = "steady"
SHARE = 0.8  # of the maximum, for the open loop
_REQUESTS = Path(__file__).parent / "requests.lua"
_STEADY = "benchmarks.serving.steady"


@dataclass(frozen=True, slots=True)
class Burst:
    """What one burst showed.

    Attributes:
        rows_per_s: Answered rows a second.
        requests_per_s: Answered requests a second.
        cpu_us: Processor time of the server's tree per request, without what may wait.
        later_us: Processor time per request of processes that gave way meanwhile, as one that tidies a log.
        busy: Share of one core that the server's tree used; below 1 the machine was busy, or the load light.
        refused: Answers with another status than 200.
        broken: Connections that failed, and requests without an answer.
        load_average: Of the machine, when the burst ended.
    """

    rows_per_s: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    later_us: float
    busy: float
    refused: int
    broken: int
    load_average: float


@dataclass(frozen=True, slots=True)
class Target:
    """Where a burst goes: a server that is up, one of its routes, and the cores for the generator."""

    tree: Tree
    route: Route
    port: int
    folder: Path
    cores: Sequence[int]


def burst(target: Target, load: str, *, seconds: float, rate: float = 0.0) -> Burst:
    """Ask for `seconds` and return what came back.

    Args:
        target: Whom.
        load: "16" or "64" connections with single rows, "batch" for 1,000 rows, or "steady" at a `rate`.
        seconds: How long.
        rate: Requests a second of the open loop.

    Raises:
        OSError: The generator could not do its work.
    """
    rows = samples.BATCH if load == "batch" else 1
    command = _steady(target, rate, seconds) if load == STEADY else _closed(target, load, seconds, rows)
    before = target.tree.usage()
    done = subprocess.run(
        ["taskset", "-c", ",".join(map(str, target.cores)), *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(f"The generator failed: {done.stderr.strip()[-300:]}")
    after = target.tree.usage()
    found = json.loads(done.stdout.splitlines()[-1])
    later_s = after.behind_s - before.behind_s
    spent_s = after.cpu_s - before.cpu_s - later_s
    answers = max(1, found["answers"])
    return Burst(
        rows_per_s=rows * found["answers"] / found["seconds"],
        requests_per_s=found["answers"] / found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_us=1e6 * spent_s / answers,
        later_us=1e6 * later_s / answers,
        busy=spent_s / found["seconds"],
        refused=found["refused"],
        broken=found["broken"],
        load_average=os.getloadavg()[0],
    )


def has_generator() -> bool:
    """Whether `wrk` is installed."""
    return shutil.which("wrk") is not None


def _closed(target: Target, load: str, seconds: float, rows: int) -> list[str]:
    form = target.route.form
    url = f"http://127.0.0.1:{target.port}{target.route.path}"
    heads = [word for pair in samples.headers(form, samples.requests(rows)).items() for word in ("-H", ": ".join(pair))]
    settings = ["-t1", f"-c{CONNECTIONS[load]}", f"-d{max(1, round(seconds))}", "--timeout", "20s"]
    whole = ["whole"] if samples.is_binary(form) else []
    return ["wrk", *settings, "-s", str(_REQUESTS), *heads, url, "--", str(_bodies(target, rows)), *whole]


def _steady(target: Target, rate: float, seconds: float) -> list[str]:
    bodies = _bodies(target, 1)
    return [sys.executable, "-m", _STEADY, str(target.port), target.route.path, str(bodies), str(rate), str(seconds)]


def _bodies(target: Target, rows: int) -> Path:
    """Return a file with the bodies to send, one a line; or one body where they are binary."""
    count = 4 if rows > 1 else samples.BODIES
    if samples.is_binary(target.route.form):
        count = 1
    file = target.folder / f"{target.route.form}-{rows}.txt"
    if not file.is_file():
        parts = np.split(samples.requests(count * rows), count)
        file.write_bytes(b"\n".join(samples.body(target.route.form, part) for part in parts))
    return file
