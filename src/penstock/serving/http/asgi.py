"""The app behind another server that speaks ASGI: its requests in, our replies out; the bounds are the same.

Our own connections are in `connections`; this is for where an engine owns the sockets.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from msgspec.structs import replace
from starlette.responses import Response

from penstock.serving.http.app import App
from penstock.serving.http.bodies import inflate, too_large
from penstock.serving.http.heads import CHUNKED, join_header, malformed
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request
from penstock.serving.refusals import RequestError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_WITHOUT_BODY = frozenset({204, 304})


async def answer(app: App, limits: Limits, scope: Scope, receive: Receive) -> Reply:
    """Answer one request of ASGI's "http" kind; never raises for what a caller sent.

    Args:
        app: What answers, on this event loop.
        limits: Bounds on the body.
        scope: The head, as ASGI tells it.
        receive: Gives the body, piece by piece.
    """
    request = Request(scope["method"], scope["path"], {}, b"", scope.get("query_string", b""))
    try:
        request = replace(request, headers=_headers(scope["headers"]))
        admitted = app.admit(request, _length(request.headers))
        if isinstance(admitted, Reply):
            return admitted
        request = replace(request, body=await _body(request, limits, receive))
    except RequestError as error:
        return app.refuse(error, request)
    done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    app.answer(admitted, request, lambda reply: None if done.done() else done.set_result(reply))
    return await done


def response_of(reply: Reply, *, is_head: bool) -> Response:
    """Return a reply as Starlette sends it; to HEAD without its body."""
    response = Response(status_code=reply.status)
    response.raw_headers = [
        (b"x-content-type-options", b"nosniff"),
        *((name, value) for name, value in reply.headers),
    ]
    if reply.status not in _WITHOUT_BODY:
        response.body = b"" if is_head else reply.body
        response.raw_headers += [(b"content-type", reply.kind), (b"content-length", b"%d" % len(reply.body))]
    return response


def _headers(sent: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in sent:
        if name in headers:
            join_header(headers, name, value)
        else:
            headers[name] = value
    return headers


def _length(headers: dict[bytes, bytes]) -> int:
    if b"transfer-encoding" in headers:
        return CHUNKED
    length = headers.get(b"content-length", b"0")
    if not length.isdigit():
        raise malformed("The content-length is no number.")
    return int(length)


async def _body(request: Request, limits: Limits, receive: Receive) -> bytes:
    """Read a body piece by piece: one that never ends is refused before it fills the memory."""
    body, is_more = bytearray(), True
    while is_more:
        piece = await receive()
        if piece["type"] == "http.disconnect":
            raise malformed("The caller left before the whole body was sent.")
        body += piece.get("body", b"")
        if len(body) > limits.body_bytes:
            raise too_large(limits)
        is_more = piece.get("more_body", False)
    return inflate(bytes(body), request.headers.get(b"content-encoding", b"identity").lower(), limits)
