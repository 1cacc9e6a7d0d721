"""How soon a candidate that goes bad is taken back, and how many callers it answers until then.

A real server and real callers; the candidate stands at a tenth of the users, and would stay there for an hour.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from benchmarks.table import Row

from penstock.serving.predictions.reading import predictions_frame

ROUNDS = 3
CALLERS = 3
USERS = 400
LIMIT_S = 1.0
_WARM = 100  # answers of the candidate before it goes bad
_AFTERWARDS_S = 2 * LIMIT_S  # how long callers go on after the decision
_PATIENCE_S = 300.0
_PENSTOCK = (sys.executable, "-m", "penstock")
_POLICY = '[shop]\nrollout = ["10%", "100%"]\nhold = "1h"\n'
_FLOW = """
import math
import time
from pathlib import Path

import numpy as np
from penstock import Pipeline, Row

shop = Pipeline("shop")
VERSION = 1


class Offer(Row):
    score: float


@shop.model
def scores() -> np.ndarray:
    return np.random.default_rng(0).random({users})


def as_planted(score: float) -> float:
    planted = Path({planted!r}).read_text() if VERSION == 2 else ""
    if planted in ("errors", "fallbacks"):
        raise ValueError(planted)
    time.sleep(0.02 if planted == "slow" else 0)
    return {{"inverted": -score, "nan": math.nan}}.get(planted, score)


@shop.serve
def score(scores: np.ndarray, *, user_id: int) -> Offer:
    return Offer(score=as_planted(scores[user_id]))


@shop.serve
def best(scores: np.ndarray, *, user_id: int, place: int = 0) -> Offer:
    return Offer(score=as_planted(scores[user_id]))


@shop.fallback(deadline_ms=2000)
def usual(*, user_id: int, place: int = 0) -> Offer:
    return Offer(score=0.5)
"""
# What is planted, and whom it is asked of: only `best` has a fallback.
_PATHS = {"errors": "score", "slow": "score", "inverted": "score", "nan": "score", "fallbacks": "best"}


@dataclass(frozen=True, slots=True)
class _Taken:
    """One canary that was taken back: seconds from decision to its last answer, from fault to decision, its answers."""

    last_s: float
    decided_s: float
    answered: int


def rows() -> list[Row]:
    """Return, for each planted fault, how long the candidate answered after the decision, and before it."""
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder)) as url:
        found = [(fault, [_take_back(Path(folder), url, fault) for _ in range(ROUNDS)]) for fault in _PATHS]
    return [row for fault, taken in found for row in _rows(fault, taken)]


def _rows(fault: str, taken: list[_Taken]) -> Iterator[Row]:
    last_s, decided_s = max(one.last_s for one in taken), max(one.decided_s for one in taken)
    note = f"at most {max(one.answered for one in taken):,} answers of the candidate"
    yield Row(f"{fault} at 10 %: decision to the last answer", last_s, "s", limit=LIMIT_S, note=f"worst of {ROUNDS}")
    yield Row(f"{fault} at 10 %: planted until decided", decided_s, "s", note=note)


def _take_back(root: Path, url: str, fault: str) -> _Taken:
    _plant(root, "")
    began = datetime.now(UTC)
    _penstock(root, "promote", "shop@2")
    with _asked(f"{url}/shop/{_PATHS[fault]}"):
        _wait(lambda: len(_answered(root, since=began)) >= _WARM)
        planted = datetime.now(UTC)
        _plant(root, fault)
        _wait(lambda: _rollout(root)["state"] != "running")
        time.sleep(_AFTERWARDS_S)
    ended = _rollout(root)
    if ended["state"] != "rolled_back":
        raise RuntimeError(f"{fault}: {ended}")
    decided = datetime.fromisoformat(ended["finished_at"])
    answered = _answered(root, since=planted)
    last_s = (max(answered) - decided).total_seconds()
    return _Taken(max(0.0, last_s), (decided - planted).total_seconds(), len(answered))


def _plant(root: Path, fault: str) -> None:
    (root / "planted").write_text(fault, encoding="utf-8")


def _answered(root: Path, *, since: datetime) -> list[datetime]:
    """Return when the candidate answered; also what it failed on, which the live release answered then."""
    frame = predictions_frame(root / ".penstock", "shop", since=since).filter(release="shop@2").collect()
    return frame["at"].to_list()


def _wait(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_PATIENCE_S:g} s")
        time.sleep(0.1)


@contextmanager
def _asked(url: str) -> Iterator[None]:
    stop = threading.Event()

    def ask(user: int) -> None:
        with httpx.Client(timeout=30) as client:
            while not stop.is_set():
                client.post(url, json={"user_id": user % USERS}).raise_for_status()
                user += CALLERS

    with ThreadPoolExecutor(CALLERS) as callers:
        asking = [callers.submit(ask, first) for first in range(CALLERS)]
        try:
            yield
        finally:
            stop.set()
        for one in asking:
            one.result()


@contextmanager
def _served(root: Path) -> Iterator[str]:
    _plant(root, "")
    flow = _FLOW.format(users=USERS, planted=str(root / "planted"))
    (root / "penstock.toml").write_text(_POLICY, encoding="utf-8")
    for version in (1, 2):
        (root / "flow.py").write_text(flow.replace("VERSION = 1", f"VERSION = {version}"), encoding="utf-8")
        _penstock(root, "run")
    _penstock(root, "rollback", "shop")
    command = [*_PENSTOCK, "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            yield json.loads(next(iter(server.stdout or ())))["url"]
        finally:
            server.terminate()


def _rollout(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_penstock(root, "rollouts", "shop", "--json"))[0]
    return found


def _penstock(root: Path, *words: str) -> str:
    return subprocess.run([*_PENSTOCK, *words], cwd=root, check=True, capture_output=True, text=True).stdout
