"""Requests that nobody should send and somebody will: broken, of wrong types, incomplete, at the edge of types."""

import json
from collections.abc import Iterator
from typing import Any, Literal, assert_never

import httpx

from penstock.core.records import Record

_DEEP = 200
_EDGES: dict[type, tuple[Any, ...]] = {
    bool: (),
    int: (0, -1, 2**31),
    float: (0.0, -1.0, 1e9, 5e-324),
    str: ("", " ", "x" * 10_000, "\u202eabc", "'; DROP TABLE x; --", "é" * 500),
    list: ([],),
}
# So large that an answer may well be infinite, which is an honest failure; but nothing to die of.
_EXTREMES: dict[type, tuple[Any, ...]] = {int: (2**63 - 1, -(2**63)), float: (1.7e308, -1.7e308)}
_WRONG: dict[type, Any] = {
    bool: "maybe", int: "seven", float: {"a": 1}, str: 7, list: "no list", dict: 7, type(None): {"a": [1]},
}  # fmt: skip


# What a server may do with a request: refuse it with 4xx; that or answer it; anything that is an answer, even 500.
Expects = Literal["refused", "answered", "survived"]


class Hostile(Record, frozen=True, kw_only=True):
    """A request.

    Attributes:
        name: What is wrong with it, as "user_id is of another type".
        expects: What a server may do with it.
    """

    name: str
    body: bytes
    expects: Expects


class Received(Record, frozen=True, kw_only=True):
    """What came of a hostile request.

    Attributes:
        status: HTTP status; 0 where the connection broke.
        is_well: The server did what it may.
    """

    name: str
    status: int
    is_well: bool


def hostile_requests(fields: dict[str, Any]) -> Iterator[Hostile]:
    """Yield hostile forms of a request that is right.

    Args:
        fields: The right one.
    """
    right = json.dumps(fields).encode()
    broken = {
        "an empty body": b"",
        "no JSON": b"\xff\xfe not json",
        "JSON cut short": right[:-1],
        "a list in place of an object": b"[[1, 2]]",
        "NaN": b'{"x": NaN, ' + right[1:] if fields else b"NaN",
        "nesting too deep": b'{"x":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
        "a lone surrogate": b'{"\\ud800": 1}',
        "a field nobody knows": b'{"no_such_field_here": 1, ' + right[1:] if fields else b'{"no_such_field_here": 1}',
    }
    for name, body in broken.items():
        yield Hostile(name=name, body=body, expects="refused")
    for name, value in fields.items():
        yield from _of_field(name, value, fields)


def _of_field(name: str, value: Any, fields: dict[str, Any]) -> Iterator[Hostile]:
    without = {other: kept for other, kept in fields.items() if other != name}
    yield _made(f"{name} is missing", without, expects="answered")  # it may have a default
    wrong = _WRONG.get(type(value))
    if wrong is not None:
        yield _made(f"{name} is of another type", {**fields, name: wrong}, expects="refused")
    rest = json.dumps(without)[1:]
    for number in ("NaN", "Infinity", "1e999"):
        body = f'{{"{name}": {number}{", " + rest if without else rest}'.encode()
        yield Hostile(name=f"{name} is {number}", body=body, expects="refused")
    for edge in _EDGES.get(type(value), ()):
        shown = repr(edge) if len(repr(edge)) < 30 else f"{len(edge)} letters"
        yield _made(f"{name} is {shown}", {**fields, name: edge}, expects="answered")
    for extreme in _EXTREMES.get(type(value), ()):
        yield _made(f"{name} is {extreme!r}", {**fields, name: extreme}, expects="survived")


def _made(name: str, fields: dict[str, Any], *, expects: Expects) -> Hostile:
    return Hostile(name=name, body=json.dumps(fields).encode(), expects=expects)


def _is_well(status: int, expects: Expects) -> bool:
    match expects:
        case "refused":
            return 400 <= status < 500
        case "answered":
            return 400 <= status < 500 or status == 200
        case "survived":
            return status > 0
        case _:
            assert_never(expects)


def send(url: str, requests: Iterator[Hostile], *, consumer: str, timeout_s: float) -> list[Received]:
    """Ask hostile requests one after the other, each over a connection of its own, and return what came of them.

    Args:
        url: Of the serve function.
        requests: What to ask.
        consumer: The application that asks.
        timeout_s: How long an answer is waited for.
    """
    headers = {"content-type": "application/json", "x-penstock-consumer": consumer}
    found = []
    for one in requests:
        try:
            status = httpx.post(url, content=one.body, headers=headers, timeout=timeout_s).status_code
        except httpx.HTTPError:
            status = 0
        found.append(Received(name=one.name, status=status, is_well=_is_well(status, one.expects)))
    return found
