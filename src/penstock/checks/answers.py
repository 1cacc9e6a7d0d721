"""Checks of served answers, as plain JSON: finite numbers, and the same answers from serving as from the pipeline."""

import math
from collections.abc import Iterator, Sequence

import msgspec

from penstock.checks.results import built_in
from penstock.checks.show import show
from penstock.core.records import CheckResult


def finite_answers(answers: Sequence[object]) -> CheckResult:
    """Check that no answer holds NaN or an infinity.

    Args:
        answers: Answers as the functions return them: plain values or rows.
    """
    bad = [(number, path) for number, answer in enumerate(answers) for path in _non_finite(_plain(answer), "")]
    affected = len({number for number, _ in bad})
    message = f"all numbers in {len(answers)} answers are finite"
    if bad:
        number, path = bad[0]
        message = f"{affected} of {len(answers)} answers hold NaN or an infinity"
        message += f"; first in answer {number} at {path or 'the top'}"
    evidence = {"answers": len(answers), "affected": affected, "first": bad[0][1] if bad else None}
    return built_in("finite_answers", message, passed=not bad, evidence=evidence)


def same_answers(expected: Sequence[object], got: Sequence[object], *, tolerance: float = 0.0) -> CheckResult:
    """Check that serving answers sampled requests as the pipeline's own function did.

    Args:
        expected: Answers of the pipeline's function, one per request.
        got: Answers over HTTP, as decoded JSON, in the same order.
        tolerance: Largest accepted absolute difference between two numbers.
    """
    differences: list[tuple[int, str]] = []
    for number, (one, other) in enumerate(zip(expected, got, strict=False)):
        found = _difference(_plain(one), _plain(other), "", tolerance)
        if found:
            differences.append((number, found))
    passed = not differences and len(expected) == len(got)
    message = "1 answer is the same" if len(expected) == 1 else f"{len(expected)} answers are the same"
    if len(expected) != len(got):
        message = f"{len(expected)} requests were sampled, {len(got)} answered"
    elif differences:
        number, found = differences[0]
        message = f"{len(differences)} of {len(expected)} answers differ; first answer {number}: {found}"
    evidence = {"answers": len(expected), "different": len(differences), "tolerance": tolerance}
    return built_in("same_answers", message, passed=passed, evidence=evidence)


def _plain(answer: object) -> object:
    return msgspec.to_builtins(answer, str_keys=True)


def _non_finite(value: object, path: str) -> Iterator[str]:
    match value:
        case float() if not math.isfinite(value):
            yield path
        case dict():
            for key, item in value.items():
                yield from _non_finite(item, f"{path}.{key}")
        case list() | tuple():
            for number, item in enumerate(value):
                yield from _non_finite(item, f"{path}[{number}]")


def _difference(one: object, other: object, path: str, tolerance: float) -> str:
    """Return where and how two values differ, or nothing. Text is never shown: it may be a person's."""
    place = path or "the top"
    match one, other:
        case dict(), dict():
            if one.keys() != other.keys():
                return f"{place} has fields {sorted(one)!r} from the pipeline, {sorted(other)!r} from serving"
            pairs = [(f"{path}.{key}", one[key], other[key]) for key in one]
        case (list() | tuple(), list() | tuple()):
            if len(one) != len(other):
                return f"{place} has {len(one)} entries from the pipeline, {len(other)} from serving"
            pairs = [(f"{path}[{number}]", a, b) for number, (a, b) in enumerate(zip(one, other, strict=True))]
        case _:
            return _leaf_difference(one, other, place, tolerance)
    return next((found for at, a, b in pairs if (found := _difference(a, b, at, tolerance))), "")


def _leaf_difference(one: object, other: object, place: str, tolerance: float) -> str:
    if isinstance(one, bool) or isinstance(other, bool):
        return "" if one is other else f"{place} is {_shown(one)} from the pipeline, {_shown(other)} from serving"
    if isinstance(one, int | float) and isinstance(other, int | float):
        same = one == other or abs(one - other) <= tolerance or (one != one and other != other)  # noqa: PLR0124 - NaN
        # repr, not four digits: the difference may be in the last place.
        return "" if same else f"{place} is {one!r} from the pipeline, {other!r} from serving"
    if type(one) is type(other) and one == other:
        return ""
    return f"{place} is {_shown(one)} from the pipeline, {_shown(other)} from serving"


def _shown(value: object) -> str:
    return f"text of {len(value)} characters" if isinstance(value, str) else show(value)
