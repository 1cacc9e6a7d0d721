"""HTTP replies as the raw messages an ASGI server sends."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from penstock.serving.refusals import RequestError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
_NOSNIFF: Header = (b"x-content-type-options", b"nosniff")


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


async def send_reply(send: Send, reply: Reply, *, closing: bool) -> None:
    """Send a reply; `closing` asks the caller to open a new connection for its next request."""
    headers = [
        (b"content-type", reply.kind),
        (b"content-length", str(len(reply.body)).encode()),
        _NOSNIFF,
        *reply.headers,
    ]
    if closing:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
