"""Arrow IPC in and out: a function's typed route takes a table, and answers one to a caller who accepts it.

The Arrow library is imported with the first table: it takes 34 MB, which a worker that is asked in JSON has no use for.
"""

import importlib
import time
import types
from collections.abc import Mapping

import msgspec

from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Respond, Route, refusal
from penstock.serving.plane.plane import Plane
from penstock.serving.plane.questions import Answered, Question
from penstock.serving.program.load import ServeFunction
from penstock.serving.protocols.asking import asking, caller_of, id_headers, trouble_reply
from penstock.serving.protocols.rowwise import ask_frame
from penstock.serving.protocols.typed import TypedWire
from penstock.serving.refusals import RequestError

STREAM = b"application/vnd.apache.arrow.stream"
FILE = b"application/vnd.apache.arrow.file"
_KINDS = (STREAM, FILE)
_LIMITS = Limits()
_ID, _RELEASE, _FALLBACK = "penstock.prediction_id", "penstock.release", "penstock.fallback"


class ArrowWire:
    """Reads tables where the body is one, and writes tables where the caller accepts one; the rest is typed JSON.

    Args:
        release: Reference of the release, "movies@3".
        limits: Bounds on rows and on what a body may become.
    """

    def __init__(self, release: str, limits: Limits = _LIMITS) -> None:
        self._typed = TypedWire(release)
        self._limits = limits

    def read(self, request: Request, function: ServeFunction) -> Question:
        """Return what the request asks: all rows of a function of rows, or one question per row.

        Raises:
            RequestError: 400 when the body is damaged, 413 when it is or becomes too large, 422 when a column does not
                fit the function.
        """
        if _kind(request) not in _KINDS:
            question = self._typed.read(request, function)
            return msgspec.structs.replace(question, protocol="arrow")
        started = time.perf_counter_ns()
        bodies = _arrow_bodies()
        asked = ask_frame(function.fields, bodies.read_table(request.body, self._limits), {}, self._limits)
        return Question(
            function=function,
            fields=asked.fields,
            count=asked.count,
            body=bodies.stream_of(request.body),
            kind="arrow",
            protocol="arrow",
            caller=caller_of(request),
            parse_ns=time.perf_counter_ns() - started,
        )

    def write(self, answered: Answered, function: ServeFunction, request: Request) -> Reply:
        """Return the answers as a table, or as JSON to a caller who accepts no table."""
        if answered.trouble is not None:
            return trouble_reply(answered)
        kind = accepted(request)
        if kind is None or answered.values is None:
            return self._typed.write(answered, function, request)
        about = {_ID: answered.prediction_id, _RELEASE: answered.release, _FALLBACK: str(answered.fallback).lower()}
        body = _arrow_bodies().write_table(answered.values.frame(), about, is_file=kind == FILE)
        return Reply(200, body, kind=kind, headers=id_headers(answered))

    def refuse(self, error: RequestError) -> Reply:
        """Return the refusal in the house's shape, as JSON."""
        return refusal(error)


def routes(plane: Plane, release: str, typed: Mapping[str, Route], *, limits: Limits = _LIMITS) -> dict[str, Route]:
    """Return the typed routes, taking and giving tables too.

    Args:
        plane: What answers.
        release: Its reference, "movies@3".
        typed: Routes of the typed protocol, which keep every request that is about JSON alone.
        limits: Bounds on rows and on what a body may become.
    """
    wire = ArrowWire(release, limits)
    found = {}
    for name, function in plane.program.functions.items():
        path = f"/{plane.program.pipeline}/{name}"
        found[path] = _both(typed[path], wire, plane, function)
    return found


def accepted(request: Request) -> bytes | None:
    """Return the kind of table that the caller accepts; None for JSON."""
    words = request.headers.get(b"accept", b"").lower().split(b",")
    kinds = {word.partition(b";")[0].strip() for word in words}
    return next((kind for kind in _KINDS if kind in kinds), None)


def _both(route: Route, wire: ArrowWire, plane: Plane, function: ServeFunction) -> Route:
    ask_json, ask_table = route.handle, asking(plane, wire, function)

    def handle(request: Request, respond: Respond) -> None:
        headers = request.headers
        # Looked at in this order, the common request is known at once.
        if b"arrow" in headers.get(b"content-type", b"").lower() or b"arrow" in headers.get(b"accept", b"").lower():
            ask_table(request, respond)
        else:
            ask_json(request, respond)

    kinds = (*route.kinds, *(kind.decode() for kind in _KINDS))
    return msgspec.structs.replace(route, handle=handle, kinds=kinds)


def _kind(request: Request) -> bytes:
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _arrow_bodies() -> types.ModuleType:
    return importlib.import_module("penstock.serving.protocols.arrow_bodies")
