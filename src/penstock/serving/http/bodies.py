"""Compressed bodies, inflated within a bound: what would inflate beyond it is not inflated to the end."""

import zlib

from penstock.serving.limits import Limits
from penstock.serving.messages import Request
from penstock.serving.refusals import RequestError

CODINGS = frozenset({b"identity", b"gzip", b"x-gzip", b"deflate"})
_GZIP = 16 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


def inflate(body: bytes, coding: bytes, limits: Limits) -> bytes:
    """Return a body without its content coding.

    Raises:
        RequestError: 413 when it grows beyond the limit, 400 when it is not what the header says.
    """
    if coding == b"identity":
        return body
    try:
        return _inflate_all(body, _GZIP, limits) if coding.endswith(b"gzip") else _undeflate(body, limits)
    except zlib.error as error:
        raise RequestError(
            "The body is not one whole compressed stream, as its header says.",
            status=400,
            reason="malformed_coding",
            hint="send it plain, or compress it again",
        ) from error


def too_large(limits: Limits) -> RequestError:
    """Return the refusal of a body beyond the limit."""
    size = limits.body_bytes // 2**20
    words = f"{size} MiB" if size else f"{limits.body_bytes} bytes"
    return RequestError(
        f"The body is larger than {words}.", status=413, reason="too_large", hint="send fewer rows per request"
    )


def check_coding(request: Request) -> None:
    """Refuse a content coding that is not read here.

    Raises:
        RequestError: 415.
    """
    if request.headers.get(b"content-encoding", b"identity").lower() not in CODINGS:
        raise RequestError(
            "The body has a content-encoding that is not read here.",
            status=415,
            reason="unknown_coding",
            hint="send it plain, or as gzip or deflate",
        )


def _undeflate(body: bytes, limits: Limits) -> bytes:
    try:
        return _inflate_all(body, zlib.MAX_WBITS, limits)
    except zlib.error:  # "deflate" is said of both forms: with zlib's envelope, as the standard says, and without
        return _inflate_all(body, _RAW, limits)


def _inflate_all(body: bytes, window: int, limits: Limits) -> bytes:
    stream = zlib.decompressobj(window)
    found = stream.decompress(body, limits.body_bytes + 1)
    if len(found) > limits.body_bytes:
        raise too_large(limits)
    # One stream only: a body of a million empty ones would cost time that is not bounded by its size.
    if not stream.eof or stream.unused_data:
        raise zlib.error("the stream is not whole, or something follows it")
    return found
