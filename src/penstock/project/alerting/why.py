"""The way back from an alert: to the columns and windows, the rows that came, the release and its code, the answers.

Each thing that changed in time to be the reason is a suspect, named with the command that shows it.
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.errors import PenstockError
from penstock.core.records import DatasetVersion, Record
from penstock.core.refs import ReleaseRef, parse_ref
from penstock.project.alerting.cases import Case, What, case_of
from penstock.project.alerting.listing import Shown, show_alert
from penstock.project.alerting.words import headline
from penstock.project.comparing import diff
from penstock.project.workspace import Workspace
from penstock.releases.compare import Difference
from penstock.store.ledger import alerts, datasets, events, windows

_PREDICTION = re.compile(r"p[0-9a-f]{32}(-[0-9]+)?")
_MOST = 10
_MOST_EVENTS = 200
_BEFORE = 2  # windows before the first one in which it was found: what changed within them may be the reason


class Came(Record, frozen=True, kw_only=True):
    """Rows that came to a dataset in the time of an alert.

    Attributes:
        changes: How columns and contract differ from the version before.
    """

    dataset: str
    taken_at: datetime
    rows_added: int
    rows_quarantined: int
    reasons: dict[str, int]
    changes: list[str]


class Went(Record, frozen=True, kw_only=True):
    """A release that went live in the time of an alert.

    Attributes:
        before: What was live until then.
        changes: What it changed: files, parameters, packages, by name.
        command: Shows all of it.
    """

    release: str
    before: str | None
    at: datetime
    by: str
    changes: list[str]
    command: str


class Looked(Record, frozen=True, kw_only=True):
    """A window in which it was found."""

    start: datetime
    end: datetime
    rows: int
    release: str | None
    said: list[str]


class Why(Record, frozen=True, kw_only=True):
    """An alert, walked back.

    Attributes:
        worst: What was found where it was largest, with the evidence: before and after, counts, ids.
        moved: What else was found in the newest window.
        windows: In which it was found, newest last.
        data: What came in that time.
        releases: What went live in that time.
        beside: Other alerts of that time.
        examples: Ids of answers in the evidence, each with its command.
        suspects: What may be the reason, likeliest first.
    """

    alert: Shown
    worst: What
    moved: tuple[What, ...]
    windows: tuple[Looked, ...]
    data: tuple[Came, ...]
    releases: tuple[Went, ...]
    beside: tuple[str, ...]
    examples: tuple[str, ...]
    suspects: tuple[str, ...]


def why(workspace: Workspace, reference: str) -> Why:
    """Walk back from an alert.

    Args:
        workspace: The project.
        reference: "a7".

    Raises:
        InputError: The text is no alert.
        NotFoundError: There is no such alert.
    """
    number = alerts.parse_alert(reference)
    with workspace.ledger.read() as conn:
        alert = alerts.get(conn, number)
        case, shown = case_of(alert), show_alert(conn, alert)
        looked = _windows(conn, case)
        length = looked[0].end - looked[0].start if looked else timedelta(days=1)
        since = case.found.since - _BEFORE * length
        data = list(_data(conn, case, since))
        changed = [e for e in events.page(conn, target=case.pipeline, limit=_MOST_EVENTS) if _is_change(e, since, case)]
        beside = [one for one in alerts.page(conn, pipeline=case.pipeline, limit=_MOST_EVENTS) if _is_beside(one, case)]
    went = tuple(_went(workspace, event) for event in changed[::-1])
    others = tuple(f"{one.ref} {headline(one, case_of(one).found)}" for one in beside[:_MOST])
    return Why(
        alert=shown,
        worst=case.found.worst,
        moved=case.found.moved,
        windows=tuple(looked[-_MOST:]),
        data=tuple(data),
        releases=went,
        beside=others,
        examples=tuple(dict.fromkeys(_predictions([case.found.worst.evidence, *(w.said for w in looked)])))[:_MOST],
        suspects=tuple(_suspects(case, data, went, others)),
    )


def _windows(conn: sa.Connection, case: Case) -> list[Looked]:
    kept = windows.page(conn, case.pipeline, case.subject, since=case.found.since, before=case.found.until)
    marked = [w for w in kept if w.start_at.isoformat() in case.found.marks]
    return [
        Looked(
            start=w.start_at,
            end=w.end_at,
            rows=w.rows,
            release=w.release,
            said=[str(f.get("said", "")) for f in w.findings if f.get("is_alarm")],
        )
        for w in marked
    ]


def _data(conn: sa.Connection, case: Case, since: datetime) -> Iterator[Came]:
    own = case.subject.removeprefix("data:")
    for pipeline, dataset in datasets.names(conn):
        if pipeline != case.pipeline or (case.subject.startswith("data:") and dataset != own):
            continue
        known = datasets.versions(conn, pipeline, dataset)
        for before, after in zip([None, *known], known, strict=False):
            if after.taken_at is not None and since <= after.taken_at <= case.seen_at:
                yield _came(before, after, after.taken_at)


def _came(before: DatasetVersion | None, after: DatasetVersion, taken_at: datetime) -> Came:
    changes: list[str] = []
    if before is not None:
        old, new = dict(before.schema), dict(after.schema)
        changes += [f"column {name} is gone" for name in old if name not in new]
        changes += [f"column {name} is new" for name in new if name not in old]
        changes += [f"column {n} was {old[n]} and is {new[n]}" for n in new if n in old and old[n] != new[n]]
        changes += ["the contract changed"] if before.contract != after.contract else []
    return Came(
        dataset=str(after),
        taken_at=taken_at,
        rows_added=after.rows_added,
        rows_quarantined=after.rows_quarantined,
        reasons=after.reasons,
        changes=changes,
    )


def _is_change(event: events.Event, since: datetime, case: Case) -> bool:
    return event.action == "endpoint.changed" and since <= event.at <= case.seen_at


def _went(workspace: Workspace, event: events.Event) -> Went:
    before, after = event.details.get("before"), str(event.details.get("after"))
    command, changes = f"penstock show {after}", []
    if before is not None and isinstance(parse_ref(str(before)), ReleaseRef):
        command = f"penstock diff {before} {after}"
        try:
            changes = list(_changes(diff(workspace, str(before), after)))
        except PenstockError as error:
            changes = [f"they could not be compared: {error.message}"]
    return Went(
        release=after,
        before=None if before is None else str(before),
        at=event.at,
        by=event.actor,
        changes=changes,
        command=command,
    )


def _changes(found: Difference) -> Iterator[str]:
    yield from (f"code: {change.path} {change.change}" for change in found.code)
    for what in ("params", "policy", "environment", "data"):
        rows = getattr(found, what)
        if rows:
            names = ", ".join(row.name for row in rows[:_MOST])
            yield f"{what}: {names}{f' and {len(rows) - _MOST} more' if len(rows) > _MOST else ''}"
    moved = [change for change in found.predictions if change.changed]
    yield from (f"answers: {c.changed:,} of {c.common:,} of {c.subject} changed" for c in moved)


def _is_beside(other: alerts.Alert, case: Case) -> bool:
    if other.id == case.id:
        return False
    found = case_of(other).found
    return found.since <= case.found.until and case.found.since <= found.until


def _predictions(value: Any) -> Iterator[str]:
    match value:
        case str() if _PREDICTION.fullmatch(value):
            yield value
        case dict():
            for item in value.values():
                yield from _predictions(item)
        case list() | tuple():
            for item in value:
                yield from _predictions(item)


def _suspects(case: Case, data: list[Came], went: tuple[Went, ...], beside: tuple[str, ...]) -> Iterator[str]:
    if case.found.follows is not None:
        yield f"it follows from {case.found.follows}, which was open at that time: penstock why {case.found.follows}"
    if case.kind == "slower":
        yield from _between(case.found.worst.evidence)
    for release in went:
        own = [change for change in release.changes if not change.startswith(("data:", "answers:"))]
        said = f"it changed {'; '.join(own[:3])}" if own else "only its data changed"
        yield f"{release.release} went live at {release.at:%Y-%m-%d %H:%M}; {said}: {release.command}"
    for came in data:
        if came.changes:
            yield f"{came.dataset}: {'; '.join(came.changes)}"
        if came.rows_quarantined:
            reasons = ", ".join(f"{reason} ({count})" for reason, count in came.reasons.items())
            yield f"{came.dataset} set {came.rows_quarantined} of its rows aside: {reasons}"
    yield from (f"at the same time: {other}" for other in beside[:3])
    if not went and not any(came.changes or came.rows_quarantined for came in data) and case.found.follows is None:
        yield "no release, schema or contract changed here in that time: look at where the rows come from"


def _between(evidence: dict[str, Any]) -> Iterator[str]:
    """Return what lies between the last quick run and the first slow one."""
    run, before, commits = evidence["run"], evidence["before"], str(evidence["commits"])
    yield from (f"with {run}: {said}" for said in evidence["changed"])
    if ".." in commits:
        yield f"commits {commits}: git log {commits.partition(' ')[0]}"
    elif commits:
        yield f"both ran at commit {commits}"
    yield f"all that differs: penstock diff {before} {run}"


def example_commands(found: Why) -> list[str]:
    """Return the commands that explain the answers in the evidence."""
    return [f"penstock trace {one}" for one in found.examples]


def encode(found: Why) -> dict[str, Any]:
    """Return it as plain JSON, with the commands."""
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain | {"commands": example_commands(found)}
