"""What an alert says: to people in a sentence, to programs as JSON, and what to type next.

No rows and no evidence leave this machine: a message has names, figures and commands, the values of slices, and what a
failing step said. `penstock why` has the rest.
"""

import math
from typing import Any

from penstock.core.records import Record
from penstock.project.alerting.cases import Found
from penstock.store.ledger.alerts import Alert

_WHAT = {
    "schema": "the schema changed",
    "feed": "rows are missing or late",
    "drift": "the data changed",
    "answers": "the answers changed",
    "equality": "served values differ from trained ones",
    "quality": "the quality fell",
    "service": "answers fail, fall back or are slow",
    "numeric": "numbers are not finite",
    "stale": "the model is too old",
    "cost": "it costs more than it should",
    "intake": "rows cannot be taken in",
    "retrain": "retrains fail",
    "refused": "the gate refused a retrain",
    "budget": "the budget stops retrains",
    "quarantine": "it keeps failing and is in quarantine",
    "lost": "the process of a retrain keeps dying",
    "look": "looking after it does not work",
    "rollout": "a candidate was taken back",
    "slower": "it takes more than it did",
}
_NEXT = {
    "schema": "penstock why {ref}, then mend the source or the dataset function",
    "feed": "penstock why {ref}, then ask whoever sends the rows",
    "drift": "penstock why {ref}, then penstock dispose {ref} --real or --noise",
    "answers": "penstock why {ref}, then penstock predictions {pipeline}",
    "equality": "penstock why {ref}, then penstock trace of one of its predictions",
    "quality": "penstock why {ref}, then penstock run {pipeline} where no retrain is under way",
    "service": "penstock why {ref}, then penstock predictions {pipeline} --failed",
    "numeric": "penstock why {ref}, then penstock trace of one of its predictions",
    "stale": "penstock tick --dry-run says what holds the retrain back",
    "cost": "penstock why {ref}",
    "intake": "penstock why {ref}, mend the source, then penstock tick",
    "retrain": "penstock show {run}, then mend the step and penstock run {pipeline}",
    "refused": "penstock show {run}, then mend what the check found, or the check",
    "budget": "raise budget in penstock.toml, or run it yourself: penstock run {pipeline}",
    "quarantine": "penstock runs, mend what fails, then penstock run {pipeline}",
    "lost": "penstock show {run}, then grant the step more memory in penstock.toml",
    "look": "penstock doctor, then penstock tick",
    "rollout": "penstock rollouts {pipeline}, then penstock diff of the two releases",
    "slower": "penstock why {ref}, then penstock show {run}",
}


class Summary(Record, frozen=True, kw_only=True):
    """An alert for programs.

    Attributes:
        what: One sentence.
        since: Start of the first window in which it was found, ISO 8601.
        effect: Largest effect, standardised; None where there is none.
        p: Chance of a change this large by ordinary variation; None where nothing was tested.
        budget: Most false drift alarms per window that policy puts up with.
        moved: Sentences about what was found in the newest window, the largest first.
        subjects: How many things that was.
        also_seen: Sentences about what follows from it.
        done: What happened to it, oldest first.
        next: What to do, with the command.
    """

    alert: str
    pipeline: str
    kind: str
    subject: str
    state: str
    what: str
    since: str
    raised_at: str
    seen_at: str
    resolved_at: str | None
    release: str | None
    windows: int
    effect: float | None
    p: float | None
    budget: float | None
    moved: list[str]
    subjects: int
    also_seen: list[str]
    done: list[str]
    next: str


def headline(alert: Alert, found: Found) -> str:
    """Return "movies: the data changed (data:ratings, 5 columns)"."""
    more = f" and {found.subjects - 1} more" if found.subjects > 1 else ""
    over = "RESOLVED " if alert.state == "resolved" else ""
    return clean(f"{over}{alert.pipeline}: {_WHAT.get(alert.kind, alert.kind)} ({found.worst.subject}{more})")


def next_step(alert: Alert, found: Found) -> str:
    """Return what to do next, with the command."""
    if alert.state == "resolved":
        if alert.disposition is None:
            return f"penstock dispose {alert.ref} --real or --noise, so that its precision is known"
        return "nothing"
    run = str(found.worst.evidence.get("run", "")) or "PIPELINE"
    said = _NEXT.get(alert.kind, "penstock why {ref}")
    return said.format(ref=alert.ref, pipeline=alert.pipeline, run=alert.pipeline if run == "PIPELINE" else run)


def summary(alert: Alert, found: Found, done: list[str]) -> Summary:
    """Return an alert as it is sent and as `penstock alerts --json` says it."""
    return Summary(
        alert=alert.ref,
        pipeline=alert.pipeline,
        kind=alert.kind,
        subject=clean(alert.subject),
        state=alert.state,
        what=clean(found.worst.said),
        since=found.since.isoformat(),
        raised_at=alert.raised_at.isoformat(),
        seen_at=alert.seen_at.isoformat(),
        resolved_at=None if alert.resolved_at is None else alert.resolved_at.isoformat(),
        release=alert.release,
        windows=alert.windows,
        effect=_finite(found.worst.effect),
        p=_finite(found.worst.p),
        budget=found.budget,
        moved=[clean(one.said) for one in found.moved],
        subjects=found.subjects,
        also_seen=[clean(f"{one.subject}: {one.said}") for one in found.joined.values()],
        done=[clean(one) for one in done],
        next=next_step(alert, found),
    )


def lines(said: Summary) -> list[str]:
    """Return an alert as lines of plain text."""
    sure = f"p = {said.p:.2g}, corrected for all that was looked at" if said.p is not None else ""
    budget = f"at most {said.budget:g} false alarms per window" if said.budget is not None else ""
    rows = [
        ("what", said.what),
        ("since", f"{said.since}, in {said.windows} window{'' if said.windows == 1 else 's'}"),
        ("how sure", "; ".join(part for part in (sure, budget) if part)),
        ("release", said.release or ""),
        ("also", "; ".join(said.moved[1:])),
        ("also seen", "; ".join(said.also_seen)),
        ("done", "; ".join(said.done)),
        ("next", said.next),
    ]
    return [f"{name + ':':<11}{text}" for name, text in rows if text]


def clean(text: str) -> str:
    """Return text that every channel can carry: one line, no control characters, no lone surrogates."""
    plain = text.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else " " for letter in plain)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
