"""The run: every server in turn, several times over, each burst written down at once.

Belongs here: the order of things. Servers take turns within each round, so that a busy moment of the machine falls on
all of them, and no more than one is up at a time.
"""

import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path

import httpx
import numpy as np
from benchmarks.serving import samples
from benchmarks.serving.environments import python_of, version_of
from benchmarks.serving.loads import SHARE, STEADY, Target, burst
from benchmarks.serving.processes import Tree
from benchmarks.serving.servers import Place, Route, Server, alone
from benchmarks.table import machine

_READY_S = 60.0
_REST_S, _GLANCE_S, _IDLE_SHARE = 10.0, 0.3, 0.15
_EQUAL = 1e-6
_SERVER_CORE, _GENERATOR_CORE = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured, and where it may write.

    Attributes:
        scratch: Folder for models, projects, logs and bodies.
        peers: Folder of the peers' environments.
        seconds: Length of a burst.
        rounds: How often each server has its turn.
    """

    scratch: Path
    peers: Path
    seconds: float
    rounds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of a server: the loads by name of the route, "*" for all others; and the cores it may use."""

    server: Server
    loads: Mapping[str, tuple[str, ...]]
    cores: tuple[int, ...] = (_SERVER_CORE,)

    def asked(self) -> Iterator[tuple[Route, tuple[str, ...]]]:
        """Yield the routes that are asked, each with its loads."""
        for route in self.server.routes:
            if loads := self.loads.get(route.name, self.loads.get("*", ())):
                yield route, loads


class Run:
    """A run that writes each sample as one line of JSON."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self._plan = plan
        self._out = out
        self._models = samples.write_models(plan.scratch / "models")
        self._fastest: dict[tuple[str, str, str], list[float]] = {}

    def rounds(self, turns: Sequence[Turn]) -> None:
        """Give every server its turn, `rounds` times."""
        for model, path in self._models.items():
            bare_bytes = _bytes_alone(python_of(self._plan.peers, "penstock"), path)
            self._write(alone(model), {"load": "memory", "largest_bytes": bare_bytes, "machine": machine()})
        for number in range(self._plan.rounds):
            for turn in turns:
                self._turn(turn, number)

    def _turn(self, turn: Turn, number: int) -> None:
        server = turn.server
        folder = self._plan.scratch / "servers" / f"{server.name}-{server.model}".replace(" ", "-").replace(",", "")
        if server.kind == "ours":
            folder = self._plan.scratch / ("projects" if "uncompiled" not in server.name else "plain") / server.model
        folder.mkdir(parents=True, exist_ok=True)
        port = _free_port()
        place = Place(
            python=python_of(self._plan.peers, server.environment),
            folder=folder,
            model=self._models[server.model],
            port=port,
        )
        begun = time.perf_counter()
        tree = Tree(
            server.command(place),
            folder=folder,
            variables=_variables(place),
            cores=turn.cores,
            log=folder / "server.log",
        )
        try:
            reason = self._await_answer(tree, server, port)
            self._write(server, {"load": "start", "seconds": time.perf_counter() - begun, "failed": reason})
            if not reason:
                for sample in self._measure(Target(tree, server.routes[0], port, folder, _generator(turn)), turn):
                    self._write(server, {"round": number, **sample})
        finally:
            tree.stop()

    def _measure(self, target: Target, turn: Turn) -> Iterator[dict[str, object]]:
        for route, loads in turn.asked():
            reached = Target(target.tree, route, target.port, target.folder, target.cores)
            if wrong := self._wrong(reached, turn.server):
                yield {"route": route.name, "load": "answer", "failed": wrong}
                continue
            target.tree.prefer()
            burst(reached, "16", seconds=1)  # warm
            _await_rest(target.tree)
            for load in loads:
                yield {"route": route.name, "load": load, **self._burst(reached, turn.server, load)}
        usage = target.tree.usage()
        yield {"load": "memory", "memory_bytes": usage.memory_bytes, "largest_bytes": usage.largest_bytes}

    def _burst(self, target: Target, server: Server, load: str) -> dict[str, object]:
        seen = self._fastest.setdefault((server.name, server.model, target.route.name), [])
        rate = SHARE * statistics.median(sorted(seen)[-3:]) if load == STEADY and seen else 0.0
        try:
            found = burst(target, load, seconds=self._plan.seconds, rate=rate)
        except OSError as error:
            return {"failed": str(error)}
        if load in {"16", "64"}:
            seen.append(found.requests_per_s)
        return asdict(found)

    def _wrong(self, target: Target, server: Server) -> str:
        """Return how the answer differs from the model's own, or "" when it does not."""
        if server.kind == "ceiling":
            return ""
        rows = samples.requests(1)
        expected = float(samples.read_model(self._models[server.model])(rows)[0])
        try:
            answer = _ask(target.port, target.route, rows)
        except (OSError, httpx.HTTPError) as error:
            return str(error)
        near = any(abs(number - expected) < _EQUAL for number in samples.numbers(answer))
        return "" if near else f"expected {expected}, got {json.dumps(answer)[:200]}"

    def _await_answer(self, tree: Tree, server: Server, port: int) -> str:
        """Return "" once the first route answers, else why it does not."""
        rows, reason, route = samples.requests(1), "", server.routes[0]
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline and not tree.has_ended:
            tree.prefer()
            try:
                _ask(port, route, rows)
            except (OSError, httpx.HTTPError) as error:
                reason = str(error)
                time.sleep(0.01)
            else:
                return ""
        return f"{reason}: {tree.last_words()}"

    def _write(self, server: Server, sample: dict[str, object]) -> None:
        known = {
            "server": server.name,
            "model": server.model,
            "kind": server.kind,
            "workers": server.workers,
            "version": version_of(self._plan.peers, server.environment),
        }
        with self._out.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**known, **sample}) + "\n")
        print(_line(server, sample), flush=True)


def read(out: Path) -> list[dict[str, object]]:
    """Return the samples of a run."""
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def _ask(port: int, route: Route, rows: np.ndarray) -> object:
    url = f"http://127.0.0.1:{port}{route.path}"
    reply = httpx.post(url, content=samples.body(route.form, rows), headers=samples.headers(route.form, rows))
    if reply.status_code != HTTPStatus.OK:
        raise OSError(f"{reply.status_code} {reply.text[:200]}")
    return reply.json()


def _await_rest(tree: Tree) -> None:
    """Wait until a server does nothing, as what it does after its start is not the cost of a request."""
    deadline = time.monotonic() + _REST_S
    spent_s = tree.usage().cpu_s
    while time.monotonic() < deadline:
        time.sleep(_GLANCE_S)
        before_s, spent_s = spent_s, tree.usage().cpu_s
        if spent_s - before_s < _IDLE_SHARE * _GLANCE_S:
            return


def _variables(place: Place) -> dict[str, str]:
    root = Path(__file__).parents[2]
    return {
        "SERVING_MODEL": str(place.model),
        "PYTHONPATH": str(root),
        "PATH": f"{place.python.parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",  # the server has one core
    }


def _bytes_alone(python: Path, model: Path) -> int:
    """Return the resident bytes of a Python with the model and its library, which answered once."""
    command = [str(python), str(Path(__file__).parent / "peers" / "model.py")]
    environment = {**os.environ, "SERVING_MODEL": str(model), "OMP_NUM_THREADS": "1"}
    return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def _generator(turn: Turn) -> tuple[int, ...]:
    return (_GENERATOR_CORE,) if len(turn.cores) == 1 else turn.cores


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _line(server: Server, sample: dict[str, object]) -> str:
    shown = {k: round(v, 2) if isinstance(v, float) else v for k, v in sample.items() if k not in {"round", "broken"}}
    return f"{server.name} [{server.model}] " + " ".join(f"{key}={value}" for key, value in shown.items())


def selected(turns: Iterable[Turn], words: Sequence[str]) -> list[Turn]:
    """Return the turns of servers whose name begins with one of `words`; all without words."""
    return [turn for turn in turns if not words or any(turn.server.name.startswith(word) for word in words)]
