"""`penstock serve` and `penstock predict`: answers from a release, over HTTP or one by itself."""

import enum
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from penstock.cli.options import HERE, AsJson, Project
from penstock.core.errors import InputError
from penstock.core.settings import serve_keys
from penstock.project import serving
from penstock.project.serving import Address, Answered, Telling
from penstock.project.workspace import Workspace, open_workspace
from penstock.serving.observe.events import log_events

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")

ReleaseName = Annotated[
    str | None,
    typer.Argument(
        metavar="[PIPELINE]", help="Name, as movies, or one release, as movies@3; needless where there is only one."
    ),
]


class Engine(enum.StrEnum):
    """What keeps the processes that answer."""

    LOCAL = "local"
    RAY = "ray"


def serve(
    pipeline: ReleaseName = None,
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond loopback only with PENSTOCK_SERVE_KEYS.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None, typer.Option(help="Host name under which callers ask, beside localhost; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that answer.")] = 1,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Answer by gRPC too, here; 0 takes any free port.")
    ] = None,
    access_log: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a line of JSON per request; - for standard output.")
    ] = None,
    otel: Annotated[
        str | None, typer.Option(metavar="URL", help="Send traces and metrics to an OpenTelemetry collector.")
    ] = None,
    engine: Annotated[Engine, typer.Option(help="Processes here, or copies on a Ray cluster.")] = Engine.LOCAL,
    as_json: AsJson = False,
    project: Project = HERE,
) -> None:
    """Answer requests from the live release over HTTP, until Ctrl-C.

    A newer release is taken up without dropping a request. `movies@3` stays with that release.

    Example:
        penstock serve movies --port 8000 --workers 2
        penstock serve movies --engine ray
    """
    is_terminal = sys.stderr.isatty()
    log_events(is_terminal=is_terminal)
    with open_workspace(project) as workspace:

        def tell(url: str, grpc: str | None) -> None:
            _tell_ready(pipeline, (url, grpc), workspace, as_json=as_json)

        telling = Telling(
            access_log=_absolute(access_log),
            otel=otel,
            is_terminal=is_terminal,
            on_stage=_tell_stage if is_terminal and not as_json else None,
            on_ready=tell,
        )
        address = Address(host=host, port=port, grpc_port=grpc_port, workers=workers, names=_host_names(name))
        if engine is Engine.RAY:
            serving.serve_pipeline_on_ray(pipeline, workspace, address, telling)
        else:
            serving.serve_pipeline(pipeline, workspace, address, telling)
    if not as_json:
        print("Stopped; what was under way was answered.")


def predict(
    pipeline: Annotated[
        str | None, typer.Argument(metavar="[PIPELINE]", help="Name, or one release, as movies@3.")
    ] = None,
    request: Annotated[
        str | None, typer.Argument(metavar="REQUEST", help="The fields as JSON; - reads standard input.")
    ] = None,
    *,
    function: Annotated[str | None, typer.Option(help="Serve function, where there are several.")] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> None:
    """Ask a release for one answer, without a server; the prediction is stored as a server stores it.

    Example:
        penstock predict movies '{"user_id": 7}'
        penstock predict '{"user_id": 7}'
    """
    target, text = (None, pipeline or "") if request is None else (pipeline, request)
    if target is None and not text.lstrip().startswith(("{", "[", "-")):
        message = f"There is no request after {text!r}." if text else "There is no request."
        raise InputError(message, hint="""give its fields as JSON, as in: penstock predict movies '{"user_id": 7}'""")
    body = sys.stdin.buffer.read() if text == "-" else text.encode()
    with open_workspace(project) as workspace:
        found = serving.predict(target, body, workspace, function=function)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    print(msgspec.json.format(msgspec.json.encode(found.answer), indent=2).decode())
    print(_source(found), file=sys.stderr)


def _source(found: Answered) -> str:
    by = " by its fallback" if found.fallback else ""
    stored = f"stored as {found.prediction_id}" if found.kept else "not stored: the disk is full"
    return f"{found.release} {found.function}{by}, {stored}"


def _host_names(given: list[str] | None) -> tuple[str, ...]:
    for name in given or ():
        if not _HOST_NAME.fullmatch(name):
            raise InputError(
                f"--name {name!r} is no host name.", hint="give it without scheme and port, as api.shop.example"
            )
    return tuple(given or ())


def _absolute(access_log: str | None) -> str | None:
    return access_log if access_log is None or access_log == "-" else str(Path(access_log).absolute())


def _tell_stage(stage: str) -> None:
    print(f"{stage[:1].upper()}{stage[1:]} ...", file=sys.stderr, flush=True)


def _tell_ready(
    pipeline: str | None, addresses: tuple[str, str | None], workspace: Workspace, *, as_json: bool
) -> None:
    url, grpc = addresses
    release = serving.served_release(pipeline, workspace)
    routes = serving.routes_of(release, workspace)
    if as_json:
        said = {"url": url, "grpc": grpc, "release": str(release.ref), "routes": routes}
        print(msgspec.json.encode(said).decode(), flush=True)
        return
    print(f"Serving {release.ref} on {url}  (Ctrl-C stops)")
    if grpc is not None:
        print(f"and by gRPC on {grpc}")
    key = " -H 'authorization: Bearer KEY'" if serve_keys() else ""
    for route in routes:
        print(f"\n  POST {route.path}  {route.doc}".rstrip())
        body = shlex.quote(msgspec.json.encode(route.fields).decode())
        print(f"    curl -s {url}{route.path} -H 'content-type: application/json'{key} -d {body}")
    print(f"\n  {url}/docs      every field of every request")
    print(f"  {url}/readyz    whether it answers, and with which release")
    print(f"  {url}/metrics   what it counts, for Prometheus", flush=True)
