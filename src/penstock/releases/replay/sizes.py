"""By how much one answer differs from another: numbers, lists of items, categories, and what is made of those.

Belongs here: the size of one change. How many there are and where they are is in `compare`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from penstock.releases.replay.records import Size

# Sums in another order differ in the last digits; proven equivalents say themselves by how much they may differ.
RELATIVE = 1e-9
_MOST_PLACES = 10
# Of parts that change, what is told of the whole: the first in this order.
_ORDER = ("shape", "items", "order", "category", "number")


def size_of_change(before: Any, after: Any, tolerance: tuple[float, float] = (RELATIVE, 0.0)) -> Size | None:
    """Return by how much an answer changes, None where it does not.

    Args:
        before: The one answer, as plain JSON values.
        after: The other.
        tolerance: Relative and absolute difference by which numbers may differ and are the same.
    """
    if before == after and type(before) is type(after) and not isinstance(before, dict | list):
        return None
    return _combined(list(_changes(before, after, "", tolerance)))


def _combined(found: Sequence[Size]) -> Size | None:
    """Return the size of a whole from those of its parts."""
    if not found:
        return None
    kind = min((one.kind for one in found), key=_ORDER.index)
    where = dict.fromkeys(place for one in found for place in one.where)
    return Size(
        kind=kind,
        magnitude=max(one.magnitude for one in found),
        absolute=_largest(one.absolute for one in found),
        relative=_largest(one.relative for one in found),
        items=_largest(one.items for one in found),
        moved=max((one.moved for one in found if one.moved is not None), default=None),
        where=tuple(where)[:_MOST_PLACES],
    )


def _largest(values: Iterator[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _changes(before: Any, after: Any, path: str, tolerance: tuple[float, float]) -> Iterator[Size]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            inner = f"{path}.{name}" if path else str(name)
            if name in before and name in after:
                yield from _changes(before[name], after[name], inner, tolerance)
            else:
                yield Size(kind="shape", magnitude=1.0, where=(inner,))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _lists(before, after, path, tolerance)
    elif _is_number(before) and _is_number(after):
        yield from _numbers(before, after, path, tolerance)
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        is_nested = isinstance(before, dict | list) or isinstance(after, dict | list)
        yield Size(kind="shape" if is_nested else "category", magnitude=1.0, where=(path or "answer",))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(before: float, after: float, path: str, tolerance: tuple[float, float]) -> Iterator[Size]:
    absolute = abs(before - after)
    largest = max(abs(before), abs(after))
    if absolute <= tolerance[1] + tolerance[0] * largest:
        return
    # Of opposite signs it may be 2; what is nothing like it is 1.
    relative = float(absolute / largest) if math.isfinite(largest) else 1.0
    place = path or "answer"
    yield Size(kind="number", magnitude=min(relative, 1.0), absolute=float(absolute), relative=relative, where=(place,))


def _lists(before: list[Any], after: list[Any], path: str, tolerance: tuple[float, float]) -> Iterator[Size]:
    if not before or not after:
        if before or after:
            yield Size(kind="items", magnitude=1.0, items=1.0, where=(path or "answer",))
        return
    names = _names_of_items(before, after)
    if names is not None:
        yield from _items(before, after, (path, names), tolerance)
    elif len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _changes(one, other, f"{path}[{place}]", tolerance)
    else:
        yield Size(kind="shape", magnitude=1.0, where=(path or "answer",))


def _items(
    before: list[Any], after: list[Any], about: tuple[str, tuple[list[Any], list[Any]]], tolerance: tuple[float, float]
) -> Iterator[Size]:
    """Compare two lists of things that have names: which are in both, where, and what is said of them."""
    path, (old, new) = about
    longest = max(len(old), len(new))
    ranks = {name: rank for rank, name in enumerate(new)}
    both = [(rank, ranks[name]) for rank, name in enumerate(old) if name in ranks]
    share = 1 - len(both) / longest
    moves = [abs(one - other) for one, other in both]
    place = path or "answer"
    if share > 0:
        yield Size(kind="items", magnitude=share, items=share, moved=max(moves, default=None), where=(place,))
    elif any(moves):
        # Spearman's footrule against the largest there is: Diaconis and Graham (1977), JRSS B 39:262-268.
        far = sum(moves) / (longest * longest // 2)
        yield Size(kind="order", magnitude=far, items=0.0, moved=max(moves), where=(place,))
    for one, other in both:
        if isinstance(before[one], dict):
            yield from _changes(before[one], after[other], f"{path}[{one}]", tolerance)


def _names_of_items(before: list[Any], after: list[Any]) -> tuple[list[Any], list[Any]] | None:
    """Return what the entries of two lists are called, where they are things and no mere values; else None.

    Whole numbers and texts are their own names. Objects are called by a field that is one, and tells them apart in both
    lists: one that ends in "id" before others. A field that only counts the places names nothing.
    """
    entries = [*before, *after]
    if all(_is_name(entry) for entry in entries):
        return (before, after) if _is_unique(before) and _is_unique(after) else None
    if not all(isinstance(entry, dict) for entry in entries):
        return None
    fields = [name for name in before[0] if all(name in entry and _is_name(entry[name]) for entry in entries)]
    for name in sorted(fields, key=lambda field: not str(field).lower().endswith("id")):
        sides = [entry[name] for entry in before], [entry[name] for entry in after]
        if all(_is_unique(side) and not _is_count(side) for side in sides):
            return sides
    return None


def _is_name(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_unique(values: list[Any]) -> bool:
    return len(set(values)) == len(values)


def _is_count(values: list[Any]) -> bool:
    return values in (list(range(len(values))), list(range(1, len(values) + 1)))
