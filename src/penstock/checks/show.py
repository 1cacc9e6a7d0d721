"""How values appear in the messages and evidence of checks.

Frames, arrays and collections of text appear by shape or count, because a message must not carry rows of data.
"""

import datetime as dt
import decimal
import enum
import math
import numbers
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from penstock.core.records import Interval

_LONGEST_TEXT = 80
_LARGEST_COLLECTION = 6


def show(value: object) -> str:
    """Return a short text for a value: never a row, at most about a hundred characters."""
    if isinstance(value, Interval):
        return show_interval(value)
    if number := _show_number(value):
        return number
    match value:
        case None:
            return "None"
        case str() | bytes():
            return repr(value) if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]!r}... ({len(value)} long)"
        case enum.Enum():
            return f"{type(value).__name__}.{value.name}"
        case dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return str(value)
    return _show_collection(value)


def show_interval(interval: Interval) -> str:
    """Return `0.0003 [-0.0012, 0.0018], n=840`."""
    low, high = show_float(interval.low), show_float(interval.high)
    return f"{show_float(interval.mean)} [{low}, {high}], n={interval.n}"


def show_float(value: float) -> str:
    """Return four significant digits: enough to compare, short enough to read."""
    return f"{value:.4g}"


def plain_number(value: object) -> bool | int | float | str | None:
    """Return a number as plain JSON can hold it (NaN and infinities as text), or None if it is no number."""
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real | decimal.Decimal):
        return float(value) if math.isfinite(value) else str(float(value))
    if type(value).__name__ == "bool" and hasattr(value, "item"):  # numpy.bool is not registered as a number
        return bool(value)
    return None


def is_telling(value: object) -> bool:
    """Return whether `show` says more about the value than the name of its type."""
    return show(value) != type(value).__name__


def _show_number(value: object) -> str:
    number = plain_number(value)
    if number is None:
        return ""
    if isinstance(number, float):
        short = show_float(number)
        # 0.30000000000000004 == 0.3 must not read "0.3 == 0.3".
        return short if float(short) == number or len(repr(number)) > len("0.123456") + 10 else repr(number)
    return str(number)


def _show_collection(value: object) -> str:
    name = type(value).__name__
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{name} of shape {shape!r}"
    if not isinstance(value, Sequence | AbstractSet | Mapping):
        return name
    items = value.values() if isinstance(value, Mapping) else value
    few_numbers = len(value) <= _LARGEST_COLLECTION and all(_show_number(item) for item in items)
    keys_are_text = not isinstance(value, Mapping) or all(isinstance(key, str) for key in value)
    if not (few_numbers and keys_are_text and isinstance(value, list | tuple | set | frozenset | dict)):
        return f"{name} of {len(value)}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_show_number(item)}" for key, item in value.items()) + "}"
    return f"{name}({', '.join(_show_number(item) for item in value)})"
