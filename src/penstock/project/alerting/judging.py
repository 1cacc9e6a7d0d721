"""How windows open, refresh, join and resolve alerts: pure, and the same for windows that are told twice.

An alert that comes back soon is the same one and needs twice as many clean windows the next time: so one cause that
comes and goes is heard of less and less often.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from penstock.monitoring.findings import Finding, Window
from penstock.project.alerting.cases import (
    FAMILY,
    FOLLOWS,
    MOST_KEPT,
    RANK,
    Case,
    Done,
    Fact,
    Found,
    Joined,
    What,
    ranked,
    shortened,
    what_of,
)

CLEAN = 2  # windows in a row without it, after which an alert is resolved
_MOST_CLEAN = 8
SOON = 5  # windows after the last one in which it was found: within that it is the same cause again
SOON_AGAIN = timedelta(days=1)  # the same for what no window found
SILENT = timedelta(days=14)  # after which nobody looks any more, and an alert says nothing
# Monitors for which a window without rows is no news of any kind: nothing was looked at.
_NEEDS_ROWS = frozenset({"drift", "answers", "quality", "equality", "numeric", "service"})
FACTS = ("intake", "retrain", "refused", "budget", "quarantine", "lost", "look", "slower")


@dataclass(frozen=True, slots=True)
class Alarm:
    """What one window shows of one family: the largest first."""

    window: Window
    family: str
    here: tuple[What, ...]

    @property
    def key(self) -> str:
        """The cause."""
        return f"{self.family} {self.window.monitor}"

    @property
    def mark(self) -> str:
        """The window, as alerts name it."""
        return self.window.start.isoformat()


class Verdict:
    """Cases as they come to stand, and what people are to hear of them; used while one set of windows is judged.

    Attributes:
        before: The newest case of every cause of one pipeline as recorded, open or resolved, by key.
        cases: As they stand now; new ones have id 0.
        told: Events by key: "opened", "resolved", "opened#2" (it came back), "joined:quality quality:watched".
        past: Cases after which their cause began anew within these windows, each with its events.
    """

    def __init__(self, pipeline: str, cases: Mapping[str, Case], now: datetime) -> None:
        self.pipeline = pipeline
        self.before = dict(cases)
        self.cases = dict(cases)
        self.told: dict[str, list[str]] = {}
        self.past: list[tuple[Case, list[str]]] = []
        self.now = now

    def put(self, case: Case, event: str = "", said: str = "") -> None:
        """Let a case stand; with an event, tell of it."""
        if event:
            again = case.found.returns
            word = "came back" if again and event == "opened" else event.partition(":")[0]
            case = replace(case, done=(*case.done, Done(at=self.now, what=word, said=said)))
            self.told.setdefault(case.key, []).append(f"{event}#{again + 1}" if again else event)
        self.cases[case.key] = case

    def open(self, kind: str, subject: str, found: Found, release: str | None) -> None:
        """Open a new alert, in the place of an older one of the same cause."""
        older = self.cases.get(f"{kind} {subject}")
        if older is not None and older != self.before.get(older.key):
            self.past.append((older, self.told.pop(older.key, [])))
        case = Case(
            pipeline=self.pipeline,
            kind=kind,
            subject=subject,
            raised_at=self.now,
            seen_at=self.now,
            release=release,
            found=found,
        )
        self.put(case, "opened", found.worst.said)


def judge(verdict: Verdict, windows: Sequence[Window], *, budget: float | None = None) -> Verdict:
    """Say what follows from windows.

    Args:
        verdict: With the newest case of every cause of one pipeline, open or resolved.
        windows: In any order; told twice, nothing changes.
        budget: Most false drift alarms per window that policy puts up with.

    Returns:
        The verdict: changed cases replaced, new ones with id 0, and what people are to hear.
    """
    now = verdict.now
    for window in sorted(windows, key=lambda w: (w.start, _rank(w), w.monitor)):
        alarms = _alarms(window)
        for alarm in alarms:
            _alarm(verdict, alarm, budget)
        present = {alarm.family for alarm in alarms}
        for case in [c for c in verdict.cases.values() if c.is_open and c.subject == window.monitor]:
            if case.kind not in present:
                _clean(verdict, case, window)
    for case in [c for c in verdict.cases.values() if c.is_open and c.kind not in FACTS]:
        if now - case.found.heard_at > SILENT:
            _resolve(verdict, case, f"nothing was heard of {case.subject} for {SILENT.days} days")
    return verdict


def needed(found: Found) -> int:
    """Return how many clean windows in a row resolve an alert: twice as many each time it came back."""
    return min(CLEAN << min(found.returns, 10), _MOST_CLEAN)


def _rank(window: Window) -> int:
    # A clean one first: what it resolves is over before anything that would follow from it.
    return min((RANK[FAMILY[f.kind]] for f in window.findings if f.is_alarm), default=-1)


def _alarms(window: Window) -> list[Alarm]:
    families: dict[str, list[Finding]] = {}
    for finding in window.findings:
        if finding.is_alarm:
            families.setdefault(FAMILY[finding.kind], []).append(finding)
    return [Alarm(window, family, ranked(families[family])) for family in sorted(families, key=lambda f: RANK[f])]


def _alarm(verdict: Verdict, alarm: Alarm, budget: float | None) -> None:
    kept, window, worst = verdict.cases.get(alarm.key), alarm.window, alarm.here[0]
    if (kept is not None and _is_known(kept, alarm)) or _is_joined(verdict, alarm):
        return
    if kept is not None and kept.is_open:
        verdict.put(_refreshed(kept, alarm, verdict.now))
        return
    parent = _upstream(verdict, alarm)
    if parent is not None and parent.is_open:
        joined = Joined(
            kind=alarm.family, subject=window.monitor, said=worst.said, since=window.start, until=window.end
        )
        _join(verdict, parent, joined)
        return
    if kept is not None and window.start - kept.found.until <= SOON * (window.end - window.start):
        verdict.put(_refreshed(_returned(kept), alarm, verdict.now), "opened", worst.said)
        return
    found = Found(
        since=window.start,
        until=window.end,
        worst=worst,
        heard_at=verdict.now,
        moved=shortened(alarm.here),
        subjects=len(alarm.here),
        marks={alarm.mark: worst.effect},
        budget=budget if worst.p is not None else None,
        follows=None if parent is None or not parent.id else f"a{parent.id}",
    )
    verdict.open(alarm.family, window.monitor, found, window.release)


def _returned(case: Case) -> Case:
    found = replace(case.found, returns=case.found.returns + 1, ended="", clean=())
    return replace(case, is_open=True, resolved_at=None, found=found)


def _is_known(case: Case, alarm: Alarm) -> bool:
    """Return whether an alert that is over had to do with this window, or with later ones than it."""
    if case.is_open:  # of the same cause, and long before this one began
        return case.found.since - alarm.window.end > SOON * (alarm.window.end - alarm.window.start)
    return alarm.mark in case.found.marks or alarm.window.end <= case.found.until


def _is_joined(verdict: Verdict, alarm: Alarm) -> bool:
    """Return whether this window is told under another alert, which may be over by now."""
    others = (case.found.joined.get(alarm.key) for case in verdict.cases.values())
    return any(one is not None and one.since <= alarm.window.start and alarm.window.end <= one.until for one in others)


def _refreshed(case: Case, alarm: Alarm, now: datetime) -> Case:
    found, window, worst = case.found, alarm.window, alarm.here[0]
    if found.marks.get(alarm.mark) == worst.effect and alarm.mark not in found.clean:
        return case  # told again
    is_worse = abs(worst.effect) > abs(found.worst.effect)
    is_newest = window.end >= found.until
    marks = dict(sorted((found.marks | {alarm.mark: worst.effect}).items())[-MOST_KEPT:])
    changed = replace(
        found,
        since=min(found.since, window.start),
        until=max(found.until, window.end),
        worst=worst if is_worse else found.worst,
        moved=shortened(alarm.here) if is_newest else found.moved,
        subjects=len(alarm.here) if is_newest else found.subjects,
        marks=marks,
        clean=tuple(start for start in found.clean if start > max(marks)),
        heard_at=max(found.heard_at, now),
    )
    windows = case.windows + (alarm.mark not in found.marks)
    return replace(case, found=changed, windows=windows, seen_at=now, release=window.release or case.release)


def _clean(verdict: Verdict, case: Case, window: Window) -> None:
    """Take note of a window without it; late rows may also undo one in which it was found."""
    found, mark = case.found, window.start.isoformat()
    if mark in found.marks:
        marks = {start: effect for start, effect in found.marks.items() if start != mark}
        after = replace(case, found=replace(found, marks=marks, heard_at=verdict.now), windows=len(marks))
        if marks:
            verdict.put(after)
        else:
            _resolve(verdict, after, "rows that came late undid it")
        return
    is_seen = window.rows > 0 or case.kind not in _NEEDS_ROWS
    if mark in found.clean or window.end <= found.until or not is_seen or not _could_see(case, window):
        return
    clean = (*found.clean, mark)
    after = replace(case, found=replace(found, clean=clean, heard_at=verdict.now))
    if len(clean) < needed(found):
        verdict.put(after)
        return
    _resolve(verdict, after, f"{len(clean)} windows in a row without it")


def _could_see(case: Case, window: Window) -> bool:
    """Return whether a window would have shown a change as large as the alert's, where it says what it can show."""
    said = [f.detectable for f in window.findings if f.subject == case.found.worst.subject and f.detectable is not None]
    size = abs(case.found.worst.effect)
    return not said or not size or min(said) <= size


def _resolve(verdict: Verdict, case: Case, why: str) -> None:
    over = replace(case, is_open=False, resolved_at=verdict.now, found=replace(case.found, ended=why))
    verdict.put(over, "resolved", why)


def _upstream(verdict: Verdict, alarm: Alarm) -> Case | None:
    """Return the alert that this follows from: an open one first, else one that was over before this was found."""
    kinds = FOLLOWS.get(alarm.family, ())
    near = [c for c in verdict.cases.values() if c.kind in kinds and c.key != alarm.key and _is_near(c, alarm.window)]
    return min(near, key=lambda c: (not c.is_open, RANK[c.kind], -c.found.until.timestamp()), default=None)


def _is_near(case: Case, window: Window) -> bool:
    length = window.end - window.start
    if case.kind in FACTS and case.is_open:
        return window.end > case.found.since
    return case.found.since < window.end and window.start <= case.found.until + length


def _join(verdict: Verdict, parent: Case, new: Joined) -> None:
    key = f"{new.kind} {new.subject}"
    known = parent.found.joined.get(key)
    if known is not None:
        is_newest = new.until > known.until
        since, until = min(known.since, new.since), max(known.until, new.until)
        new = replace(new, since=since, until=until, said=new.said if is_newest else known.said)
    if new == known:
        return
    after = replace(parent, found=replace(parent.found, joined=parent.found.joined | {key: new}))
    # Told once: that it goes on is what "open" says.
    verdict.put(after, "" if known is not None else f"joined:{key}", new.said)


def judge_facts(verdict: Verdict, facts: Sequence[Fact], scope: Collection[str]) -> Verdict:
    """Say what follows from what stands and no window found; what stands no more is resolved.

    Args:
        verdict: As in `judge`.
        facts: All that stand now, as far as was looked.
        scope: What was looked at: kinds, or whole causes ("look taking in rows"). Others stay as they are.
    """
    for fact in sorted(facts, key=lambda f: (RANK.get(f.kind, len(RANK)), f.subject)):
        _stands(verdict, fact)
    standing = {f"{fact.kind} {fact.subject}" for fact in facts}
    for case in [
        c
        for c in verdict.cases.values()
        if c.is_open and c.key not in standing and not {c.kind, c.key}.isdisjoint(scope)
    ]:
        _resolve(verdict, case, "it is over")
    return verdict


def _stands(verdict: Verdict, fact: Fact) -> None:
    kept = verdict.cases.get(f"{fact.kind} {fact.subject}")
    if kept is not None and kept.is_open:
        if fact.mark not in kept.found.marks:
            verdict.put(_again(kept, fact, verdict.now))
        return
    kinds = FOLLOWS.get(fact.kind, ())
    parent = next((c for c in verdict.cases.values() if c.is_open and c.kind in kinds), None)
    if parent is not None:
        joined = Joined(kind=fact.kind, subject=fact.subject, said=fact.said, since=fact.at, until=fact.at)
        _join(verdict, parent, joined)
        return
    if kept is not None and kept.resolved_at is not None and verdict.now - kept.resolved_at <= SOON_AGAIN:
        verdict.put(_again(_returned(kept), fact, verdict.now), "opened", fact.said)
        return
    found = Found(since=fact.at, until=fact.at, worst=what_of(fact), heard_at=verdict.now, marks={fact.mark: 0.0})
    verdict.open(fact.kind, fact.subject, found, None)


def _again(case: Case, fact: Fact, now: datetime) -> Case:
    kept = list((case.found.marks | {fact.mark: 0.0}).items())[-MOST_KEPT:]
    until = max(case.found.until, fact.at)
    found = replace(case.found, until=until, worst=what_of(fact), marks=dict(kept), heard_at=now)
    return replace(case, found=found, seen_at=now, windows=case.windows + (fact.mark not in case.found.marks))
