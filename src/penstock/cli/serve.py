"""`penstock serve` and `penstock predict`: answers from a release, over HTTP or one by itself."""

import shlex
import sys
from typing import Annotated

import msgspec
import structlog
import typer

from penstock.cli.options import HERE, AsJson, Project
from penstock.core.errors import InputError
from penstock.project import serving
from penstock.project.serving import Address, Answered
from penstock.project.workspace import Workspace, open_workspace

ReleaseName = Annotated[
    str | None,
    typer.Argument(
        metavar="[PIPELINE]", help="Name, as movies, or one release, as movies@3; needless where there is only one."
    ),
]


def serve(
    pipeline: ReleaseName = None,
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Loopback address to listen on.")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that answer.")] = 1,
    as_json: AsJson = False,
    project: Project = HERE,
) -> None:
    """Answer requests from the live release over HTTP, until Ctrl-C.

    A newer release is taken up without dropping a request. `movies@3` stays with that release.

    Example:
        penstock serve movies --port 8000 --workers 2
    """
    log_to_stderr()
    with open_workspace(project) as workspace:

        def tell(url: str) -> None:
            _tell_ready(pipeline, url, workspace, as_json=as_json)

        serving.serve_pipeline(pipeline, workspace, Address(host=host, port=port, workers=workers), on_ready=tell)
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


def log_to_stderr() -> None:
    """Send what the server says about itself to standard error, so that standard output holds what was asked for."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))


def _source(found: Answered) -> str:
    by = " by its fallback" if found.fallback else ""
    stored = f"stored as {found.prediction_id}" if found.kept else "not stored: the disk is full"
    return f"{found.release} {found.function}{by}, {stored}"


def _tell_ready(pipeline: str | None, url: str, workspace: Workspace, *, as_json: bool) -> None:
    release = serving.served_release(pipeline, workspace)
    routes = serving.routes_of(release, workspace)
    if as_json:
        said = {"url": url, "release": str(release.ref), "routes": routes}
        print(msgspec.json.encode(said).decode(), flush=True)
        return
    print(f"Serving {release.ref} on {url}  (Ctrl-C stops)")
    for route in routes:
        print(f"\n  POST {route.path}  {route.doc}".rstrip())
        body = shlex.quote(msgspec.json.encode(route.fields).decode())
        print(f"    curl -s {url}{route.path} -H 'content-type: application/json' -d {body}")
    print(f"\n  {url}/docs      every field of every request")
    print(f"  {url}/readyz    whether it answers, and with which release", flush=True)
