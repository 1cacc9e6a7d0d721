"""Whether numbers lie where numbers of that column always lay: a scale that ends at ten has no eleven."""

from collections.abc import Sequence

from penstock.monitoring.drift.variation import FEWEST
from penstock.monitoring.findings import Finding
from penstock.monitoring.profiles.numbers import Numbers
from penstock.monitoring.profiles.profile import Profile

# An end that this share of windows touches exactly is the end of a scale, and not merely the largest value so far.
_TOUCHED = 0.9
# Beyond an end that is not one of a scale, only another order of magnitude says something: tails grow with time.
_FAR = 10.0


def out_of_range(before: Sequence[Profile], window: Profile, *, subject: str) -> list[Finding]:
    """Return the columns with values beyond where they always lay; none while there are few earlier windows.

    Args:
        before: Ordinary windows.
        window: The one in question.
        subject: Name of the dataset or function.
    """
    if len(before) < FEWEST:
        return []
    found = []
    for name, column in window.columns.items():
        usual = [one.columns[name].numbers for one in before if name in one.columns]
        there = [numbers for numbers in usual if numbers is not None and numbers.count]
        if column.numbers is None or not column.numbers.count or len(there) < FEWEST:
            continue
        # By their negatives, the smallest values are judged as the largest are.
        beyond = _beyond(_highs(there), _lows(there), _high(column.numbers))
        below = _beyond([-low for low in _lows(there)], [-high for high in _highs(there)], -_low(column.numbers))
        if beyond or below:
            found.append(_finding(name, column.numbers, there, subject))
    return found


def _beyond(highs: list[float], lows: list[float], value: float) -> bool:
    high = max(highs)
    if value <= high:
        return False
    if sum(one == high for one in highs) >= _TOUCHED * len(highs):
        return True
    return value - high > _FAR * (high - min(lows))


def _finding(name: str, numbers: Numbers, usual: list[Numbers], subject: str) -> Finding:
    low, high = min(_lows(usual)), max(_highs(usual))
    span = high - low or 1.0
    effect = max(_high(numbers) - high, low - _low(numbers)) / span
    said = (
        f"{name!r} of {subject!r} lies between {_low(numbers):g} and {_high(numbers):g}; "
        f"in {len(usual)} earlier windows it lay between {low:g} and {high:g}."
    )
    return Finding(
        kind="range",
        subject=f"{subject}.{name}",
        is_alarm=True,
        effect=effect,
        said=said,
        evidence={"before": {"low": low, "high": high}, "after": {"low": _low(numbers), "high": _high(numbers)}},
    )


def _highs(profiles: Sequence[Numbers]) -> list[float]:
    return [_high(one) for one in profiles]


def _lows(profiles: Sequence[Numbers]) -> list[float]:
    return [_low(one) for one in profiles]


def _high(numbers: Numbers) -> float:
    return 0.0 if numbers.high is None else numbers.high


def _low(numbers: Numbers) -> float:
    return 0.0 if numbers.low is None else numbers.low
