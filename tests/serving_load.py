"""Load on a server for tests: callers without pause that note each answer and failure, and the release of now."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from penstock.serving.limits import Limits
from penstock.serving.processes.background import Server
from penstock.serving.processes.supervisor import LiveRelease, ServeOptions

LIMITS = Limits(linger_s=0.3)


def wait_until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited too long until {what}"
        threading.Event().wait(0.01)


def is_alive(pid: int) -> bool:
    """Whether the process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def resident_bytes(pid: int) -> int:
    """Return the memory of a process that is its own: what it shares with others is not counted."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = [int(line.split()[1]) for line in text.splitlines() if line.startswith(("Private_", "Swap:"))]
    return sum(private) * 1024


@dataclass
class Shelf:
    """The release that is current; a test puts another one there."""

    release: LiveRelease | None

    def look(self) -> LiveRelease | None:
        return self.release


@dataclass
class Load:
    """Threads that ask `which` without pause and note every answer and every failure."""

    url: str
    ids: list[str] = field(default_factory=list)
    releases: dict[str, int] = field(default_factory=dict)
    mismatched: int = 0
    failures: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        """Requests that were answered."""
        return len(self.ids)

    def ask(self) -> None:
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while not self._stop.is_set():
                self._ask_once(client)

    def _ask_once(self, client: httpx.Client) -> None:
        started = time.perf_counter()
        try:
            reply = client.post("/movies/which", json={"n": 1})
        except httpx.HTTPError as error:
            with self._lock:
                self.failures.append(repr(error))
            return
        with self._lock:
            if reply.status_code != 200:
                self.failures.append(reply.text)
                return
            body = reply.json()
            self.latencies_s.append(time.perf_counter() - started)
            self.ids.append(body["prediction_id"])
            self.releases[body["release"]] = self.releases.get(body["release"], 0) + 1
            self.mismatched += body["answer"] != body["release"].replace("movies@", "v")

    def wait_for_more(self, count: int = 50) -> None:
        """Return when `count` more requests are answered."""
        self.wait_for_count(self.count + count + 1)

    def wait_for_count(self, count: int, timeout_s: float = 30.0) -> None:
        """Return when so many requests are answered in all."""
        wait_until(lambda: self.count >= count, f"{count:,} requests are answered", timeout_s)

    def wait_for_release(self, release: str) -> None:
        """Return when a release has answered."""
        wait_until(lambda: release in self.releases, f"{release} answers")

    @contextlib.contextmanager
    def running(self, threads: int = 4) -> Iterator["Load"]:
        started = [threading.Thread(target=self.ask) for _ in range(threads)]
        for thread in started:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in started:
                thread.join()


def options_for(home: Path, shelf: Shelf, workers: int = 1, **more: Any) -> ServeOptions:
    """Return options of a server that follows the shelf on any free port."""
    given: dict[str, Any] = {"limits": LIMITS, "poll_s": 0.05, **more}
    return ServeOptions(pipeline="movies", home=home, current_release=shelf.look, port=0, workers=workers, **given)


def release_of(server: Server) -> str:
    """Return the release that a server says it is ready with."""
    release: str = httpx.get(server.url + "/readyz").json()["release"]
    return release
