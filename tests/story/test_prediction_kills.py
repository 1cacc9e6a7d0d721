"""Kill workers, compactors and the supervisor at random moments under load: no acknowledged answer is lost or doubled.

Fifteen kills by default; a hundred with PENSTOCK_LONG=1 (`make rehearse-kills`). PENSTOCK_SEED repeats a story.
"""

import collections
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from kept_shop import make_shop
from penstock.serving.predictions.compaction import compact
from penstock.serving.predictions.reading import feedback_frame, read_predictions
from penstock.serving.predictions.records import predictions_folder
from penstock.serving.processes.companions import CompactorOptions
from project_folder import COMMAND, Project
from serving_load import wait_until

KILLS = 100 if os.environ.get("PENSTOCK_LONG") else 15
SEED = int(os.environ.get("PENSTOCK_SEED", "20260301"))
PRICES = {"tea": 3.0, "milk": 1.0}


class Callers:
    """Ask without pause, and note what was acknowledged; every tenth answer is given feedback."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: dict[str, float] = {}
        self.feedback: set[str] = set()
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def asking(self, count: int) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def wait_for_more(self, count: int, keep: Callable[[], None]) -> None:
        wanted = len(self.answers) + count

        def is_enough() -> bool:
            keep()
            return len(self.answers) >= wanted

        wait_until(is_enough, "requests are answered", timeout_s=240)

    def _ask(self, number: int) -> None:
        dice = random.Random(number)
        while not self._stop.is_set():
            with contextlib.suppress(httpx.HTTPError), httpx.Client(base_url=self.url, timeout=30) as client:
                while not self._stop.is_set():
                    self._ask_once(client, dice)

    def _ask_once(self, client: httpx.Client, dice: random.Random) -> None:
        item = dice.choice(sorted(PRICES))
        reply = client.post("/shop/price", json={"item": item})
        if reply.status_code != 200:
            return
        body = reply.json()
        with self._lock:
            self.answers[body["prediction_id"]] = PRICES[item]
            if body["answer"] != PRICES[item]:
                self.wrong.append(body["prediction_id"])
        if dice.random() < 0.1:
            told = client.post("/feedback", json={"prediction_id": body["prediction_id"], "value": body["answer"]})
            if told.status_code == 200:
                with self._lock:
                    self.feedback.add(body["prediction_id"])


class Victims:
    """A server of two workers and a compactor that never rests, to be killed one by one and started again."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.home = project.root / ".penstock"
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = int(taken.getsockname()[1])
        self.server = self._serve()
        self.compactor = self._compact()

    def _serve(self) -> "subprocess.Popen[bytes]":
        words = [*COMMAND, "serve", "shop", "--port", str(self.port), "--workers", "2", "--json"]
        return subprocess.Popen(words, cwd=self.project.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _compact(self) -> "subprocess.Popen[bytes]":
        options = CompactorOptions(home=str(self.home), pipeline="shop", every_s=0.01, parent=os.getpid())
        words = [sys.executable, "-P", "-m", "penstock.serving.processes.compactor"]
        return subprocess.Popen([*words, msgspec.json.encode(options).decode()], stderr=subprocess.DEVNULL)

    def keep(self) -> None:
        """Start the server again when it has gone, as whoever runs it would.

        Workers of a killed supervisor hold the port until they have answered what was under way.
        """
        if self.server.poll() is not None:
            self.server = self._serve()

    def kill(self, kind: str, dice: random.Random) -> None:
        """Kill one process of a kind with SIGKILL, if there is one, and start again what nobody else starts."""
        if kind == "worker":
            self._kill_worker(dice)
        elif kind == "compactor":
            self.compactor.kill()
            self.compactor.wait()
            self.compactor = self._compact()
        else:
            self.server.kill()
            self.server.wait()

    def _kill_worker(self, dice: random.Random) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.server.pid).children()
            workers = [child for child in children if any("processes.worker" in word for word in child.cmdline())]
            if workers:
                dice.choice(workers).kill()

    def end(self) -> None:
        """Let the server finish what is under way, and end the rest."""
        self.server.send_signal(signal.SIGTERM)
        self.server.wait(60)
        self.compactor.kill()
        self.compactor.wait()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_acknowledged_answer_is_lost_or_doubled_by_kills(tmp_path: Path) -> None:
    """Each acknowledged id is found exactly once with its answer, each acknowledged feedback once, whoever died."""
    dice = random.Random(SEED)
    project = make_shop(tmp_path / "shop")
    victims = Victims(project)
    callers = Callers(f"http://127.0.0.1:{victims.port}")
    killed: collections.Counter[str] = collections.Counter()
    try:
        with callers.asking(3):
            for _ in range(KILLS):
                callers.wait_for_more(dice.randint(20, 120), victims.keep)
                kind = dice.choices(("worker", "compactor", "supervisor"), weights=(5, 5, 2))[0]
                victims.kill(kind, dice)
                killed[kind] += 1
            callers.wait_for_more(20, victims.keep)
    finally:
        victims.end()
    _judge(victims.home, callers)
    wait_until(lambda: _is_compacted(victims.home), "all is compacted", timeout_s=120)
    _judge(victims.home, callers)
    sys.stdout.write(f"seed {SEED}: killed {dict(killed)}; {len(callers.answers)} answers acknowledged\n")


def _is_compacted(home: Path) -> bool:
    # A worker whose supervisor was killed may hold its segment a little longer.
    compact(home, "shop")
    return not list(predictions_folder(home, "shop").rglob("*.log"))


def _judge(home: Path, callers: Callers) -> None:
    stored: dict[str, Any] = {}
    doubled = []
    for found in read_predictions(home, "shop"):
        if found.id in stored:
            doubled.append(found.id)
        stored[found.id] = found.answer
    assert not callers.wrong
    assert doubled == []
    assert [one for one in callers.answers if one not in stored] == []
    assert all(stored[one] == answer for one, answer in callers.answers.items())
    told = feedback_frame(home, "shop", is_history=True).collect()["prediction_id"].to_list()
    assert sorted(told) == sorted(set(told))
    assert callers.feedback <= set(told)
