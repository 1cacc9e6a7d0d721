"""The edge of HTTP: who may ask."""

from urllib.parse import urlsplit

from penstock.serving.refusals import RequestError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
ANY_NAME = "*"  # where every caller has to show a key, a page of another site has none to show
_KNOWN_HOSTS = 64


class Heads:
    """Checks the head of each request: Host and Origin name this server.

    A page of another site that resolves its own name to 127.0.0.1 (DNS rebinding) fails on Host; one that posts
    across sites fails on Origin.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._known_hosts: set[bytes] = set()

    def check(self, headers: dict[bytes, bytes]) -> None:
        """Refuse a request that is not meant for this server.

        Raises:
            RequestError: 400 without a Host, 403 when Host or Origin is not this server's.
        """
        host = headers.get(b"host")
        if host is None:
            raise RequestError("The request has no Host header.", status=400, reason="bad_host")
        if host not in self._known_hosts:
            self._admit(host)
        if b"origin" in headers:
            self._check_origin(headers[b"origin"])

    def _admit(self, host: bytes) -> None:
        name = _host_name("//" + host.decode("latin-1"))
        if name not in self._names and ANY_NAME not in self._names:
            raise RequestError(
                "The Host header does not name this server.",
                status=403,
                reason="bad_host",
                hint="ask for localhost or 127.0.0.1, or start the server with the name it is known by",
            )
        if len(self._known_hosts) < _KNOWN_HOSTS:  # ports differ, names do not: a bound against who varies them
            self._known_hosts.add(host)

    def _check_origin(self, origin: bytes) -> None:
        if _host_name(origin.decode("latin-1")) not in self._names:
            raise RequestError("Requests from other sites are refused.", status=403, reason="bad_origin")


def _host_name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:  # a malformed address in brackets
        return ""
