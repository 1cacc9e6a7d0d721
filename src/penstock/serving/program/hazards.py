"""What a JSON parser lets pass and a model must not see: repeated keys, huge integers, NUL, deep nesting.

The common request is cleared by a few counts over its bytes; only a body that might hold one is read a second time.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from penstock.serving.refusals import RequestError

_AS_ZEROS = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))
_LONG_NUMBER = b"0" * 19
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_OPENING = b"[{"
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def refuse_deep(body: bytes, depth: int) -> None:
    """Refuse a body whose lists and objects nest deeper than `depth`; runs before the parser recurses.

    Raises:
        RequestError: It nests deeper.
    """
    if body.count(b"[") + body.count(b"{") <= depth:
        return
    level = 0
    for bracket in _STRING.sub(b"", body).translate(None, _NO_BRACKETS):
        level += 1 if bracket in _OPENING else -1
        if level > depth:
            raise RequestError(
                f"The body nests deeper than {depth} levels.", status=422, reason="too_deep", hint="flatten the value"
            )


def may_hold_long_number(body: bytes) -> bool:
    """Return whether a body has digits enough for an integer beyond 64 bits."""
    # A search for 19 zeros is 20 times faster than a pattern that tries every digit.
    return _LONG_NUMBER in body.translate(_AS_ZEROS)


def may_hold_hazards(body: bytes, names: Iterable[bytes]) -> bool:
    """Return whether a body needs the second look; `names` are the field names in quotes.

    A flat object without escapes can repeat a key only by writing its quoted name twice.
    """
    return (
        b"\\" in body
        or body.count(b"{") > 1
        or may_hold_long_number(body)
        or any(body.count(name) > 1 for name in names)
    )


def refuse_hazards(body: bytes) -> None:
    """Read valid JSON once more and refuse what would be stored as something else than was sent.

    Raises:
        RequestError: A key is repeated, an integer exceeds 64 bits, or a text holds NUL or half a surrogate pair.
    """
    _walk(json.loads(body, object_pairs_hook=_object, parse_int=_integer), "")


class _Huge:
    """Stands for an integer beyond 64 bits until its place is known."""


def _integer(text: str) -> int | _Huge:
    if len(text) > 20:  # 19 digits and a sign hold every 64-bit integer
        return _Huge()
    number = int(text)
    return number if _INT_MIN <= number <= _INT_MAX else _Huge()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # set.add returns None on purpose
        _refuse("is given more than once", repeated, "give each field once")
    return found


def _walk(value: object, path: str) -> None:
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, _Huge):
        _refuse("is an integer beyond 64 bits", path, "send integers between -2^63 and 2^63-1")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _walk(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, path)
            _walk(item, f"{path}.{key}" if path else key)


def _check_text(text: str, path: str) -> None:
    if "\x00" in text:
        _refuse("holds a NUL character", path, "remove it")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        _refuse("holds half a surrogate pair", path, "send text as valid UTF-8")


def _refuse(what: str, path: str, hint: str) -> NoReturn:
    # A key is the caller's text: bound what is repeated back.
    shown = path.encode("ascii", "backslashreplace").decode()[:200]
    raise RequestError(f"{shown!r} {what}.", status=422, reason="invalid_field", field=shown, hint=hint)
