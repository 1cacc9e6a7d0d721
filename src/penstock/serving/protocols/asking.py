"""What every protocol over HTTP shares: a request read by a wire, asked of the plane, answered by the wire."""

import re
from collections.abc import Callable

import msgspec

from penstock.serving.messages import Handler, Header, Reply, Request, Respond
from penstock.serving.plane.plane import Plane
from penstock.serving.plane.questions import NOBODY, Answered, Caller
from penstock.serving.plane.wire import Wire
from penstock.serving.program.load import ServeFunction
from penstock.serving.refusals import RequestError

_CONSUMER_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DELAYED: Header = (b"x-penstock-prediction-log", b"delayed")


def asking(plane: Plane, wire: Wire, function: ServeFunction) -> Handler:
    """Return the handler that asks one function in one protocol; it raises RequestError for the app to tell."""

    def handle(request: Request, respond: Respond) -> None:
        question = wire.read(request, function)

        def tell(answered: Answered) -> None:
            respond(wire.write(answered, function, request))

        plane.answer(question, tell, request, respond)

    return handle


def caller_of(request: Request) -> Caller:
    """Return who asks, as the request's headers say.

    Raises:
        RequestError: 400 when the consumer's name is not a name.
    """
    headers = request.headers
    consumer, trace = headers.get(b"x-penstock-consumer"), headers.get(b"traceparent")
    if consumer is None and trace is None and not request.variant:
        return NOBODY
    if consumer is not None and not _CONSUMER_NAME.fullmatch(consumer):
        raise RequestError(
            "The header x-penstock-consumer is not a name.",
            status=400,
            reason="bad_consumer",
            hint="use up to 128 letters, digits, '.', '_' and '-'",
        )
    return Caller(consumer=(consumer or b"").decode(), traceparent=trace or b"", variant=request.variant)


def id_headers(answered: Answered) -> tuple[Header, ...]:
    """Return the headers that name the prediction, for protocols whose body has no place for it."""
    header = (b"x-penstock-prediction-id", answered.prediction_id.encode())
    return (header,) if answered.is_kept else (header, _DELAYED)


def trouble_reply(answered: Answered, body: Callable[[str, str, str], object] | None = None) -> Reply:
    """Return the reply to a question that got no answer.

    Args:
        answered: With its trouble.
        body: Makes the body from reason, message and prediction id; None for the house's shape.
    """
    trouble = answered.trouble
    if trouble is None:
        raise ValueError("there is no trouble to tell")
    shown = (body or _shape)(trouble.reason, trouble.message, answered.prediction_id)
    headers = id_headers(answered)
    if trouble.retry_after_s is not None:
        headers = (*headers, (b"retry-after", str(trouble.retry_after_s).encode()))
    return Reply(trouble.status, msgspec.json.encode(shown), headers=headers)


def _shape(reason: str, message: str, prediction_id: str) -> object:
    return {"error": {"code": reason, "message": message, "prediction_id": prediction_id}}
