"""The cache key of a node, and the words that say why it differs from the one before.

Belongs here: what a result depends on. Does not: finding earlier results (`engine`), fingerprints (`fingerprint`).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from penstock.core.digest import digest_value
from penstock.core.records import Record
from penstock.pipeline.graph import Fingerprint

FORMAT = 1
"""Raised when results kept by an older Penstock must not be reused."""
_SHOWN = 3
_LONGEST = 40


class Given(Record, frozen=True, kw_only=True):
    """What the platform gives a function: an input or a word.

    Attributes:
        digest: Digest of its content; all that the key depends on.
        label: What a person reads: "ratings@7", "2013-10-08", "movies@4".
        change: How it differs from what was given before, when the caller knows it in words:
            "ratings has 3,120 new rows since ratings@6".
    """

    digest: str
    label: str = ""
    change: str = ""


class KeyParts(Record, frozen=True, kw_only=True):
    """Everything the result of a node depends on.

    Attributes:
        params: Run parameters, defaults included.
        inputs: What each argument receives; keyed by argument.
        words: The words of the platform it takes: now, champion, since.
        options: What else shapes the result: names of outputs, forms of inputs, `each`, options of the decorator.
        python: Version in two numbers, "3.11".
    """

    node: str
    role: str
    code: Fingerprint
    params: dict[str, Any] = msgspec.field(default_factory=dict)
    inputs: dict[str, Given] = msgspec.field(default_factory=dict)
    words: dict[str, Given] = msgspec.field(default_factory=dict)
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    python: str = ""
    format: int = FORMAT


def node_key(parts: KeyParts) -> str:
    """Return the digest under which the result of a node is kept: equal parts, equal key, on any machine."""
    return digest_value(
        {
            "node": parts.node,
            "role": parts.role,
            "code": parts.code.digest,
            "params": _settled(parts.params),
            "inputs": {name: given.digest for name, given in parts.inputs.items()},
            "words": {name: given.digest for name, given in parts.words.items()},
            "options": _settled(parts.options),
            "python": parts.python,
            "format": parts.format,
        }
    )


def explain(before: KeyParts | None, after: KeyParts) -> str:
    """Say in words why a node's key changed, the most telling reason first; "nothing changed" when it did not."""
    if before is None:
        return "never run"
    reasons = list(dict.fromkeys(_reasons(before, after)))
    if not reasons:
        return "nothing changed"
    more = len(reasons) - _SHOWN
    return "; ".join(reasons[:_SHOWN] + ([f"and {more} more"] if more > 0 else []))


def _reasons(before: KeyParts, after: KeyParts) -> Iterator[str]:
    yield from _code_reasons(before.code, after.code)
    yield from _param_reasons(before.params, after.params)
    yield from _given_reasons(before.inputs, after.inputs)
    yield from _package_reasons(before.code.packages, after.code.packages)
    yield from _word_reasons(before.words, after.words)
    if before.node != after.node or before.role != after.role:
        yield f"{before.role} {before.node} -> {after.role} {after.node}"
    options = [name for name, old, new in _pairs(before.options, after.options) if not _is_same(old, new)]
    if options:
        yield f"options changed: {', '.join(options)}"
    if before.python != after.python:
        yield f"Python {before.python} -> {after.python}"
    if before.format != after.format:
        yield f"results are kept in a new format ({before.format} -> {after.format})"


def _code_reasons(before: Fingerprint, after: Fingerprint) -> Iterator[str]:
    if before.digest == after.digest:
        return
    old, new = before.parts, after.parts
    yield from (f"{new[key].label} changed" for key in new if key in old and old[key].digest != new[key].digest)
    yield from (f"{new[key].label} is new" for key in new if key not in old)
    yield from (f"{_without_line(old[key].label)} is gone" for key in old if key not in new)


def _without_line(label: str) -> str:
    """Cut the line number off a label: the line is not there any more."""
    place, _, line = label.rpartition(":")
    return place if line.isdigit() else label


def _param_reasons(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[str]:
    for name, old, new in _pairs(before, after):
        if old is _ABSENT:
            yield f"parameter {name} is new ({_shown(new)})"
        elif new is _ABSENT:
            yield f"parameter {name} is gone"
        elif not _is_same(old, new):
            yield f"{name} {_shown(old)} -> {_shown(new)}"


def _given_reasons(before: Mapping[str, Given], after: Mapping[str, Given]) -> Iterator[str]:
    for name, new in after.items():
        old = before.get(name)
        if old is None:
            yield f"{name} is a new input"
        elif old.digest != new.digest:
            yield new.change or f"{name} changed"
    yield from (f"{name} is no longer an input" for name in before if name not in after)


def _package_reasons(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name, version in after.items():
        if name not in before:
            yield f"{name} {version} is now used"
        elif before[name] != version:
            yield f"{name} {before[name]} -> {version}"
    yield from (f"{name} is no longer used" for name in before if name not in after)


def _word_reasons(before: Mapping[str, Given], after: Mapping[str, Given]) -> Iterator[str]:
    for name, new in after.items():
        old = before.get(name)
        if old is None:
            yield f"it now takes {name}"
        elif old.digest != new.digest:
            yield new.change or f"{name} {old.label or 'none'} -> {new.label or 'none'}"
    yield from (f"it no longer takes {name}" for name in before if name not in after)


_ABSENT = object()


def _pairs(before: Mapping[str, object], after: Mapping[str, object]) -> Iterator[tuple[str, object, object]]:
    for name in dict.fromkeys([*after, *before]):
        yield name, before.get(name, _ABSENT), after.get(name, _ABSENT)


def _is_same(old: object, new: object) -> bool:
    return old is not _ABSENT and new is not _ABSENT and digest_value(_settled(old)) == digest_value(_settled(new))


def _settled(value: object) -> object:
    """Return a value whose JSON tells apart what JSON alone would not: NaN, infinities and None."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, Mapping):
        return {str(key): _settled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_settled(item) for item in value]
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
