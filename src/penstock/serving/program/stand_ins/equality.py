"""When two answers are the same: numbers within a stated tolerance, everything else exactly.

Belongs here: the tolerance and the comparison, of arrays that models give and of plain answers that functions give.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from penstock.core.records import Record


class Tolerance(Record, frozen=True, kw_only=True):
    """How far two numbers may be apart: `absolute + relative * |original|`."""

    relative: float
    absolute: float


# Sums of doubles taken in another order differ by about 1e-15; this leaves room for ill-conditioned ones and no more.
DOUBLE = Tolerance(relative=1e-6, absolute=1e-9)
# A number of 32 bits has seven digits, and libraries round each partial sum: torch differs from itself by this
# much between one row and a batch.
SINGLE = Tolerance(relative=1e-5, absolute=1e-6)


def distance(original: Any, other: Any, tolerance: Tolerance) -> float | None:
    """Return how far apart two arrays are, as the largest `|difference| / max(|original|, 1)`; None when not the same.

    Args:
        original: Array of any shape and dtype that the model gave.
        other: What the equivalent gave for the same rows.
        tolerance: What still counts as the same. Type, dtype and shape, labels and integers must be identical.
    """
    if type(original) is not type(other) or not hasattr(original, "dtype"):
        return None
    if original.dtype != other.dtype or original.shape != other.shape:
        return None
    one, two = _array(original), _array(other)
    if one.dtype.kind != "f":
        return 0.0 if np.array_equal(one, two) else None
    if not np.allclose(two, one, rtol=tolerance.relative, atol=tolerance.absolute, equal_nan=True):
        return None
    finite = np.isfinite(one)
    if not finite.any():
        return 0.0
    apart = np.abs(one[finite].astype(np.float64) - two[finite]) / np.maximum(np.abs(one[finite]), 1.0)
    return float(apart.max())


def _array(value: Any) -> Any:
    return value.detach().numpy() if type(value).__name__ == "Tensor" else np.asarray(value)


def rounded_up(apart: float) -> float:
    """Return the power of ten at or above a difference, 1e-12 at least: the same on each run and machine."""
    return 10.0 ** max(-12, math.ceil(math.log10(apart))) if apart > 0 else 1e-12


def first_difference(original: object, other: object, tolerance: Tolerance, place: str = "answer") -> str | None:
    """Return where two plain answers are not the same and how, without texts that may be a person's; None if the same.

    Args:
        original: Plain Python values, as `core.plain.built_in` makes them.
        other: The same question answered by the equivalent.
        tolerance: What two floats may differ by; whole numbers, texts, lengths, fields and order must be identical.
        place: Where this part stands in the answer.
    """
    if type(original) is not type(other):
        return f"{place} is {type(original).__name__} of the original, {type(other).__name__} of the equivalent"
    if isinstance(original, float) and isinstance(other, float):
        return None if _is_close(original, other, tolerance) else f"{place} is another number"
    if isinstance(original, dict | list | tuple):
        return _inner_difference(original, other, tolerance, place)
    return None if original == other else f"{place} differs"


def _is_close(original: float, other: float, tolerance: Tolerance) -> bool:
    if not (math.isfinite(original) and math.isfinite(other)):
        return original == other or (math.isnan(original) and math.isnan(other))
    return abs(original - other) <= tolerance.absolute + tolerance.relative * abs(original)


def _inner_difference(original: Any, other: Any, tolerance: Tolerance, place: str) -> str | None:
    if len(original) != len(other):
        return f"{place} has {len(original)} entries, then {len(other)}"
    if isinstance(original, dict) and original.keys() != other.keys():
        return f"{place} has other fields"
    pairs: Iterator[tuple[object, object, str]]
    if isinstance(original, dict):
        pairs = ((item, other[key], f"{place}.{key}") for key, item in original.items())
    else:
        pairs = ((one, two, f"{place}[{i}]") for i, (one, two) in enumerate(zip(original, other, strict=True)))
    return next((found for one, two, at in pairs if (found := first_difference(one, two, tolerance, at))), None)
