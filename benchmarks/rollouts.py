"""How soon a candidate that goes bad is taken back, and how many callers it answers until then.

A real server and real callers; the candidate stands at a tenth of the users, and would stay there for an hour.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from benchmarks.table import Row

from penstock.serving.predictions.reading import predictions_frame

ROUNDS = 3
CALLERS = 3
WARM_S = 2.0
LIMIT_S = 1.0
PENSTOCK = (sys.executable, "-m", "penstock")
PLANTED = ("errors", "slow", "inverted", "nan", "fallbacks")
FLOW = """
import time
from pathlib import Path

import polars as pl
from penstock import Pipeline, Row

shop = Pipeline("shop")
VERSION = 1
MODE = Path({mode!r})


@shop.dataset(key="user_id")
def users() -> pl.DataFrame:
    return pl.DataFrame({{"user_id": list(range(400)), "score": [(i * 37 % 101) / 101 for i in range(400)]}})


@shop.model
def table(users: pl.DataFrame) -> pl.DataFrame:
    return users.sort("user_id")


class Offer(Row):
    score: float


def misbehave(score: float) -> float:
    match MODE.read_text() if VERSION > 1 and MODE.exists() else "":
        case "errors" | "fallbacks":
            raise ValueError("planted")
        case "slow":
            time.sleep(0.02)
        case "inverted":
            return -score
        case "nan":
            return float("nan")
    return score


@shop.serve
def offer(table: pl.DataFrame, *, user_id: int) -> Offer:
    return Offer(score=misbehave(table["score"][user_id % 400]))


@shop.serve
def quick(table: pl.DataFrame, *, user_id: int, place: int = 0) -> Offer:
    return Offer(score=misbehave(table["score"][user_id % 400]))


@shop.fallback(deadline_ms=2000)
def plain(*, user_id: int, place: int = 0) -> Offer:
    return Offer(score=0.5)
"""
POLICY = '[shop]\nrollout = ["10%", "100%"]\nhold = "1h"\n'


def rows() -> list[Row]:
    """Return, for each planted fault, how long the candidate answered after the decision, and before it."""
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder)) as (root, url):
        found = [(mode, [_planted(root, url, mode) for _ in range(ROUNDS)]) for mode in PLANTED]
    return [row for mode, taken in found for row in _rows(mode, taken)]


def _rows(mode: str, taken: list[tuple[float, float, int]]) -> Iterator[Row]:
    last_s, decided_s, answered = (max(values) for values in zip(*taken, strict=True))
    yield Row(f"{mode} at 10 %: decision to the last answer", last_s, "s", limit=LIMIT_S, note=f"worst of {ROUNDS}")
    yield Row(f"{mode} at 10 %: planted until decided", decided_s, "s", note=f"{answered:,} answers of the candidate")


def _planted(root: Path, url: str, mode: str) -> tuple[float, float, int]:
    """Return seconds from decision to the candidate's last answer, from fault to decision, and its answers since."""
    (root / "mode").write_text("", encoding="utf-8")
    _penstock(root, "promote", "shop@2")
    path = "/shop/quick" if mode == "fallbacks" else "/shop/offer"
    with _asked(url + path):
        time.sleep(WARM_S)
        (root / "mode").write_text(mode, encoding="utf-8")
        planted = datetime.now(UTC)
        _wait(lambda: _rollout(root)["state"] != "running")
        time.sleep(2 * LIMIT_S)
    ended = _rollout(root)
    if ended["state"] != "rolled_back":
        raise RuntimeError(f"{mode}: {ended}")
    decided = datetime.fromisoformat(ended["finished_at"])
    # Also what the candidate failed on, which the live release answered.
    by_candidate = predictions_frame(root / ".penstock", "shop", since=planted).filter(release="shop@2").collect()["at"]
    last: datetime = by_candidate.max()  # type: ignore[assignment]  # of a column of datetimes
    return max(0.0, (last - decided).total_seconds()), (decided - planted).total_seconds(), len(by_candidate)


def _wait(is_so: Any, patience_s: float = 300.0) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


@contextmanager
def _asked(url: str) -> Iterator[None]:
    stop = threading.Event()

    def ask(user: int) -> None:
        with httpx.Client(timeout=30) as client:
            while not stop.is_set():
                client.post(url, json={"user_id": user % 400}).raise_for_status()
                user += 7

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def _served(root: Path) -> Iterator[tuple[Path, str]]:
    flow = FLOW.format(mode=str(root / "mode"))
    (root / "penstock.toml").write_text(POLICY, encoding="utf-8")
    for version in (1, 2):
        (root / "flow.py").write_text(flow.replace("VERSION = 1", f"VERSION = {version}"), encoding="utf-8")
        _penstock(root, "run")
    _penstock(root, "rollback", "shop")
    command = [*PENSTOCK, "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            if server.stdout is None:
                raise RuntimeError("no output")
            yield root, json.loads(server.stdout.readline())["url"]
        finally:
            server.terminate()


def _rollout(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_penstock(root, "rollouts", "shop", "--json"))[0]
    return found


def _penstock(root: Path, *words: str) -> str:
    return subprocess.run([*PENSTOCK, *words], cwd=root, check=True, capture_output=True, text=True).stdout
