"""Answers with a release: a server that follows the live release, or one request by itself."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.core.errors import ArtifactError, InputError, NotFoundError, StepError
from penstock.core.records import Record
from penstock.core.refs import ReleaseRef
from penstock.pipeline.graph import Node
from penstock.project.consumers import admission_of, keep_keys
from penstock.project.moving import find_release
from penstock.project.rollout.beside import beside_of, take_back_unfit
from penstock.project.rollout.guardian import MODULE as GUARDIAN
from penstock.project.rollout.guardian import GuardianOptions
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.manifest import Manifest
from penstock.serving.http.requests import ANY_NAME, LOOPBACK_NAMES
from penstock.serving.processes.supervisor import LiveRelease, ServeOptions, serve
from penstock.store.ledger import consumers, releases


@dataclass(frozen=True, slots=True)
class Address:
    """Where to serve, and by how many processes.

    Attributes:
        port: 0 takes any free one.
        grpc_port: 0 takes any free one, None is for no gRPC.
        workers: Processes that answer.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """What a server tells about itself, and to whom.

    Attributes:
        access_log: File for a line of JSON per request, "-" for standard output; None for none.
        otel: URL of an OpenTelemetry collector; None for none.
        is_terminal: People read its events.
        on_stage: Called with each thing that it does while it loads, in words.
        on_ready: Called once with its addresses when requests are answered.
    """

    access_log: str | None = None
    otel: str | None = None
    is_terminal: bool = False
    on_stage: Callable[[str], None] | None = None
    on_ready: Callable[[str, str | None], None] | None = None


class Route(Record, frozen=True, kw_only=True):
    """A serve function as callers see it.

    Attributes:
        path: "/movies/recommend".
        fields: A request that has the right fields: one that was asked when the release was made, or made up.
        doc: First line of its docstring.
    """

    path: str
    function: str
    fields: dict[str, Any]
    doc: str = ""


class Answered(Record, frozen=True, kw_only=True):
    """An answer to one request.

    Attributes:
        answer: Plain JSON.
        fallback: The fallback gave it.
        kept: Whether the prediction is stored, so that the truth can be joined to it.
    """

    release: str
    function: str
    prediction_id: str
    answer: Any
    fallback: bool
    kept: bool


def served_release(target: str | None, workspace: Workspace) -> releases.Release:
    """Return the release meant: "movies@3", "movies" for its live one, or the only live one of the project.

    Raises:
        NotFoundError: There is no such release, or none at all yet.
        InputError: Several pipelines have one, and none is named.
    """
    if target is not None:
        return find_release(target, workspace)
    with workspace.ledger.read() as conn:
        names = sorted({release.pipeline for release in releases.of_pipeline(conn)})
    # Of several pipelines, the ones whose file the engineer has named are the ones that are kept.
    main = [name for name in names if workspace.settings.policy(name).file is not None]
    wanted = main if len(main) == 1 else names
    if not wanted:
        raise NotFoundError(
            f"Nothing to serve: no pipeline in {str(workspace.settings.root)!r} has a release yet.",
            hint="make one: penstock run",
        )
    if len(wanted) > 1:
        raise InputError(f"{len(wanted)} pipelines have a release.", hint=f"say which: {', '.join(wanted)}")
    return find_release(wanted[0], workspace)


def serve_options(
    target: str | None, workspace: Workspace, address: Address, telling: Telling | None = None
) -> ServeOptions:
    """Return how to serve a pipeline; each newer release is taken up, unless one was named as "movies@3".

    Raises:
        NotFoundError: There is no such release, or none at all yet.
        InputError: Several pipelines have one, and none is named.
    """
    telling = telling or Telling()
    found = served_release(target, workspace)
    is_pinned = target is not None and "@" in target

    def current() -> LiveRelease | None:
        with workspace.ledger.read() as conn:
            live = found if is_pinned else releases.live(conn, found.pipeline)
            known = consumers.active(conn, found.pipeline)
        keep_keys(workspace, found.pipeline, known)
        return None if live is None else _live(live)

    guardian = GuardianOptions(
        root=str(workspace.settings.root),
        pipeline=found.pipeline,
        parent=os.getpid(),
        is_terminal=telling.is_terminal,
    )
    return ServeOptions(
        pipeline=found.pipeline,
        home=workspace.home,
        current_release=current,
        beside=(lambda: None) if is_pinned else (lambda: beside_of(found.pipeline, workspace)),
        on_unfit=lambda ref, why: take_back_unfit(ref, why, workspace),
        companions=() if is_pinned else ((GUARDIAN, msgspec.json.encode(guardian).decode()),),
        host=address.host,
        port=address.port,
        grpc_port=address.grpc_port,
        workers=address.workers,
        policy=workspace.settings.policy(found.pipeline).serve.released,
        explore=workspace.settings.policy(found.pipeline).explore,
        admission=admission_of(workspace, found.pipeline, address.workers),
        names=() if address.host in LOOPBACK_NAMES else (ANY_NAME,),
        access_log=telling.access_log,
        otel=telling.otel,
        is_terminal=telling.is_terminal,
        on_stage=telling.on_stage,
        on_ready=telling.on_ready,
    )


def serve_pipeline(target: str | None, workspace: Workspace, address: Address, telling: Telling | None = None) -> None:
    """Serve a pipeline until SIGTERM or Ctrl-C, then answer what is under way and return.

    Args:
        target: "movies", "movies@3" for one release whatever comes after it, or None for the only pipeline.
        workspace: The project.
        address: Where.
        telling: What the server tells about itself.

    Raises:
        NotFoundError: There is no such release, or none at all yet.
        InputError: The address cannot be used, or several pipelines may be meant.
        PenstockError: The release cannot be loaded.
    """
    serve(serve_options(target, workspace, address, telling))


def routes_of(release: releases.Release, workspace: Workspace) -> list[Route]:
    """Return the serve functions of a release, each with a request to try."""
    manifest = read_manifest(release.manifest_digest, workspace)
    return [
        Route(
            path=f"/{release.pipeline}/{node.name}",
            function=node.name,
            fields=_example(node, manifest),
            doc=node.doc.strip().partition("\n")[0],
        )
        for node in manifest.graph.nodes
        if node.role == "serve"
    ]


def predict(target: str | None, request: bytes, workspace: Workspace, *, function: str | None = None) -> Answered:
    """Answer one request with a release, in a process of its own; the prediction is stored like a server's.

    Args:
        target: "movies", "movies@3", or None for the only pipeline.
        request: The fields as JSON.
        workspace: The project.
        function: The serve function; may be left out where there is only one.

    Raises:
        NotFoundError: There is no such release or function.
        InputError: The request does not fit the fields, or it is not clear what is meant.
        StepError: The function failed, with the user's own frames.
    """
    from penstock.project.questions import ask_release  # noqa: PLC0415 -- loads frames, which a server needs not
    from penstock.serving.processes.ask import Ask  # noqa: PLC0415 -- as above

    release = served_release(target, workspace)
    name = _one_function(release, workspace, function)
    [given] = ask_release(release, [Ask(function=name, body=request)], workspace)
    if given.error is not None:
        code, message, hint = given.error
        raise _raised(code, message, _fields_hint(release, workspace, name) if code == "request" else hint)
    return Answered(
        release=str(release.ref),
        function=name,
        prediction_id=given.prediction_id,
        answer=msgspec.json.decode(given.answer),
        fallback=given.fallback,
        kept=given.kept,
    )


def _live(release: releases.Release) -> LiveRelease:
    return LiveRelease(ref=ReleaseRef(release.pipeline, release.version), manifest=release.manifest_digest)


def _one_function(release: releases.Release, workspace: Workspace, wanted: str | None) -> str:
    if wanted is not None:
        return wanted
    names = [route.function for route in routes_of(release, workspace)]
    if not names:
        raise NotFoundError(f"{release.ref} has no serve function.", hint="write one with @pipeline.serve, then run")
    if len(names) > 1:
        raise InputError(f"{release.ref} has {len(names)} serve functions.", hint=f"say --function {'|'.join(names)}")
    return names[0]


def _fields_hint(release: releases.Release, workspace: Workspace, function: str) -> str:
    example = next(route.fields for route in routes_of(release, workspace) if route.function == function)
    return f"a request looks like {msgspec.json.encode(example).decode()}"


def _example(node: Node, manifest: Manifest) -> dict[str, Any]:
    asked = manifest.examples.get(node.name)
    if asked:
        return asked[0].fields
    made_up = {"int": 1, "float": 1.0, "str": "text", "bool": True}
    return {param.name: made_up.get(param.type, []) for param in node.params if param.required}


def _raised(code: str, message: str, hint: str) -> InputError | NotFoundError | ArtifactError | StepError:
    match code:
        case "not_found":
            return NotFoundError(message, hint=hint)
        case "request" | "input":
            return InputError(message, hint=hint)
        case "artifact" | "damaged" | "unsupported":
            return ArtifactError(message, hint=hint)
        case _:
            return StepError(message, hint=hint)
