"""The serving side of a cluster: copies of the live release asked for from Ray Serve, and newer releases followed.

This process holds no model and answers nothing; copies go on without it. Extra: `ray`.
"""

import math
import signal
import socket
import threading
import time
from dataclasses import dataclass
from types import FrameType
from typing import Any

import httpx
import msgspec
import structlog

from penstock.core.errors import InputError, PenstockError, StepError
from penstock.core.settings import Replicas, serve_keys
from penstock.engine.ray import connect
from penstock.serving.http.keys import Keys
from penstock.serving.http.requests import LOOPBACK_NAMES
from penstock.serving.processes.addresses import check_place
from penstock.serving.processes.companions import CompactorOptions, Companion
from penstock.serving.processes.supervisor import LiveRelease, ServeOptions
from penstock.serving.ray.replica import Replica, ReplicaOrder

_COMPACTOR = "penstock.serving.processes.compactor"
_COMPACT_S = 10.0
_LOOK_S = 0.2
_HEALTH_S = 2.0
_MOST_LINES = 12
_ANSWER_S = 5.0
_DEPLOYMENT = "Replica"
_UNHEARD = (
    "Its copies run, but nothing answers here. Start the command on the head; where Ray Serve was running already, it "
    "keeps the port it had."
)
_events = structlog.get_logger("penstock.serving")


def serve_on_ray(options: ServeOptions, replicas: Replicas, address: str | None) -> None:
    """Serve on a cluster until SIGTERM or SIGINT, then answer what is under way and return.

    Args:
        options: What to serve and where; gRPC, access log and telemetry are not offered here.
        replicas: How many copies.
        address: Address of the cluster; None starts one on this machine and ends it again.

    Raises:
        InputError: Ray is not installed, no cluster answers, or the address cannot be used.
        StepError: The first release cannot be loaded.
    """
    check_place(options.host, serve_keys(), is_grpc=options.grpc_port is not None)
    port = _port(options)
    ray, is_ours = connect(max(1, math.ceil(replicas.max * replicas.cpus)), address)
    stop = threading.Event()

    def told(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, told) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        _Serving(options, replicas, port, is_local=address is None).run(stop)
    finally:
        if is_ours:
            ray.shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class _Standing:
    """How the copies of a pipeline stand."""

    state: str
    message: str


class _Serving:
    """One pipeline on a cluster that this process is connected to."""

    def __init__(self, options: ServeOptions, replicas: Replicas, port: int, *, is_local: bool) -> None:
        from ray import serve

        self._serve: Any = serve  # its types say less than its documentation
        self._options = options
        self._replicas = replicas
        self._port = port
        self._live: LiveRelease | None = None
        self._refused: LiveRelease | None = None
        self._waiting: str | None = None
        self._is_blind = self._is_told = False
        keeping = CompactorOptions(home=str(options.home), pipeline=options.pipeline, policy=options.policy)
        self._compactor = Companion(_COMPACTOR, msgspec.json.encode(keeping).decode())
        is_open = options.host not in LOOPBACK_NAMES
        serve.start(
            proxy_location="EveryNode" if is_open else "HeadOnly",
            http_options={
                "host": _host(options),
                "port": port,
                "request_timeout_s": options.limits.receive_s,
            },
            logging_config={"enable_access_log": False, "log_level": "WARNING"},
        )
        self._is_alone = is_local

    def run(self, stop: threading.Event) -> None:
        """Follow the live release until told to stop."""
        try:
            while not stop.is_set():
                wanted = self._look()
                if wanted is not None and wanted not in {self._live, self._refused}:
                    self._take_up(wanted, stop)
                if self._is_told:
                    self._compactor.keep()
                stop.wait(self._options.poll_s)
        finally:
            self._compactor.leave()
            if self._is_alone:
                self._serve.shutdown()
            else:
                self._serve.delete(self._options.pipeline)
            self._compactor.end(_COMPACT_S)
            _events.info("server_stopped", url=self._url)

    def _look(self) -> LiveRelease | None:
        """Return the release that is to answer; what answers goes on while nobody can say it."""
        try:
            wanted, beside = self._options.current_release(), self._options.beside()
        except PenstockError as error:
            if self._live is None:
                raise
            if not self._is_blind:
                _events.warning("release_look_up_failed", code=error.code, message=error.message)
            self._is_blind = True
            return None
        self._is_blind = False
        if beside is not None and beside.salt != self._waiting:
            _events.warning(
                "split_waits", variant=beside.variant, salt=beside.salt, reason="on Ray only the live release answers"
            )
        self._waiting = None if beside is None else beside.salt
        return wanted

    @property
    def _url(self) -> str:
        host = _host(self._options)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    def _take_up(self, release: LiveRelease, stop: threading.Event) -> None:
        self._say(f"loading {release.ref} on {self._replicas.min} of at most {self._replicas.max} copies")
        self._deploy(release)
        standing = self._settled(stop)
        if standing is None:
            return
        if standing.state == "RUNNING":
            self._live = release
            _events.info("release_live", release=str(release.ref), url=self._url)
            if not self._is_told and self._options.on_ready is not None:
                self._options.on_ready(self._url, None)
            self._is_told = True
            return
        if self._live is None:
            raise StepError(
                f"{release.ref} does not answer on Ray: {standing.message}",
                hint="see what it needs: penstock serve without --engine; every node needs the same packages and home",
            )
        _events.error("release_refused", release=str(release.ref), reason=standing.message)
        self._refused = release
        self._deploy(self._live)

    def _deploy(self, release: LiveRelease) -> None:
        replicas, options = self._replicas, self._options
        keys = Keys.of(serve_keys())
        order = ReplicaOrder(
            pipeline=options.pipeline,
            release=str(release.ref),
            manifest=release.manifest,
            home=str(options.home.absolute()),
            names=(*sorted(LOOPBACK_NAMES), *(name.lower() for name in options.names)),
            limits=options.limits,
            keys=() if keys is None else keys.digests,
            explore=options.explore,
            keep=options.policy,
        )
        granted: dict[str, Any] = {"num_cpus": replicas.cpus}
        if replicas.memory_bytes is not None:
            granted["memory"] = replicas.memory_bytes
        made = self._serve.deployment(
            Replica,
            name=_DEPLOYMENT,
            ray_actor_options=granted,
            max_ongoing_requests=max(1, math.ceil(2 * replicas.target_ongoing)),
            max_queued_requests=options.policy.queue,
            autoscaling_config={
                "min_replicas": replicas.min,
                "max_replicas": replicas.max,
                "initial_replicas": max(1, replicas.min),
                "target_ongoing_requests": replicas.target_ongoing,
            },
            graceful_shutdown_timeout_s=options.limits.drain_s,
            health_check_period_s=_HEALTH_S,
            health_check_timeout_s=options.limits.hang_s,
        )
        target = self._serve.RunTarget(made.bind(msgspec.json.encode(order)), name=options.pipeline, route_prefix="/")
        try:
            self._serve.run_many([target], wait_for_applications_running=False)
        except (self._serve.exceptions.RayServeException, ValueError) as error:
            said = str(error).strip().splitlines()[-1].rpartition("Exception: ")[2]
            raise InputError(
                f"Ray Serve does not take {release.ref}: {said}",
                hint="see what it serves already: serve status; one pipeline per cluster answers",
            ) from error

    def _settled(self, stop: threading.Event) -> _Standing | None:
        """Return how the copies stand once they answer or have failed; None when told to stop first."""
        until_s = time.monotonic() + self._options.limits.load_s
        while not stop.wait(_LOOK_S):
            standing = self._standing()
            if standing.state == "RUNNING" and not _is_answered(self._options, self._port):
                standing = _Standing("DEPLOYING", _UNHEARD)
            if standing.state not in {"DEPLOYING", "NOT_STARTED"}:
                return standing
            if time.monotonic() > until_s:
                return _Standing("LATE", f"not ready after {self._options.limits.load_s:.0f} s. {standing.message}")
        return None

    def _standing(self) -> _Standing:
        found = self._serve.status().applications.get(self._options.pipeline)
        if found is None:
            return _Standing("NOT_STARTED", "")
        said = [one.message for one in found.deployments.values()] or [found.message]
        # Of a traceback the end says what went wrong; lines that only point at a place above them say nothing here.
        lines = [line for line in "\n".join(said).splitlines() if line.strip(" ^~")]
        return _Standing(found.status, "\n".join(lines[-_MOST_LINES:]))

    def _say(self, stage: str) -> None:
        if self._options.on_stage is not None:
            self._options.on_stage(stage)


def _port(options: ServeOptions) -> int:
    """Return the port to ask Ray for, which takes no 0; nothing listens there but, perhaps, what Ray has started.

    Raises:
        InputError: It is taken.
    """
    host = _host(options)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, options.port))
        except OSError as error:
            if _is_answered(options, options.port):
                return options.port
            raise InputError(
                f"Port {options.port} of {host} cannot be used: {error.strerror}.", hint="choose another with --port"
            ) from error
        return int(found.getsockname()[1])


def _host(options: ServeOptions) -> str:
    return "127.0.0.1" if options.host == "localhost" else options.host


def _is_answered(options: ServeOptions, port: int) -> bool:
    """Return whether somebody here answers that a release of this pipeline is ready."""
    at = "[::1]" if ":" in options.host else "127.0.0.1"
    try:
        told = httpx.get(f"http://{at}:{port}/readyz", headers={"host": "localhost"}, timeout=_ANSWER_S)
        return str(told.json()["release"]).startswith(f"{options.pipeline}@")
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False
