"""The edge of HTTP: who may ask, and a whole body read within its bounds."""

import asyncio
from urllib.parse import urlsplit

from penstock.serving.http.replies import Receive, Scope
from penstock.serving.limits import Limits
from penstock.serving.refusals import RequestError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Heads:
    """Checks the head of each request: Host and Origin name this server, and a body is JSON of a lawful size.

    A page of another site that resolves its own name to 127.0.0.1 (DNS rebinding) fails on Host; one that posts
    across sites fails on Origin.
    """

    def __init__(self, names: frozenset[str], limits: Limits) -> None:
        self._names = names
        self._limits = limits
        self._known_hosts: set[bytes] = set()

    def check(self, scope: Scope) -> dict[bytes, bytes]:
        """Return the headers that matter.

        Raises:
            RequestError: 400 without one Host, 403 when Host or Origin is not this server's.
        """
        found: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name == b"host" and name in found:
                raise RequestError("The request has two Host headers.", status=400, reason="bad_host")
            found[name] = value
        host = found.get(b"host")
        if host is None:
            raise RequestError("The request has no Host header.", status=400, reason="bad_host")
        if host not in self._known_hosts:
            self._admit(host)
        if b"origin" in found:
            self._check_origin(found[b"origin"])
        return found

    def check_body(self, headers: dict[bytes, bytes]) -> None:
        """Refuse a body that is not JSON or too large before reading it.

        Raises:
            RequestError: 413 or 415.
        """
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json" or headers.get(b"content-encoding", b"identity") != b"identity":
            raise RequestError(
                "The body must be plain JSON.",
                status=415,
                reason="not_json",
                hint="send the header content-type: application/json, without content-encoding",
            )
        length = headers.get(b"content-length", b"0")
        # The parser has checked that the header is a number; a false one is caught while reading.
        if int(length) > self._limits.body_bytes:
            raise _too_large(self._limits)

    def _admit(self, host: bytes) -> None:
        name = _host_name("//" + host.decode("latin-1"))
        if name not in self._names:
            raise RequestError(
                "The Host header does not name this server.",
                status=403,
                reason="bad_host",
                hint="ask for localhost or 127.0.0.1, or start the server with the name it is known by",
            )
        if len(self._known_hosts) < 64:  # ports differ, names do not: a bound against a caller who varies them
            self._known_hosts.add(host)

    def _check_origin(self, origin: bytes) -> None:
        if _host_name(origin.decode("latin-1")) not in self._names:
            raise RequestError("Requests from other sites are refused.", status=403, reason="bad_origin")


def _host_name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:  # a malformed address in brackets
        return ""


async def read_body(receive: Receive, limits: Limits) -> bytes:
    """Return the whole body.

    Raises:
        RequestError: 413 when it grows beyond the limit, 408 when it does not arrive in time or the caller left.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message["body"]
        if len(body) > limits.body_bytes:
            raise _too_large(limits)
        return body
    try:
        async with asyncio.timeout(limits.receive_s):
            return await _read_rest(message, receive, limits)
    except TimeoutError as error:
        raise RequestError("The body did not arrive in time.", status=408, reason="too_slow") from error


async def _read_rest(message: Scope, receive: Receive, limits: Limits) -> bytes:
    parts = bytearray()
    while message["type"] == "http.request":
        parts += message["body"]
        if len(parts) > limits.body_bytes:
            raise _too_large(limits)
        if not message.get("more_body", False):
            return bytes(parts)
        message = await receive()
    raise RequestError("The caller left before the body was whole.", status=408, reason="disconnected")


def _too_large(limits: Limits) -> RequestError:
    size = limits.body_bytes // 2**20
    return RequestError(
        f"The body is larger than {size} MiB.", status=413, reason="too_large", hint="send fewer rows per request"
    )
