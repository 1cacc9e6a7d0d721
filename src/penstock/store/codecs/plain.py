"""Plain values as JSON that comes back exactly: types, order, NaN, huge integers, odd dictionaries.

Belongs here: values of the standard library. What JSON cannot say is a tagged object, `{"$": tag, "v": ...}`.
"""

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from penstock.core.errors import DamagedError
from penstock.store.codecs.codec import unsupported
from penstock.store.codecs.objects import rebuild_object, take_apart

_DEEPEST = 200
_LARGEST = 2**53
_SECOND = timedelta(seconds=1)
_ATOMS = frozenset({
    type(None), bool, int, float, str, bytes, bytearray, complex, datetime, date, time, timedelta, Decimal, UUID,
    PurePosixPath, range, timezone, ZoneInfo,
})  # fmt: skip
_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
PLAIN = _ATOMS | _CONTAINERS


def _tagged(tag: str, value: object, **more: object) -> dict[str, object]:
    return {"$": tag, "v": value, **more}


@dataclass(slots=True)
class Encoder:
    """Turns a value into JSON; what is not plain is given to `save_part` and stands as its number.

    Args:
        save_part: Keeps a value that is not plain.
    """

    save_part: Callable[[object], Any]
    parts: list[Any] = field(default_factory=list)

    def encode(self, value: object, depth: int = 0) -> Any:
        """Return JSON for `value`.

        Raises:
            UnsupportedError: It refers to itself, nests deeper than 200, or holds something no codec takes.
        """
        if depth > _DEEPEST:
            raise unsupported(value, f"it nests deeper than {_DEEPEST}, or refers to itself", hint="flatten it")
        kind = type(value)
        if kind in _ATOMS:
            return _encode_atom(value)
        if kind is dict:
            return self._encode_dict(value, depth)  # type: ignore[arg-type]  # the type was just looked at
        if kind in {list, tuple}:
            items = self._encode_items(value, depth)  # type: ignore[arg-type]  # the type was just looked at
            return items if kind is list else _tagged("tuple", items)
        if kind in {set, frozenset}:
            return self._encode_set(value, depth)  # type: ignore[arg-type]  # the type was just looked at
        apart = take_apart(value)
        if apart is not None:
            return _tagged(apart.tag, self.encode(apart.state, depth + 1), **{"class": apart.reference})
        self.parts.append(self.save_part(value))
        return _tagged("part", len(self.parts) - 1)

    def _encode_items(self, items: list[object] | tuple[object, ...], depth: int) -> list[Any]:
        kinds = set(map(type, items))
        # Long lists of numbers or texts are common and need no look at each item.
        if _are_ordinary(kinds, items):
            return list(items)
        return [self.encode(item, depth + 1) for item in items]

    def _encode_set(self, items: set[object] | frozenset[object], depth: int) -> dict[str, object]:
        encoded = [self.encode(item, depth + 1) for item in items]
        # Sets have no order; the order of their text makes equal sets equal bytes in every process.
        return _tagged(type(items).__name__, sorted(encoded, key=repr))

    def _encode_dict(self, items: dict[object, object], depth: int) -> Any:
        if all(type(key) is str and _is_unicode(key) for key in items) and "$" not in items:
            return {key: self.encode(item, depth + 1) for key, item in items.items()}
        pairs = [[self.encode(key, depth + 1), self.encode(item, depth + 1)] for key, item in items.items()]
        return _tagged("dict", pairs)


def _are_ordinary(kinds: set[type], items: Sequence[Any]) -> bool:
    if kinds == {float}:
        return all(map(math.isfinite, items))
    if kinds == {int}:
        return bool(min(items) > -_LARGEST and max(items) < _LARGEST)
    return kinds == {str} and all(map(str.isascii, items))


def _is_unicode(text: str) -> bool:
    """Whether `text` has no surrogates; JSON joins two of them into one character."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _encode_atom(value: object) -> Any:  # noqa: PLR0911 -- one line for each type
    match value:
        case None | bool():
            return value
        case str():
            return value if _is_unicode(value) else _tagged("str", [ord(character) for character in value])
        case int():
            return value if -_LARGEST < value < _LARGEST else _tagged("int", hex(value))
        case float():
            return value if math.isfinite(value) else _tagged("float", repr(value))
        case bytes() | bytearray():
            return _tagged(type(value).__name__, base64.b64encode(value).decode("ascii"))
        case complex():
            return _tagged("complex", [_encode_atom(value.real), _encode_atom(value.imag)])
        case datetime() | time():
            return _encode_time(value)
        case timedelta():
            return _tagged("timedelta", [value.days, value.seconds, value.microseconds])
        case range():
            return _tagged("range", [_encode_atom(part) for part in (value.start, value.stop, value.step)])
        case timezone():
            return _tagged("timezone", _encode_atom(value.utcoffset(None)))
        case date():
            return _tagged("date", value.isoformat())
        case _:
            return _tagged(type(value).__name__, str(value))


def _encode_time(value: datetime | time) -> dict[str, object]:
    zone = value.tzinfo
    if zone is not None and type(zone) not in {timezone, ZoneInfo}:
        raise unsupported(value, f"its time zone is a {type(zone).__name__!r}", hint="use zoneinfo or datetime.UTC")
    if type(zone) is ZoneInfo and zone.key is None:
        raise unsupported(value, "its time zone has no name", hint="make the zone by name")
    text = value.replace(tzinfo=None).isoformat()
    return _tagged(type(value).__name__, text, zone=None if zone is None else _encode_atom(zone), fold=value.fold)


def decode(encoded: Any, load_part: Callable[[int], object]) -> Any:
    """Return the value that `Encoder.encode` was given.

    Args:
        encoded: What `encode` returned.
        load_part: Gives the part with that number.

    Raises:
        DamagedError: The JSON holds a tag this version does not know.
    """
    match encoded:
        case list():
            return [decode(item, load_part) for item in encoded]
        case dict() if "$" in encoded:
            return _decode_tagged(encoded, load_part)
        case dict():
            return {key: decode(item, load_part) for key, item in encoded.items()}
        case _:
            return encoded


def _decode_tagged(encoded: Mapping[str, Any], load_part: Callable[[int], object]) -> Any:
    tag, value = encoded["$"], encoded["v"]
    if tag == "part":
        return load_part(value)
    if tag in _READERS:
        return _READERS[tag](value)
    inside = decode(value, load_part)
    if tag in _BUILDERS:
        return _BUILDERS[tag](inside)
    if tag in _TIMES:
        zone = decode(encoded["zone"], load_part)
        return _TIMES[tag].fromisoformat(inside).replace(tzinfo=zone, fold=encoded["fold"])
    if "class" in encoded:
        return rebuild_object(tag, encoded["class"], inside)
    raise DamagedError(f"The tag {tag!r} is not known here.", hint="it was written by a newer version of Penstock")


_TIMES: dict[str, type[datetime] | type[time]] = {"datetime": datetime, "time": time}
_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
    "complex": lambda parts: complex(*parts),
    "range": lambda parts: range(*parts),
    "timezone": timezone,
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "str": lambda codes: "".join(map(chr, codes)),
    "int": lambda text: int(text, 16),
    "float": float,
    "bytes": base64.b64decode,
    "bytearray": lambda text: bytearray(base64.b64decode(text)),
    "date": date.fromisoformat,
    "timedelta": lambda parts: timedelta(*parts),
    "Decimal": Decimal,
    "UUID": UUID,
    "PurePosixPath": PurePosixPath,
    "ZoneInfo": ZoneInfo,
}
