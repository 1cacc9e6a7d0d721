"""An alert as a value: what was found, since when, and how it stands; and which findings are of one cause.

Belongs here: records and the families of findings. How an alert changes: `judging`.
"""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from penstock.core.records import Record
from penstock.monitoring.findings import Finding, Kind
from penstock.store.ledger.alerts import Alert

# Of one monitor in one window these have one cause, whatever number of columns show it.
FAMILY: dict[Kind, str] = {
    "schema": "schema",
    "broken_feed": "feed",
    "stale_data": "feed",
    "data_drift": "drift",
    "missing": "drift",
    "range": "drift",
    "new_category": "drift",
    "prediction_drift": "answers",
    "feature_equality": "equality",
    "quality": "quality",
    "slice_quality": "quality",
    "errors": "service",
    "latency": "service",
    "fallbacks": "service",
    "numeric": "numeric",
    "stale_model": "stale",
    "cost": "cost",
}
# What follows from what: the later is joined to an open alert of the earlier, of the same pipeline and time.
FOLLOWS: dict[str, tuple[str, ...]] = {
    "schema": ("intake",),
    "feed": ("intake", "schema"),
    "drift": ("intake", "schema", "feed"),
    "answers": ("schema", "feed", "drift", "equality", "numeric"),
    "quality": ("schema", "feed", "drift", "equality", "numeric", "answers"),
    "stale": ("intake", "feed", "quarantine", "retrain"),
    "retrain": ("intake",),
    "quarantine": ("retrain",),
}
# Upstream first, so that of two that begin in one window the one that follows finds the other open.
RANK = {
    name: place
    for place, name in enumerate((
        *("intake", "retrain", "quarantine", "schema", "feed", "drift", "equality", "numeric"),
        *("answers", "quality", "service", "stale", "cost"),
    ))
}  # fmt: skip
MOST_KEPT = 64
_MOST_SUBJECTS = 12


class Fact(Record, frozen=True, kw_only=True):
    """Something that stands, and that no window found: a quarantine, a feed that is refused.

    Attributes:
        kind: As "quarantine", "intake", "refused".
        mark: Names this time of it: told twice, it is the same; the next failure is another.
        at: When that was.
    """

    kind: str
    subject: str
    mark: str
    at: datetime
    said: str
    evidence: dict[str, Any] = {}


class What(Record, frozen=True, kw_only=True):
    """One thing that was found, by a window or as a fact; see `monitoring.findings.Finding`."""

    kind: str
    subject: str
    said: str
    effect: float = 0.0
    p: float | None = None
    detectable: float | None = None
    evidence: dict[str, Any] = {}


class Joined(Record, frozen=True, kw_only=True):
    """What follows from an alert and is therefore none of its own.

    Attributes:
        since: Start of the first window in which it was seen.
        until: End of the newest one.
    """

    kind: str
    subject: str
    said: str
    since: datetime
    until: datetime


class Found(Record, frozen=True, kw_only=True):
    """What an alert rests on.

    Attributes:
        since: Start of the first window in which it was found.
        until: End of the newest one.
        worst: The finding of the largest effect of all windows; of a fact, the newest.
        moved: What was found in the newest window, the largest effect first, without evidence.
        subjects: How many things that was.
        marks: Largest effect by start of the window in which it was found; the newest of them.
        clean: Starts of the windows since in which nothing was found.
        heard_at: When its monitor last spoke.
        budget: Most false drift alarms per window that policy puts up with; None where nothing was tested.
        joined: What follows from it, by cause.
        follows: The alert, as "a3", that was open when this began and was over when it was found.
        returns: How often it came back soon after it was resolved.
        ended: Why it was resolved.
    """

    since: datetime
    until: datetime
    worst: What
    heard_at: datetime
    moved: tuple[What, ...] = ()
    subjects: int = 1
    marks: dict[str, float] = {}
    clean: tuple[str, ...] = ()
    budget: float | None = None
    joined: dict[str, Joined] = {}
    follows: str | None = None
    returns: int = 0
    ended: str = ""


class Done(Record, frozen=True, kw_only=True):
    """What happened to an alert: "opened", "came back", "joined", "resolved"."""

    at: datetime
    what: str
    said: str = ""


class Case(Record, frozen=True, kw_only=True):
    """An alert with what it rests on; `id` 0 is not recorded yet."""

    pipeline: str
    kind: str
    subject: str
    raised_at: datetime
    seen_at: datetime
    found: Found
    id: int = 0
    is_open: bool = True
    resolved_at: datetime | None = None
    release: str | None = None
    windows: int = 1
    done: tuple[Done, ...] = ()

    @property
    def key(self) -> str:
        """What makes it this cause."""
        return f"{self.kind} {self.subject}"


def what_of(found: Finding | Fact) -> What:
    """Return a finding or a fact as an alert keeps it."""
    if isinstance(found, Fact):
        return What(kind=found.kind, subject=found.subject, said=found.said, evidence=found.evidence)
    said = {name: getattr(found, name) for name in What.__struct_fields__}
    # What has no size is neither larger nor smaller than anything; NaN would differ even from itself.
    return What(**said | {"effect": 0.0 if math.isnan(found.effect) else found.effect})


def ranked(findings: Sequence[Finding]) -> tuple[What, ...]:
    """Return findings by size, the largest first."""
    return tuple(sorted((what_of(f) for f in findings), key=lambda one: (-abs(one.effect), one.subject)))


def shortened(found: tuple[What, ...]) -> tuple[What, ...]:
    """Return the first dozen without their evidence."""
    return tuple(msgspec.structs.replace(one, evidence={}) for one in found[:_MOST_SUBJECTS])


def case_of(alert: Alert) -> Case:
    """Return an alert as recorded as a value."""
    return Case(
        id=alert.id,
        pipeline=alert.pipeline,
        kind=alert.kind,
        subject=alert.subject,
        is_open=alert.state == "open",
        raised_at=alert.raised_at,
        seen_at=alert.seen_at,
        resolved_at=alert.resolved_at,
        release=alert.release,
        windows=alert.windows,
        found=msgspec.convert(alert.finding, Found),
        done=msgspec.convert(alert.actions, tuple[Done, ...]),
    )


def alert_of(case: Case) -> Alert:
    """Return a case as it is recorded."""
    return Alert(
        id=case.id,
        pipeline=case.pipeline,
        kind=case.kind,
        subject=case.subject,
        state="open" if case.is_open else "resolved",
        raised_at=case.raised_at,
        seen_at=case.seen_at,
        resolved_at=case.resolved_at,
        release=case.release,
        windows=case.windows,
        finding=msgspec.to_builtins(case.found),
        actions=msgspec.to_builtins(case.done),
    )
