"""What a load test asks: what callers asked lately, else what the release was asked when it was made, else made up."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import polars as pl

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.pipeline.graph import Node, rows_form
from penstock.project.serving import routes_of
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.manifest import Manifest
from penstock.serving.predictions.reading import predictions_frame
from penstock.serving.predictions.records import LOAD_CONSUMER
from penstock.store.ledger.releases import Release

Source = Literal["recorded", "examples", "made up"]

_MOST = 2000
# Recorded requests fewer than this say little about what callers ask; then the examples are asked.
_FEWEST = 20


class Asked(Record, frozen=True, kw_only=True):
    """One request.

    Attributes:
        fields: Its body as JSON.
    """

    function: str
    fields: bytes


class Requests(Record, frozen=True, kw_only=True):
    """The requests of a load test.

    Attributes:
        source: Where they come from.
    """

    pipeline: str
    asked: tuple[Asked, ...]
    source: Source

    def encoded(self, host: str, port: int) -> tuple[bytes, ...]:
        """Return them as they are sent to a server."""
        return tuple(http_request(self.pipeline, one.function, one.fields, f"{host}:{port}") for one in self.asked)


def http_request(pipeline: str, function: str, body: bytes, host: str) -> bytes:
    """Return a whole HTTP request to a serve function, as a load test asks it."""
    head = (
        f"POST /{pipeline}/{function} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
        f"x-penstock-consumer: {LOAD_CONSUMER}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def requests_of(release: Release, workspace: Workspace, *, function: str | None = None) -> Requests:
    """Return what to ask a release.

    Args:
        release: Which.
        workspace: The project.
        function: Only this serve function; all of them, as often as callers asked them, when None.

    Raises:
        NotFoundError: It has no such function, or none at all.
    """
    manifest = read_manifest(release.manifest_digest, workspace)
    serves = {node.name: node for node in manifest.graph.nodes if node.role == "serve"}
    if function is not None and function not in serves:
        known = f"there are {', '.join(serves)}" if serves else "write one with @pipeline.serve, then run"
        raise NotFoundError(f"{release.ref} has no serve function {function!r}.", hint=known)
    if not serves:
        raise NotFoundError(f"{release.ref} has no serve function.", hint="write one with @pipeline.serve, then run")
    wanted = serves if function is None else {function: serves[function]}
    recorded = _recorded(release.pipeline, wanted, workspace)
    if len(recorded) >= _FEWEST:
        return Requests(pipeline=release.pipeline, asked=tuple(recorded), source="recorded")
    asked = _examples(manifest, wanted)
    if asked:
        return Requests(pipeline=release.pipeline, asked=tuple(asked), source="examples")
    made_up = [
        Asked(function=route.function, fields=msgspec.json.encode(route.fields))
        for route in routes_of(release, workspace)
        if route.function in wanted
    ]
    return Requests(pipeline=release.pipeline, asked=tuple(made_up), source="made up")


def refuse_wrong(requests: Requests, statuses: Sequence[int]) -> None:
    """Raise when most requests of a first look were refused: then a load test measures refusals.

    Raises:
        InputError: More than half were.
    """
    refused = [status for status in statuses if 400 <= status < 500]
    if len(refused) <= len(statuses) / 2:
        return
    raise InputError(
        f"{len(refused)} of {len(statuses)} {requests.source} requests are refused with {refused[0]}.",
        hint="give serve(examples=[...]) requests that suit the function, and run",
    )


def _recorded(pipeline: str, wanted: dict[str, Node], workspace: Workspace) -> list[Asked]:
    alone = [name for name, node in wanted.items() if _rows_of(node) is None or len(node.params) == 1]
    rows = (
        predictions_frame(workspace.home, pipeline)
        .filter(pl.col("serve").is_in(alone), pl.col("redacted").fill_null("") == "", pl.col("fields") != "null")
        .select("at", "serve", "fields")
        .top_k(_MOST, by="at")
        .collect(engine="streaming")
    )
    return [
        Asked(function=serve, fields=_body(wanted[serve], fields.encode()))
        for serve, fields in rows.sort("at").select("serve", "fields").iter_rows()
    ]


def _body(node: Node, fields: bytes) -> bytes:
    """Return the request of one recorded row; a function that takes only rows is asked for one."""
    return fields if _rows_of(node) is None else b"[" + fields + b"]"


def _examples(manifest: Manifest, wanted: dict[str, Node]) -> list[Asked]:
    found: list[Asked] = []
    for name, node in wanted.items():
        asked: list[dict[str, Any]] = [example.fields for example in manifest.examples.get(name, ())]
        given = asked or node.options.get("examples") or ()
        found += [Asked(function=name, fields=msgspec.json.encode(fields)) for fields in given]
    return found


def _rows_of(node: Node) -> str | None:
    return next((param.name for param in node.params if rows_form(param.type) is not None), None)
