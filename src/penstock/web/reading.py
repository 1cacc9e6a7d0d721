"""What a request sends, read within bounds: forms, objects of texts, names of wishes."""

import json
import re
from urllib.parse import parse_qsl

import anyio
import msgspec
from starlette.requests import ClientDisconnect, Request

from penstock.web.refusing import Refused

MOST_BODY_BYTES = 65_536
_BODY_S = 10.0
_KEY = re.compile(r"[!-~]{1,128}")


async def read_form(request: Request) -> dict[str, str]:
    """Return what was sent, a form or an object of texts as JSON; a field that comes twice is two opinions.

    Raises:
        Refused: It is too large, too slow, of another kind, or not as it should be.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        with anyio.fail_after(_BODY_S):
            body = await _bytes_of(request)
    except TimeoutError:
        raise Refused(408, "slow_body", "The body did not arrive in time.") from None
    except ClientDisconnect:
        raise Refused(400, "cut_off", "The request was cut off.") from None
    try:
        if kind == "application/json":
            return msgspec.convert(json.loads(body or b"{}", object_pairs_hook=_once_each), dict[str, str])
        if kind == "application/x-www-form-urlencoded" or not body:
            pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=50, errors="strict")
            if len(dict(pairs)) == len(pairs):
                return dict(pairs)
    except (ValueError, RecursionError):
        raise Refused(422, "bad_body", "The body is not as it should be.", "send an object of texts") from None
    raise Refused(415, "bad_body", "The body is neither a form nor JSON, or has a field twice.", "send JSON")


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field comes twice")
    return found


async def _bytes_of(request: Request) -> bytes:
    found = b""
    async for part in request.stream():
        found += part
        if len(found) > MOST_BODY_BYTES:
            raise Refused(413, "too_large", f"The body is larger than {MOST_BODY_BYTES} bytes.")
    return found


def read_key(request: Request) -> str:
    """Return what the caller named this wish; "" for no name.

    Raises:
        Refused: It is no usable name.
    """
    found = request.headers.get("idempotency-key", "")
    if found and not _KEY.fullmatch(found):
        raise Refused(400, "no_key", "The Idempotency-Key is not usable.", "send 1 to 128 visible ASCII characters")
    return found
