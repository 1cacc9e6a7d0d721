"""Who is compared: each server with its command, and the ways it is asked for the probability of a row."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one start of a server happens.

    Attributes:
        python: Interpreter of the server's environment.
        folder: A folder of its own; the project for ours.
        model: File of the model, for peers.
        port: Where it is to listen.
    """

    python: Path
    folder: Path
    model: Path
    port: int


@dataclass(frozen=True, slots=True)
class Route:
    """One way to ask a server: what the table calls it, where, and the form of the body (see `samples.body`)."""

    name: str
    path: str
    form: str


Command = Callable[[Place], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server with one model.

    Attributes:
        name: Unique, as in the samples that are written.
        model: "linear" or "trees".
        environment: Which environment runs it; "" is the one of the benchmark.
        routes: The ways it is asked.
        kind: "ours", "batched" and "unbatched" peers, or the "ceiling", which has no model.
        workers: Processes that answer.
    """

    name: str
    model: str
    environment: str
    command: Command
    routes: tuple[Route, ...]
    kind: str = "unbatched"
    workers: int = 1


def _script(name: str, *more: str) -> Command:
    def command(place: Place) -> list[str]:
        words = {"FOLDER": str(place.folder / "served"), "PORT": str(place.port)}
        return [str(place.python), str(_PEERS / name), *(words.get(word, word) for word in more)]

    return command


def _bento(place: Place) -> list[str]:
    program = place.python.parent / "bentoml"
    service = "benchmarks.serving.peers.bento_service:Score"
    return [str(program), "serve", service, "--port", str(place.port), "--working-dir", str(_PEERS.parents[2])]


def _penstock(workers: int) -> Command:
    def command(place: Place) -> list[str]:
        program = [str(place.python), "-m", "penstock", "serve", place.folder.name]
        return [*program, "--port", str(place.port), "--workers", str(workers)]

    return command


def peers(model: str) -> tuple[Server, ...]:
    """Return the peers with one model."""
    rows = Route("", "/", "rows")
    oip = "oip-proba" if model == "linear" else "oip"
    invocations = "/invocations"

    def peer(name: str, environment: str, command: Command, *routes: Route, **more: str) -> Server:
        return Server(
            name=name,
            model=model,
            environment=environment,
            command=command,
            routes=routes,
            kind=more.get("kind", "unbatched"),
        )

    infer = Route("", "/v2/models/score/infer", oip)
    return (
        peer(
            "MLflow, frame",
            "mlflow",
            _script("mlflow_model.py", "FOLDER", "PORT", "frame"),
            Route("", invocations, "frame"),
        ),
        peer(
            "MLflow, array",
            "mlflow",
            _script("mlflow_model.py", "FOLDER", "PORT", "array"),
            Route("", invocations, "inputs"),
        ),
        peer("Ray Serve", "ray", _script("ray_deployment.py", "PORT"), rows),
        peer("BentoML", "bentoml", _bento, Route("", "/score", "rows")),
        peer("LitServe", "litserve", _script("litserve_api.py", "PORT"), Route("", "/predict", "rows")),
        peer("MLServer, parallel", "mlserver", _script("mlserver_folder.py", "FOLDER", "PORT", "1"), infer),
        peer("MLServer, in process", "mlserver", _script("mlserver_folder.py", "FOLDER", "PORT", "0"), infer),
        peer(
            "KServe",
            "kserve",
            _script("kserve_model.py", "--http_port", "PORT", "--enable_grpc", "false"),
            Route("v1", "/v1/models/score:predict", "instances"),
            Route("v2", "/v2/models/score/infer", "oip"),
            Route("v2 binary", "/v2/models/score/infer", "oip-binary"),
        ),
        peer("mosec", "mosec", _script("mosec_one.py", "--port", "PORT"), Route("", "/inference", "rows")),
        peer(
            "mosec, batched",
            "mosec",
            _script("mosec_batched.py", "--port", "PORT"),
            Route("", "/inference", "rows"),
            kind="batched",
        ),
    )


def ceiling() -> Server:
    """Return bare uvicorn with a constant answer."""
    return Server(
        name="constant answer, bare uvicorn",
        model="linear",
        environment="",
        command=lambda place: [sys.executable, str(_PEERS / "constant.py"), str(place.port)],
        routes=(Route("", "/linear/score", "rows"),),
        kind="ceiling",
    )


def alone(model: str) -> Server:
    """Return a Python that holds a model and serves nobody: what a worker's memory is compared with."""
    return Server(
        name=f"{model} model alone", model=model, environment="", command=lambda _: [], routes=(), kind="alone"
    )


def ours(model: str, *, compiled: bool) -> Server:
    """Return Penstock with one model; `compiled` lets the release use faster equivalents of it."""
    return _ours(f"Penstock{'' if compiled else ', uncompiled'}", model, workers=1)


def ours_on_both_cores(model: str, workers: int) -> Server:
    """Return Penstock with some workers, for what a second one adds.

    The model answers itself, uncompiled: where an answer costs little, the generator needs half of the two cores.
    """
    name = f"Penstock on both cores, uncompiled, {workers} worker{'s' if workers > 1 else ''}"
    return _ours(name, model, workers=workers)


def _ours(name: str, model: str, *, workers: int) -> Server:
    routes = (
        Route("typed rows", f"/{model}/score", "rows"),
        Route("OIP", "/v2/models/score/infer", "oip"),
        Route("typed fields", f"/{model}/score_one", "values"),
        Route("invocations", "/invocations", "inputs"),
        Route("OIP binary", "/v2/models/score/infer", "oip-binary"),
        Route("Arrow", f"/{model}/score", "arrow"),
    )
    return Server(
        name=name,
        model=model,
        environment="penstock",
        command=_penstock(workers),
        routes=routes,
        kind="ours",
        workers=workers,
    )
