"""One copy of a release inside a Ray actor: the app of a serving worker, asked by Ray's proxies instead of by sockets.

Validation, deadline, fallback, ids and log are those of every other server. Extra: `ray`.
"""

import os
import socket
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from penstock.core.clock import Clock
from penstock.core.records import Record
from penstock.core.settings import ServePolicy, node_home
from penstock.releases.manifest import decode_manifest
from penstock.serving.http.asgi import answer, response_of
from penstock.serving.http.keys import Keys
from penstock.serving.http.release import release_app
from penstock.serving.http.requests import Heads
from penstock.serving.limits import Limits
from penstock.serving.observe.counters import Counters, Worker
from penstock.serving.observe.events import log_events
from penstock.serving.plane.plane import Plane
from penstock.serving.predictions.feedback import FeedbackLog
from penstock.serving.predictions.log import PredictionLog
from penstock.serving.processes.companions import CompactorOptions, Companion
from penstock.serving.program.load import load_program
from penstock.serving.program.stand_ins.comparison import Comparison
from penstock.serving.protocols import feedback
from penstock.serving.protocols.oip import routes as oip
from penstock.store.blobs import Blobs

_COMPACTOR = "penstock.serving.processes.compactor"
_COMPACT_S = 5.0


class ReplicaOrder(Record, frozen=True, kw_only=True):
    """What a copy is told.

    Attributes:
        release: Its reference, "movies@3".
        manifest: Digest of the manifest's blob.
        home: The project's store, where the release is read; every node sees it at this path.
        names: Host names under which callers may ask.
        keys: SHA-256 of the keys of which callers must show one; () where they need none.
        explore: Share of questions that the fallback answers to learn, 0 to 1.
        keep: How long predictions are kept on a node that has a home of its own.
    """

    pipeline: str
    release: str
    manifest: str
    home: str
    names: tuple[str, ...]
    limits: Limits
    keys: tuple[bytes, ...] = ()
    explore: float = 0.0
    keep: ServePolicy = ServePolicy()


class Replica:
    """What Ray keeps: made once per copy, called with each request on one event loop.

    Args:
        order: What to load, a `ReplicaOrder` as JSON; what Ray keeps of it is bytes that any version can read.
    """

    def __init__(self, order: bytes) -> None:
        log_events(is_terminal=False)
        self._open(msgspec.json.decode(order, type=ReplicaOrder))

    def _open(self, order: ReplicaOrder) -> None:
        home, here = Path(order.home), node_home(Path(order.home))
        blobs = Blobs(home / "blobs")
        manifest = decode_manifest(blobs.read(order.manifest))
        policy = manifest.policy.serve
        program = load_program(manifest, blobs, here / "code", limits=order.limits)
        self._limits = msgspec.structs.replace(
            order.limits, threads=policy.threads, queue=policy.queue, batch_rows=policy.batch_rows
        )
        name, clock = f"ray-{socket.gethostname()}-{os.getpid()}", Clock()
        self._log = PredictionLog(
            here, order.pipeline, worker=name, clock=clock, durability=policy.durability, redact=policy.redact
        )
        self._feedback = FeedbackLog(here, order.pipeline, worker=name, clock=clock)
        about = Worker(
            slot=0, pid=os.getpid(), pipeline=order.pipeline, release=order.release, functions=tuple(program.functions)
        )
        counters = Counters(None, about)
        self._plane = Plane(program, order.release, log=self._log, counters=counters, limits=self._limits, clock=clock)
        self._plane.explore(order.explore)
        self._plane.compare_with(Comparison(program, manifest, policy.compare))
        self._plane.warm_up()
        others = {
            **oip.routes(self._plane, order.release, limits=self._limits),
            **feedback.routes(self._feedback, limits=self._limits, count=lambda _count: None),
        }
        self._app = release_app(
            self._plane,
            order.release,
            heads=Heads(frozenset(order.names), Keys(order.keys) if order.keys else None),
            limits=self._limits,
            others=others,
            counters=counters,
        )
        self._compactor: Companion | None = None
        if here != home:
            keeping = CompactorOptions(home=str(here), pipeline=order.pipeline, policy=order.keep, parent=os.getpid())
            self._compactor = Companion(_COMPACTOR, msgspec.json.encode(keeping).decode())

    def check_health(self) -> None:
        """Tell Ray that this copy answers, by returning; keep what runs beside it."""
        if self._compactor is not None:
            self._compactor.keep()

    async def __call__(self, asked: Request) -> Response:
        """Answer one request."""
        reply = await answer(self._app, self._limits, asked.scope, asked.receive)
        return response_of(reply, is_head=asked.method == "HEAD")

    def __del__(self) -> None:
        """Finish what was written, when Ray lets this copy go."""
        self._plane.close()
        self._log.close()
        self._feedback.close()
        if self._compactor is not None:
            self._compactor.leave()
            self._compactor.end(_COMPACT_S)
