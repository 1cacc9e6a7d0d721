"""The app behind another server: what a caller is told does not depend on who owns the sockets."""

import asyncio
import gzip
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from penstock.serving.http.asgi import Receive, Scope, answer, response_of
from penstock.serving.limits import Limits
from served_app import Served, serving

LIMITS = Limits(body_bytes=1000)
PLAIN = {"content-type": "text/plain"}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(LIMITS) as found:
        yield found


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 100


REQUESTS: dict[str, dict[str, Any]] = {
    "echo": {"method": "POST", "url": "/echo", "content": b"hello", "headers": PLAIN},
    "compressed": {
        "method": "POST",
        "url": "/echo",
        "content": gzip.compress(b"hello" * 50),
        "headers": PLAIN | {"content-encoding": "gzip"},
    },
    "bomb": {
        "method": "POST",
        "url": "/echo",
        "content": gzip.compress(bytes(100_000)),
        "headers": PLAIN | {"content-encoding": "gzip"},
    },
    "torn": {"method": "POST", "url": "/echo", "content": b"no gzip", "headers": PLAIN | {"content-encoding": "gzip"}},
    "large": {"method": "POST", "url": "/echo", "content": bytes(1001), "headers": PLAIN},
    "exact": {"method": "POST", "url": "/echo", "content": b"x" * 1000, "headers": PLAIN},
    "kind": {"method": "POST", "url": "/echo", "content": b"{}", "headers": {"content-type": "application/json"}},
    "query": {"method": "GET", "url": "/target?a=1&b=%20"},
    "head": {"method": "HEAD", "url": "/target"},
    "options": {"method": "OPTIONS", "url": "/echo"},
    "method": {"method": "DELETE", "url": "/echo"},
    "unknown": {"method": "GET", "url": "/ech"},
    "ready": {"method": "GET", "url": "/readyz"},
    "host": {"method": "GET", "url": "/readyz", "headers": {"host": "evil.example"}},
    "origin": {"method": "GET", "url": "/readyz", "headers": {"origin": "http://evil.example"}},
    "twice": {"method": "GET", "url": "/readyz", "headers": [("authorization", "a"), ("authorization", "b")]},
    "failing": {"method": "GET", "url": "/failing"},
}


async def ask_behind(served: Served, request: dict[str, Any]) -> httpx.Response:
    """Ask the same app as another server would: by ASGI."""

    async def asgi(scope: Scope, receive: Receive, send: Any) -> None:
        reply = await answer(served.connections._app, LIMITS, scope, receive)
        await response_of(reply, is_head=scope["method"] == "HEAD")(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(asgi), base_url="http://localhost") as client:
        return await client.request(**request)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_reply_is_the_same(served: Served, name: str) -> None:
    """S2, Q28: status, body and headers are those of our own connections, refusals included."""
    request = REQUESTS[name]
    with httpx.Client(base_url=f"http://localhost:{served.port}") as client:
        ours = client.request(**request)
    theirs = asyncio.run(ask_behind(served, request))
    assert (theirs.status_code, theirs.content) == (ours.status_code, ours.content)
    for header in ("content-type", "content-length", "x-content-type-options", "allow", "retry-after"):
        assert theirs.headers.get(header) == ours.headers.get(header), header


def test_a_body_without_end_is_refused_before_it_fills_the_memory(served: Served) -> None:
    """Q28: nothing says how long it is, and no more of it is read than the limit."""
    request = {"method": "POST", "url": "/echo", "content": _endless(), "headers": PLAIN}
    given = asyncio.run(asyncio.wait_for(ask_behind(served, request), 30))
    assert given.status_code == 413


def test_a_caller_that_leaves_is_no_error(served: Served) -> None:
    """Q28: a body that is cut off is answered for whoever keeps account, and nothing is asked."""
    scope = {"method": "POST", "path": "/echo", "headers": [(b"host", b"localhost"), (b"content-type", b"text/plain")]}

    async def gone() -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    assert asyncio.run(answer(served.connections._app, LIMITS, scope, gone)).status == 400
