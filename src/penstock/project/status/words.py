"""How times, counts and numbers are said in the lines of a status: short, and the same everywhere."""

from datetime import datetime
from typing import Any

_STEPS = ((60.0, "s"), (3600.0, "min"), (2 * 86_400.0, "h"), (float("inf"), "d"))
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def span(seconds: float) -> str:
    """Return "45 s", "12 min", "5 h", "3 d"."""
    unit = next(name for limit, name in _STEPS if abs(seconds) < limit)
    return f"{seconds / _UNITS[unit]:.0f} {unit}"


def ago(moment: datetime, now: datetime) -> str:
    """Return "5 h ago"; a moment to come is said as the time itself."""
    age_s = (now - moment).total_seconds()
    return f"{span(age_s)} ago" if age_s >= 0 else at(moment)


def at(moment: datetime) -> str:
    """Return "2026-03-01 04:00 UTC"."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def counted(count: int, noun: str) -> str:
    """Return "1 row", "1,203 rows"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def number(value: float) -> str:
    """Return four digits that matter: "0.03451", "12.5", "1,204"."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def money(value: float) -> str:
    """Return "1,204.50", "under 0.01", in whatever currency policy counts."""
    if 0 < abs(value) < 0.01:
        return "under 0.01"
    return f"{value:,.2f}"


def within(mean: float | None, low: float | None, high: float | None) -> str:
    """Return "0.0345 (0.0331 to 0.0360)"."""
    if mean is None:
        return "not finite"
    if low is None or high is None:
        return f"{number(mean)} (interval not known)"
    return f"{number(mean)} ({number(low)} to {number(high)})"


def found(evidence: dict[str, Any], *names: str) -> float | None:
    """Return the first number that evidence has under one of some names."""
    values = (evidence.get(name) for name in names)
    return next((float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)), None)
