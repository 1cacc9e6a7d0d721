"""A whole request and a whole reply, as protocols see them: no sockets, no parser."""

from collections.abc import Callable
from typing import Any, Literal

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
        variant: Why a worker of the live release handed the request on; no caller can say it.
    """

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes = b""
    query: bytes = b""
    variant: str = ""


class Reply(msgspec.Struct, frozen=True):
    """A whole reply."""

    status: int
    body: bytes
    kind: bytes = JSON
    headers: tuple[Header, ...] = ()


def refusal(error: RequestError) -> Reply:
    """Return the reply to a request that is refused."""
    body = {"code": error.reason, "message": error.message, "field": error.field or None, "hint": error.hint or None}
    return Reply(error.status, msgspec.json.encode({"error": body}))


Handler = Callable[[Request, Respond], None]
Permission = Literal["health", "read", "predict", "feedback"]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What answers at one path.

    Attributes:
        methods: In capitals; "GET" includes HEAD.
        permission: What a caller must be allowed to do here; "health" is everybody's.
        handle: Called with each whole request; responds exactly once, now or later, on the event loop.
        kinds: Content types its body may have, lower case without parameters; () takes no body, ("*",) any.
        operation: Its OpenAPI operation, or None to be left out of the document.
        refuse: Shapes a refusal for the callers of this protocol; None for the house's shape.
    """

    methods: frozenset[str]
    permission: Permission
    handle: Handler
    kinds: tuple[str, ...] = ()
    operation: dict[str, Any] | None = None
    refuse: Callable[[RequestError], Reply] | None = None
