"""Whether data and model are as fresh as they ordinarily are: ages against the waits there were before."""

from collections.abc import Sequence
from datetime import timedelta

from penstock.monitoring.findings import Finding

_FEWEST = 3
_HOUR_S, _DAY_S = 3600, 86_400
# A feed that keeps its hours is missed soon; one that comes when it comes is given the time of some ordinary waits.
_REGULAR, _LATE, _VERY_LATE = 1.5, 1.5, 2.5
_ORDINARY = 0.95
# A model is old when half as many rows again have come as it was made from, or long after the next one was to be there.
_GROWN, _OLD = 0.5, 3.0


def ordinary_wait(waits: Sequence[timedelta]) -> timedelta | None:
    """Return how long one ordinarily waits at most; None before three waits are known.

    One in twenty was longer: a feed that was down once must not hide the next time.
    """
    if len(waits) < _FEWEST:
        return None
    return max(sorted(waits)[_place(len(waits))], timedelta(0))


def stale_data(dataset: str, age: timedelta, waits: Sequence[timedelta]) -> list[Finding]:
    """Return a finding when the newest row of a dataset is older than it ordinarily gets.

    Args:
        dataset: Its name.
        age: How old its newest row is.
        waits: How old it was each time that newer ones came.
    """
    usual = ordinary_wait(waits)
    if usual is None or usual <= timedelta(0):
        return []
    middle = sorted(waits)[len(waits) // 2]
    factor = _LATE if usual <= middle * _REGULAR else _VERY_LATE
    if age <= usual * factor:
        return []
    return [
        Finding(
            kind="stale_data",
            subject=dataset,
            is_alarm=True,
            effect=age / usual,
            said=f"The newest row of {dataset!r} is {_said(age)} old; ordinarily others come within {_said(usual)}.",
            evidence={"age_s": age.total_seconds(), "usual_s": usual.total_seconds(), "waits": len(waits)},
        )
    ]


def stale_model(
    release: str, age: timedelta, gaps: Sequence[timedelta], *, trained_rows: int, new_rows: int
) -> list[Finding]:
    """Return a finding when a release is old: much has come that it does not know, or its successor is long overdue.

    Args:
        release: "movies@3".
        age: Since it was made.
        gaps: Between earlier releases.
        trained_rows: Rows it was made from.
        new_rows: Rows that came since.
    """
    grown = new_rows / max(trained_rows, 1)
    usual = max(gaps) if len(gaps) >= _FEWEST else None
    is_overdue = usual is not None and new_rows > 0 and age > usual * _OLD
    if grown < _GROWN and not is_overdue:
        return []
    came = f"{new_rows} rows came since, after the {trained_rows} it was made from"
    late = "" if usual is None else f"; there was never more than {_said(usual)} between two releases"
    return [
        Finding(
            kind="stale_model",
            subject=release,
            is_alarm=True,
            effect=max(grown / _GROWN, 0.0 if usual is None else age / (usual * _OLD)),
            said=f"{release} is {_said(age)} old: {came}{late}.",
            evidence={"age_s": age.total_seconds(), "trained_rows": trained_rows, "new_rows": new_rows},
        )
    ]


def cost_of_retrains(cpu_s: Sequence[float], *, cpu_hour: float, subject: str) -> list[Finding]:
    """Return what the runs of a window cost; nothing where there were none, or where CPU has no price."""
    if not cpu_s or not cpu_hour:
        return []
    cost = sum(cpu_s) / _HOUR_S * cpu_hour
    said = f"{len(cpu_s)} runs of {subject!r} used {sum(cpu_s):.0f} CPU seconds, which cost {cost:g}."
    evidence = {"runs": len(cpu_s), "cpu_s": sum(cpu_s), "cpu_hour": cpu_hour}
    return [Finding(kind="cost", subject=subject, is_alarm=False, effect=cost, said=said, evidence=evidence)]


def _place(count: int) -> int:
    return min(int(_ORDINARY * (count - 1) + 0.5), count - 1)


def _said(age: timedelta) -> str:
    seconds = age.total_seconds()
    return f"{seconds / _DAY_S:.1f} days" if seconds >= 2 * _DAY_S else f"{seconds / _HOUR_S:.1f} hours"
