"""`POST /feedback`: what callers say about answers they were given, one by itself or many at once."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from penstock.core.errors import InputError
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Respond, Route, refusal
from penstock.serving.predictions.feedback import FeedbackLog
from penstock.serving.predictions.truth import Said, Truth, truth_of
from penstock.serving.program.hazards import refuse_deep, refuse_hazards
from penstock.serving.refusals import RequestError

PATH = "/feedback"
_MOST_ITEMS = 10_000
_HINT = 'send {"prediction_id": "p018f312b4c00...", "value": 1}, or a list of such objects'


def routes(log: FeedbackLog, *, limits: Limits, count: Callable[[int], None]) -> dict[str, Route]:
    """Return the route for feedback.

    Args:
        log: Where it goes.
        limits: Bounds on a body.
        count: Told how many pieces were taken in, for the counters.
    """

    def handle(request: Request, respond: Respond) -> None:
        refuse_deep(request.body, limits.depth)
        _take(_decode(request.body), log, respond, count)

    operation = _operation()
    kinds = ("application/json",)
    route = Route(methods=frozenset({"POST"}), permission="feedback", handle=handle, kinds=kinds, operation=operation)
    return {PATH: route}


def _take(given: Any, log: FeedbackLog, respond: Respond, count: Callable[[int], None]) -> None:
    items = given if isinstance(given, list) else [given]
    received_at = log.clock.now()
    read = [_read(item, received_at) for item in items]
    truths = [found for found in read if isinstance(found, Truth)]
    if not isinstance(given, list) and isinstance(read[0], RequestError):
        raise read[0]
    loop = asyncio.get_running_loop()

    def settled(is_kept: bool) -> None:  # noqa: FBT001 - what the log calls
        loop.call_soon_threadsafe(tell, is_kept)

    def tell(is_kept: bool) -> None:  # noqa: FBT001 - as above
        if is_kept:
            count(len(truths))
        respond(_reply(read, is_list=isinstance(given, list)) if is_kept else _not_now())

    if not truths:
        respond(_reply(read, is_list=True))
    elif not log.submit(truths, settled):
        respond(_not_now())


def _decode(body: bytes) -> Any:
    try:
        given = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("The body is not valid JSON.", status=400, reason="malformed_json", hint=_HINT) from error
    refuse_hazards(body)
    if not isinstance(given, list | dict) or not given:
        raise RequestError("The body holds no feedback.", status=422, reason="invalid_field", hint=_HINT)
    if len(given) > _MOST_ITEMS:
        raise RequestError(
            f"The body holds {len(given)} pieces of feedback.",
            status=413,
            reason="too_large",
            hint=f"send at most {_MOST_ITEMS} at once",
        )
    return given


def _read(item: Any, received_at: Any) -> Truth | RequestError:
    try:
        return truth_of(msgspec.convert(item, Said), received_at)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$.")
        return RequestError(f"{what}.", status=422, reason="invalid_field", field=path.rstrip("`")[:200], hint=_HINT)
    except InputError as error:
        return RequestError(error.message, status=422, reason="invalid_field", hint=error.hint)


def _reply(read: list[Truth | RequestError], *, is_list: bool) -> Reply:
    results = [_result(found) for found in read]
    accepted = sum(isinstance(found, Truth) for found in read)
    if not is_list:
        return Reply(200, msgspec.json.encode(results[0]))
    body = {"accepted": accepted, "refused": len(read) - accepted, "results": results}
    # Some of it was taken in, so it is no error; a caller that sent only nonsense must notice.
    return Reply(200 if accepted else 422, msgspec.json.encode(body))


def _result(found: Truth | RequestError) -> Mapping[str, object]:
    if isinstance(found, Truth):
        return {"status": "accepted", "prediction_id": found.prediction_id, "name": found.name}
    error = {"code": found.reason, "message": found.message, "field": found.field or None, "hint": found.hint or None}
    return {"status": "refused", "error": error}


def _not_now() -> Reply:
    error = RequestError(
        "Feedback cannot be written now; none of it was taken in.",
        status=503,
        reason="not_kept",
        hint="send it again later",
    )
    return msgspec.structs.replace(refusal(error), headers=((b"retry-after", b"5"),))


def _operation() -> dict[str, Any]:
    one = {
        "type": "object",
        "required": ["prediction_id", "value"],
        "additionalProperties": False,
        "properties": {
            "prediction_id": {"type": "string", "pattern": "^p[0-9a-f]{31}(-[0-9]{1,6})?$"},
            "value": {"description": "A number, true, false, text or an object."},
            "name": {"type": "string", "default": "feedback", "pattern": "^[a-z0-9][a-z0-9._-]{0,127}$"},
            "at": {"type": ["string", "null"], "format": "date-time"},
        },
    }
    schema = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": _MOST_ITEMS}]}
    return {
        "summary": "Say what became of an answer.",
        "description": "Sent again it counts once; sent later with another value it corrects what was said before.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {"description": "Taken in, and on the disk; of a list, each item says whether it was."},
            "422": {"description": "Not feedback; nothing was taken in."},
            "503": {"description": "The disk is full; nothing was taken in."},
        },
    }
