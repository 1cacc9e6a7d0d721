"""What a worker answers with, put together in one place: plane, logs, routes of every protocol, gRPC, telemetry."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import InputError
from penstock.core.settings import ServePolicy, serve_keys
from penstock.serving.http.connections import Connections
from penstock.serving.http.keys import Keys
from penstock.serving.http.release import release_app
from penstock.serving.http.requests import Heads
from penstock.serving.messages import Route
from penstock.serving.observe import exposition, metrics, otel
from penstock.serving.observe.access import AccessLog
from penstock.serving.observe.counters import Counters, Worker
from penstock.serving.observe.exchanges import Watcher
from penstock.serving.observe.otel import Telemetry
from penstock.serving.plane.plane import Plane
from penstock.serving.plane.split import FALLBACK, Split
from penstock.serving.predictions.feedback import FeedbackLog
from penstock.serving.predictions.log import PredictionLog
from penstock.serving.processes.relay import Relay
from penstock.serving.processes.sidedoor import SideDoor
from penstock.serving.processes.workers import WorkerEnds, WorkerOptions
from penstock.serving.program.load import Program
from penstock.serving.program.stand_ins.comparison import Comparison
from penstock.serving.protocols import feedback
from penstock.serving.protocols.consumers import Consumers
from penstock.serving.protocols.oip import routes as oip
from penstock.serving.protocols.oip.rpc import serve_grpc

if TYPE_CHECKING:
    from penstock.serving.protocols.oip.rpc_service import GrpcServer

_BEAT_S = 0.5


class Answering:
    """Everything of a worker that answers; made before the event loop runs, opened and closed on it.

    Args:
        program: The release, loaded; None while there is none.
        policy: What the engineer says about serving.
        options: What this worker is told.
        ends: What its process was started with.
    """

    def __init__(self, program: Program | None, policy: ServePolicy, options: WorkerOptions, ends: WorkerEnds) -> None:
        self._options = options
        self._limits = msgspec.structs.replace(
            options.limits, threads=policy.threads, queue=policy.queue, batch_rows=policy.batch_rows
        )
        self._release = options.release or ""
        home, name, clock = Path(options.home), f"w{options.slot}-{os.getpid()}", Clock()
        self._log = PredictionLog(
            home, options.pipeline, worker=name, clock=clock, durability=policy.durability, redact=policy.redact
        )
        self._feedback = FeedbackLog(home, options.pipeline, worker=name, clock=clock)
        worker = Worker(
            slot=options.slot,
            pid=os.getpid(),
            pipeline=options.pipeline,
            release=self._release,
            functions=() if program is None else tuple(program.functions),
        )
        self._counters = Counters(Path(options.counters), worker)
        self._plane: Plane | None = None
        if program is not None:
            self._plane = Plane(
                program, self._release, log=self._log, counters=self._counters, limits=self._limits, clock=clock
            )
            self._plane.explore(options.explore)
        self._relay: Relay | None = None
        self._consumers = None if options.admission is None else Consumers(options.admission)
        self._access = _access_log(options, ends)
        self._telemetry: Telemetry | None = None
        if options.otel is not None:
            self._telemetry = otel.connect(options.otel, worker, self._counters)

    def compare_with(self, comparison: Comparison) -> None:
        """Have a sample of the answers of faster equivalents compared with those of the original models."""
        if self._plane is not None:
            self._plane.compare_with(comparison)

    def share(self, split: Split | None) -> None:
        """Give a share of the requests to another release or to the fallback; None for none. Runs on the event loop."""
        if self._plane is None:
            return
        is_own = split is not None and split.variant == FALLBACK
        self._plane.deal(split if is_own else None)
        before, self._relay = self._relay, None if split is None or is_own else Relay(split)
        self._plane.aside = self._relay
        if self._relay is not None:
            self._relay.open()
        if before is not None:
            before.close()

    def warm_up(self) -> None:
        """Answer the release's examples, so that the first caller does not wait for what is made on first use."""
        if self._plane is not None:
            self._plane.warm_up()

    async def serve(self, listener: socket.socket, leave: asyncio.Event, tell_ready: Callable[[], None]) -> None:
        """Answer until told to leave, then answer what is under way.

        Args:
            listener: The shared listening socket.
            leave: Set when this worker is to go.
            tell_ready: Called when requests are answered.

        Raises:
            PenstockError: gRPC cannot be served.
        """
        app = release_app(
            self._plane,
            self._release,
            heads=Heads(frozenset(self._options.names), Keys.of(serve_keys())),
            limits=self._limits,
            others=self._routes(),
            counters=self._counters,
            watchers=self._watchers(),
            consumers=self._consumers,
        )
        connections: Connections | SideDoor = Connections(app, self._limits)
        if self._options.side is not None and self._plane is not None:
            connections = SideDoor(app, Path(self._options.side), self._plane.note_refused, self._limits.drain_s)
        beating = asyncio.create_task(self._beat(connections))
        try:
            grpc = await self._serve_grpc()
            await connections.open(listener)
            tell_ready()
            leaving = asyncio.create_task(leave.wait())
            await asyncio.wait([leaving, beating], return_when=asyncio.FIRST_COMPLETED)
            if beating.done():  # without beats this worker counts as hung: its own fault is better told at once
                beating.result()
            draining = [connections.drain()]
            if grpc is not None:
                draining.append(grpc.drain(self._limits.drain_s))
            await asyncio.gather(*draining)
        finally:
            beating.cancel()
            self._close()

    def _routes(self) -> dict[str, Route]:
        if self._plane is None:
            return {}
        return {
            **oip.routes(self._plane, self._release, limits=self._limits),
            **feedback.routes(self._feedback, limits=self._limits, count=self._count_feedback),
            **exposition.routes(Path(self._options.counters).parent),
        }

    async def _serve_grpc(self) -> "GrpcServer | None":
        if self._plane is None or self._options.grpc is None or self._options.side is not None:
            return None
        try:
            return await serve_grpc(
                self._plane,
                self._release,
                listen=self._options.grpc,
                limits=self._limits,
                authorize=None if self._consumers is None else self._consumers.admit_metadata,
                watchers=self._watchers(),
            )
        except OSError as error:
            raise InputError(f"{error}.", hint="choose another port with --grpc-port") from error

    async def _beat(self, connections: Connections | SideDoor) -> None:
        while True:
            self._counters.put(metrics.CONNECTIONS, connections.count)
            self._counters.put(metrics.WAITING, 0 if self._plane is None else self._plane.held)
            self._note()
            if self._consumers is not None:
                self._consumers.refresh()
            await asyncio.sleep(_BEAT_S)

    def _note(self) -> None:
        self._counters.beat()
        self._counters.put(metrics.LOG_DROPPED, self._log.dropped)

    def _count_feedback(self, count: int) -> None:
        self._counters.add(metrics.FEEDBACK, count)

    def _close(self) -> None:
        self.share(None)
        if self._plane is not None:
            self._plane.close()
        self._log.close()
        self._feedback.close()
        if self._telemetry is not None:
            self._telemetry.close()
        if self._access is not None:
            self._access.close()
        self._note()

    def _watchers(self) -> list[Watcher]:
        found: list[Watcher] = []
        if self._access is not None:
            found.append(self._access.write)
        if self._telemetry is not None:
            found.append(self._telemetry.watch)
        return found


def _access_log(options: WorkerOptions, ends: WorkerEnds) -> AccessLog | None:
    if options.access_log is None:
        return None
    path = None if options.access_log == "-" else Path(options.access_log)
    return AccessLog(path, descriptor=ends.access_fd, worker=options.slot, release=options.release or "")
