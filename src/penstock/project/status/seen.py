"""Findings of monitors as lines: the newest window of each, what is beyond the alarm budget first."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penstock.monitoring.findings import Kind
from penstock.project.status.facts import Facts
from penstock.project.status.records import Line
from penstock.project.status.words import ago
from penstock.store.ledger.windows import KeptWindow

MOST = 5


def newest_with_rows(seen: Sequence[KeptWindow]) -> KeptWindow | None:
    """Return the newest window in which there was something to look at."""
    return next((window for window in seen if window.rows or window.findings), None)


def lines_of(
    monitors: Mapping[str, Sequence[KeptWindow]], kinds: frozenset[Kind], facts: Facts, *, most: int = MOST
) -> Iterator[Line]:
    """Yield a line per finding of some kinds in the newest window of each monitor, alarms first."""
    found: list[tuple[KeptWindow, dict[str, Any]]] = []
    for seen in monitors.values():
        window = newest_with_rows(seen)
        if window is not None:
            found += [(window, finding) for finding in window.findings if finding.get("kind") in kinds]
    found.sort(key=lambda one: (not one[1].get("is_alarm"), -abs(float(one[1].get("effect") or 0.0))))
    for window, finding in found[:most]:
        yield line_of(window, finding, facts)


def line_of(window: KeptWindow, finding: Mapping[str, Any], facts: Facts) -> Line:
    """Return a finding as a line that leads to its alert, or to the windows."""
    is_alarm = bool(finding.get("is_alarm"))
    said = str(finding.get("said") or f"{finding.get('kind')} of {finding.get('subject')}")
    figures = {
        "monitor": window.monitor,
        "start_at": window.start_at,
        "end_at": window.end_at,
        "rows": window.rows,
        "finding": dict(finding),
    }
    return Line(
        verdict="look" if is_alarm else "fine",
        said=f"{said.rstrip('.')} (window to {ago(window.end_at, facts.now)})",
        leads_to=f"penstock alerts {facts.pipeline}" if is_alarm else "",
        figures=figures,
    )
