"""Typed JSON: the route of each serve function, `POST /movies/recommend`, with its fields as one object."""

import time

from penstock.serving.messages import Reply, Request, Route, refusal
from penstock.serving.plane.plane import Plane
from penstock.serving.plane.questions import Answered, Question
from penstock.serving.program.load import ServeFunction
from penstock.serving.protocols.asking import asking, caller_of, id_headers, trouble_reply
from penstock.serving.refusals import RequestError


class TypedWire:
    """Reads the fields of a function from JSON and writes its answer with the prediction id."""

    def __init__(self, release: str) -> None:
        middle = b'","release":"' + release.encode()
        self._answered = middle + b'","answer":'
        self._fallen_back = middle + b'","fallback":true,"answer":'

    def read(self, request: Request, function: ServeFunction) -> Question:
        """Return what the request asks.

        Raises:
            RequestError: 400 when the body is not JSON, 422 when a field is not what it must be.
        """
        started = time.perf_counter_ns()
        body = request.body
        known = function.fields
        fields = known.parse(body)
        return Question(
            function=function,
            fields=(fields,),
            count=1 if known.rows is None else len(getattr(fields, known.rows)),
            body=body,
            kind="json-rows" if known.is_batched and body.lstrip()[:1] == b"[" else "json",
            protocol="json",
            caller=caller_of(request),
            parse_ns=time.perf_counter_ns() - started,
        )

    def write(self, answered: Answered, function: ServeFunction, request: Request) -> Reply:
        """Return the answer with its prediction id."""
        del function, request
        if answered.trouble is not None:
            return trouble_reply(answered)
        middle = self._fallen_back if answered.fallback else self._answered
        body = b'{"prediction_id":"' + answered.prediction_id.encode() + middle + answered.json + b"}"
        return Reply(200, body, headers=id_headers(answered))

    def refuse(self, error: RequestError) -> Reply:
        """Return the refusal in the house's shape."""
        return refusal(error)


def routes(plane: Plane, release: str) -> dict[str, Route]:
    """Return the route of each serve function."""
    wire = TypedWire(release)
    program = plane.program
    return {
        f"/{program.pipeline}/{name}": Route(
            methods=frozenset({"POST"}),
            permission="predict",
            handle=asking(plane, wire, function),
            kinds=("application/json",),
        )
        for name, function in program.functions.items()
    }
