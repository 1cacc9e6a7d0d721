"""A whole request and a whole reply, as protocols see them: no sockets, no parser."""

from collections.abc import Callable

import msgspec

from penstock.serving.refusals import RequestError

Header = tuple[bytes, bytes]
Respond = Callable[["Reply"], None]

JSON = b"application/json"


class Request(msgspec.Struct, frozen=True):
    """A request whose head and body have arrived and are within their bounds.

    Attributes:
        path: Decoded, without the query.
        query: As sent, without the question mark.
        headers: By lower-case name.
        body: Without content-encoding.
    """

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes = b""
    query: bytes = b""


class Reply(msgspec.Struct, frozen=True):
    """A whole reply."""

    status: int
    body: bytes
    kind: bytes = JSON
    headers: tuple[Header, ...] = ()


def refusal(error: RequestError) -> Reply:
    """Return the reply to a request that is refused."""
    body = {"code": error.reason, "message": error.message, "field": error.field or None, "hint": error.hint or None}
    # What is left of a refused body is not read, so the connection cannot carry another request.
    headers: tuple[Header, ...] = ((b"connection", b"close"),) if error.status in {408, 413, 431} else ()
    return Reply(error.status, msgspec.json.encode({"error": body}), headers=headers)
