"""Replies as bytes: heads are put together once per status and type, and only lengths and extra headers are added."""

from http import HTTPStatus

from penstock.serving.messages import Header, Reply

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_WITHOUT_BODY = frozenset({204, 304})
_KNOWN_STARTS = 256
_starts: dict[tuple[int, bytes], bytes] = {}


def encode_reply(reply: Reply, *, connection: bytes = b"", is_head: bool = False) -> bytes:
    """Return a reply as it goes over the wire.

    Args:
        reply: What is said.
        connection: "close" or "keep-alive" where the caller must be told; b"" where HTTP/1.1 implies it.
        is_head: The caller asked for the head only.

    Raises:
        ValueError: A header holds a line break; nothing that a caller sent may add a line to the head.
    """
    body = reply.body
    start = _starts.get((reply.status, reply.kind)) or _start(reply.status, reply.kind)
    if not reply.headers and not connection and not is_head and reply.status not in _WITHOUT_BODY:
        return b"%b%d\r\n\r\n%b" % (start, len(body), body)
    extra = _lines(reply.headers)
    if connection:
        extra += b"\r\nconnection: " + connection
    if reply.status in _WITHOUT_BODY:
        return _status_line(reply.status) + b"x-content-type-options: nosniff" + extra + b"\r\n\r\n"
    return b"%b%d%b\r\n\r\n%b" % (start, len(body), extra, b"" if is_head else body)


def _lines(headers: tuple[Header, ...]) -> bytes:
    lines = b"".join([b"\r\n%b: %b" % header for header in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise ValueError("a header of a reply holds a line break")
    return lines


def _start(status: int, kind: bytes) -> bytes:
    made = _status_line(status) + _lines((_NOSNIFF, (b"content-type", kind)))[2:] + b"\r\ncontent-length: "
    if len(_starts) < _KNOWN_STARTS:
        _starts[status, kind] = made
    return made


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase.encode()
    except ValueError:
        phrase = b""
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase)


_NOSNIFF: Header = (b"x-content-type-options", b"nosniff")
