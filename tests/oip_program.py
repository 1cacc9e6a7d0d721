"""A release whose functions take and give every form that the Open Inference Protocol carries, and a plane for it."""

import asyncio
import itertools
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from penstock.core.clock import Clock
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Route
from penstock.serving.observe.counters import Counters, Worker
from penstock.serving.plane.plane import Plane
from penstock.serving.predictions.log import PredictionLog
from penstock.serving.program.load import Program, load_program
from penstock.serving.protocols.oip.routes import routes
from penstock.serving.protocols.oip.rpc import serve_grpc
from penstock.serving.refusals import RequestError
from penstock.store.blobs import Blobs
from serving_release import make_manifest, make_node, own_imports

CODE = '''
import datetime as dt
import time

import numpy as np
import polars as pl

from penstock.core.rows import Row


class Movie(Row):
    movie_id: int
    title: str
    score: float


class Verdict(Row):
    label: str
    score: float
    reason: str | None


def recommend(*, user_id: int, k: int = 2) -> list[Movie]:
    """Movies for a user."""
    return [Movie(movie_id=i, title=f"Movie {i}", score=user_id + i / 10) for i in range(min(k, 5))]


def judge(
    *, text: str, weight: float = 1.0, loud: bool = False, tags: list[str] = [], day: dt.date | None = None
) -> Verdict:
    """Fields of every kind, a flat record back."""
    text = text.upper() if loud else text
    reason = None if day is None else day.isoformat() + ",".join(tags)
    return Verdict(label=text, score=max(-1e6, min(weight, 1e6)) * len(text), reason=reason)


def echo(*, rows: np.ndarray) -> np.ndarray:
    """Give the rows back."""
    rows += 0.0  # a function may write into what it was given
    return rows


def mean(*, rows: np.ndarray) -> np.ndarray:
    """The mean of each row."""
    return rows.mean(axis=1)


def scaled(*, rows: np.ndarray, factor: float = 2.0) -> list[float]:
    """A function of rows with a field of its own."""
    return (rows.sum(axis=1) * factor).tolist()


def describe(*, rows: pl.DataFrame) -> pl.DataFrame:
    """Columns of several types, a frame back."""
    return rows.select(total=pl.col("x") + pl.col("n"), name="name", tags="tags", big=pl.col("n") > 1)


def total(*, rows: pl.DataFrame) -> pl.Series:
    """Columns of numbers only."""
    return rows.sum_horizontal()


def broken(*, n: int) -> int:
    """Fails."""
    raise ValueError("secret")


def late(*, n: int) -> str:
    """Misses its deadline."""
    time.sleep(n / 1000)
    return "model"


def instead(*, n: int) -> str:
    """Stands in."""
    return "fallback"
'''
THREE = tuple((str(place), "Float64") for place in range(3))
COLUMNS = (("x", "Float64"), ("n", "Int64"), ("name", "String"), ("tags", "List(String)"))
NUMBERS = (("a", "Float64"), ("b", "Float64"), ("c", "Float64"))


@contextmanager
def loaded_program(home: Path) -> Iterator[Program]:
    """Give the release, loaded; its module is forgotten before and after."""
    blobs = Blobs(home / "blobs")
    nodes = (
        make_node("recommend", "serve", {"user_id": "int", "k": "int"}),
        make_node("judge", "serve", {"text": "str"}),
        *(make_node(name, "serve", {"rows": "numpy.ndarray"}) for name in ("echo", "mean", "scaled")),
        *(make_node(name, "serve", {"rows": "polars.DataFrame"}) for name in ("describe", "total")),
        make_node("broken", "serve", {"n": "int"}),
        make_node("late", "serve", {"n": "int"}),
        make_node("instead", "fallback", {"n": "int"}, deadline_ms=50, serves=["late"]),
    )
    manifest = make_manifest(blobs, CODE, nodes=nodes)
    inputs = {"mean": THREE, "scaled": THREE, "describe": COLUMNS, "total": NUMBERS}
    with own_imports():
        yield load_program(msgspec.structs.replace(manifest, inputs=inputs), blobs, home / "code")


def make_plane(program: Program, home: Path, limits: Limits) -> tuple[Plane, PredictionLog]:
    """Return a plane for the running loop, with its log."""
    log = PredictionLog(home, "movies", worker=f"w{next(_NUMBERS)}", clock=Clock())
    counters = Counters(None, Worker(slot=0, pid=1, pipeline="movies", functions=tuple(program.functions)))
    return Plane(program, "movies@3", log=log, counters=counters, limits=limits, clock=Clock()), log


_NUMBERS = itertools.count()


class Asker:
    """Asks the routes of a release on an event loop of its own, as the HTTP front end would."""

    def __init__(self, program: Program, home: Path, limits: Limits) -> None:
        self._loop = asyncio.new_event_loop()
        self.home = home
        self._plane, self._log = make_plane(program, home, limits)
        self._routes = routes(self._plane, "movies@3", limits=limits)

    def close(self) -> None:
        """Close the loop and the log."""
        self._plane.close()
        self._log.close()
        self._loop.close()

    def get(self, path: str) -> Reply:
        """Ask without a body."""
        return self.send(Request("GET", path, {}))

    def infer(self, model: str, body: bytes, header_length: int | None = None) -> Reply:
        """Ask a model."""
        headers = {} if header_length is None else {b"inference-header-content-length": b"%d" % header_length}
        return self.send(Request("POST", f"/v2/models/{model}/infer", headers, body))

    def send(self, request: Request) -> Reply:
        """Return the reply to a request."""
        return self._loop.run_until_complete(asyncio.wait_for(self._reply(request), 20))

    async def _reply(self, request: Request) -> Reply:
        route = self.route(request.path)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            route.handle(request, reply.set_result)
        except RequestError as error:
            assert route.refuse is not None
            return route.refuse(error)
        return await reply

    def route(self, path: str) -> Route:
        """Return what answers at a path."""
        return self._routes.get(path) or self._routes["/v2/*"]


def told(reply: Reply) -> dict[str, Any]:
    """Return the JSON of a reply that is an answer."""
    assert reply.status == 200, reply.body
    found: dict[str, Any] = msgspec.json.decode(reply.body)
    return found


def outputs(reply: Reply) -> dict[str, Any]:
    """Return the data of the outputs of a JSON reply by name."""
    return {output["name"]: output["data"] for output in told(reply)["outputs"]}


def refused(reply: Reply, status: int = 422) -> str:
    """Return what a refusal says; its body is the protocol's own shape."""
    assert reply.status == status, reply.body
    body = msgspec.json.decode(reply.body)
    assert set(body) == {"error"}
    text: str = body["error"]
    return text


def tensor(name: str, datatype: str, shape: Sequence[int], data: Any = None, **parameters: Any) -> dict[str, Any]:
    """Return a tensor as JSON has it."""
    found = {"name": name, "datatype": datatype, "shape": list(shape)}
    if data is not None:
        found["data"] = data
    return {**found, "parameters": parameters} if parameters else found


def body_of(*tensors: dict[str, Any], **rest: Any) -> bytes:
    """Return an infer request as JSON."""
    return msgspec.json.encode({"inputs": list(tensors), **rest})


class GrpcRunning:
    """The gRPC form of a release, served on an event loop in a thread of its own."""

    def __init__(self, program: Program, home: Path, limits: Limits, authorize: Any = None) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._plane, self._log, self._server = self._do(self._start(program, home, limits, authorize))
        self.address = f"127.0.0.1:{self._server.port}"

    def drain(self, grace_s: float) -> None:
        """Take no more calls and finish those in flight."""
        self._do(self._server.drain(grace_s))

    def close(self) -> None:
        """Stop the server, then the loop."""
        self.drain(0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._plane.close()
        self._log.close()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self, program: Program, home: Path, limits: Limits, authorize: Any) -> tuple[Any, ...]:
        plane, log = make_plane(program, home, limits)
        options: dict[str, Any] = {"listen": "127.0.0.1:0", "limits": limits, "authorize": authorize}
        return plane, log, await serve_grpc(plane, "movies@3", **options)
