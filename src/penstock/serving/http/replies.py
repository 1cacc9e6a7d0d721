"""HTTP replies as the raw messages an ASGI server sends."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from penstock.serving.messages import Header, Reply

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_NOSNIFF: Header = (b"x-content-type-options", b"nosniff")


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
