"""The head of a request, from what the parser found to what routes ask: the parser keeps syntax, this keeps meaning."""

from urllib.parse import unquote_to_bytes

import httptools
import msgspec

from penstock.serving.messages import Request
from penstock.serving.refusals import RequestError

CHUNKED = -1
_SINGLE = frozenset(
    {
        b"host",
        b"origin",
        b"expect",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
        b"authorization",
        b"inference-header-content-length",
    }
)


class Head(msgspec.Struct, frozen=True):
    """A request without its body.

    Attributes:
        request: Its body is empty.
        length: Bytes of the body; `CHUNKED` when only its end tells.
        is_kept: The caller wants to ask more on this connection.
        is_old: HTTP/1.0, where a connection that is kept must be said to be.
        is_plain: Nothing but its bytes decides how it is read, so the same bytes may be read from memory.
        waits: The caller sends its body only after "100 Continue".
    """

    request: Request
    length: int
    is_kept: bool
    is_old: bool
    is_plain: bool
    waits: bool


def join_header(headers: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    """Add to a header that was found before.

    Raises:
        RequestError: 400 when it is one that decides what the request means, and may be said once only.
    """
    if name in _SINGLE:
        raise malformed(f"The request has two {name.decode().title()} headers.")
    headers[name] += b", " + value


def read_head(parser: httptools.HttpRequestParser, target: bytes, headers: dict[bytes, bytes]) -> Head:
    """Return the head that the parser has just completed.

    Raises:
        RequestError: 400, 405, 417 or 505; where the body would end is in doubt, so the connection must be closed.
    """
    method = parser.get_method().decode("ascii")
    version = parser.get_http_version()
    is_old = version == "1.0"
    if not is_old and version != "1.1":
        raise RequestError("Only HTTP/1.1 is spoken here.", status=505, reason="http_version")
    if method == "CONNECT":
        raise RequestError("This is not a proxy.", status=405, reason="wrong_method")
    length = _length(headers, is_old=is_old)
    expected = headers.get(b"expect", b"").lower()
    if expected not in {b"", b"100-continue"}:
        raise RequestError("Only 100-continue can be expected.", status=417, reason="expectation")
    path, query = _read_target(target, headers)
    waits = expected != b"" and length != 0 and not is_old
    return Head(
        request=Request(method, path, headers, b"", query),
        length=length,
        is_kept=parser.should_keep_alive(),
        is_old=is_old,
        is_plain=not (is_old or waits or length == CHUNKED or parser.should_upgrade()),
        waits=waits,
    )


def malformed(message: str) -> RequestError:
    """Return the refusal of a request that does not keep to HTTP."""
    return RequestError(message, status=400, reason="malformed_request")


def _length(headers: dict[bytes, bytes], *, is_old: bool) -> int:
    coding = headers.get(b"transfer-encoding")
    if coding is None:
        return int(headers.get(b"content-length", b"0"))  # the parser has refused all but digits
    if coding.lower() != b"chunked" or is_old:
        raise malformed("The only transfer coding is chunked, of HTTP/1.1.")
    return CHUNKED


def _read_target(target: bytes, headers: dict[bytes, bytes]) -> tuple[str, bytes]:
    if target[:1] != b"/" and target != b"*":
        target = _absolute(target, headers)
    path, _, query = target.partition(b"?")
    if b"#" in target:
        raise malformed("A fragment is not sent to a server.")
    if b"%" in path:
        return _decode(path), query
    return path.decode("ascii"), query  # the parser has refused other bytes


def _absolute(target: bytes, headers: dict[bytes, bytes]) -> bytes:
    """Return the path of "http://name/path", whose name must be the one in Host."""
    scheme, _, rest = target.partition(b"://")
    name, slash, path = rest.partition(b"/")
    name, question, query = name.partition(b"?")
    if scheme.lower() != b"http" or name.lower() != headers.get(b"host", b"").lower():
        raise malformed("The target names another place than the Host header.")
    return b"/" + path if slash and not question else b"/" + question + query + slash + path


def _decode(path: bytes) -> str:
    # An encoded slash is not a separator: left as it is, it matches no route.
    lowered = path.lower()
    if b"%2f" in lowered or b"%5c" in lowered:
        return path.decode("ascii")
    try:
        return unquote_to_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise malformed("The path is not UTF-8.") from error
