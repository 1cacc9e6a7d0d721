"""How the policy dealt with planted faults: detected by which alert, contained by what, explained in which words.

Read from what the rehearsal recorded: its alerts, its releases, its dataset versions and its answers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from penstock.project.alerting.cases import Case, case_of
from penstock.project.alerting.why import why
from penstock.project.targets import find_graph
from penstock.project.workspace import Workspace
from penstock.store.ledger import alerts
from penstock.worker.rehearsal.compare import mean_of
from penstock.worker.rehearsal.faults.files import said
from penstock.worker.rehearsal.faults.ground import source_of
from penstock.worker.rehearsal.faults.plans import Fault, FaultName, lay_out
from penstock.worker.rehearsal.records import Plan, Quality
from penstock.worker.rehearsal.report.collect import Facts
from penstock.worker.rehearsal.report.records import PlantedTold
from penstock.worker.rehearsal.report.words import counted, measured

# Which alerts speak of a fault; an alert of any other kind at the same time is not counted as its detection.
_SPEAKS: dict[FaultName, frozenset[str]] = {
    "feed": frozenset({"feed", "intake", "stale"}),
    "genre": frozenset({"drift", "quality"}),
    "burst": frozenset({"service", "cost"}),
    "schema": frozenset({"intake", "schema", "look"}),
    "bad_release": frozenset({"answers", "equality", "numeric", "quality", "refused"}),
}
# Steps after its end in which an alert may still be its: truth comes late, windows close at their end.
_GRACE: dict[FaultName, int] = {"feed": 1, "genre": 2, "burst": 2, "schema": 1, "bad_release": 21}
# Raised by what a look itself found, at its moment: that of the end of a step.
_STANDING = frozenset({"intake", "refused", "look"})
_BEGINNINGS = frozenset({"opened", "came back"})
_MOST_SAID = 1
_EVERY = 1_000_000
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """A fault with its times.

    Attributes:
        since: When it began.
        mended: The first look at which it was gone.
    """

    fault: Fault
    plan: Plan
    facts: Facts
    since: datetime
    mended: datetime

    @property
    def until(self) -> datetime:
        """When it was mended at the source."""
        return max(self.plan.at(self.fault.after), self.since + self.step)

    @property
    def step(self) -> timedelta:
        return timedelta(seconds=self.plan.step_s)


def told_faults(workspace: Workspace, plan: Plan, facts: Facts) -> tuple[PlantedTold, ...]:
    """Return how each planted fault was dealt with.

    Args:
        workspace: That of the policy's arm.
        plan: The rehearsal.
        facts: What that arm recorded.
    """
    if not plan.plant:
        return ()
    root = workspace.settings.root
    _, source = source_of(plan, find_graph(workspace, plan.pipeline), root)
    with workspace.ledger.read() as conn:
        cases = [case_of(one) for one in alerts.page(conn, pipeline=plan.pipeline, limit=_EVERY)[::-1]]
    found = []
    for fault in lay_out(plan.plant, plan.steps):
        # A bad release answers from the look on at which it was made.
        first = fault.first + (fault.name == "bad_release")
        seen = _Seen(fault, plan, facts, plan.at(first), plan.at(fault.after + 1))
        own = _detected(seen, cases)
        found.append(
            PlantedTold(
                fault=fault.name,
                what=said(source, fault),
                since=seen.since,
                until=seen.until,
                detected=tuple(f"a{case.id}" for _, case in own),
                delay_h=(own[0][0] - seen.since).total_seconds() / _HOUR_S if own else None,
                contained=tuple(_CONTAINED[fault.name](seen)),
                explained=tuple(_explained(workspace, own[0][1])) if own else (),
                recovered_at=max((case.resolved_at for _, case in own if case.resolved_at is not None), default=None),
            )
        )
    return tuple(found)


def _detected(seen: _Seen, cases: Sequence[Case]) -> list[tuple[datetime, Case]]:
    """Return the alerts that speak of a fault, each with when it began or came back; the first one first."""
    last = seen.mended + seen.step * _GRACE[seen.fault.name]
    found = []
    for case in cases:
        # It has to be about the time of the fault, not only to come after it.
        end = seen.mended if case.kind in _STANDING else seen.until
        if case.kind not in _SPEAKS[seen.fault.name] or not (case.found.since < end and case.found.until >= seen.since):
            continue
        begun = [done.at for done in case.done if done.what in _BEGINNINGS] or [case.raised_at]
        own = [at for at in begun if seen.since < at <= last]
        if own:
            found.append((min(own), case))
    return sorted(found, key=lambda one: (one[0], one[1].id))


def _explained(workspace: Workspace, case: Case) -> Iterator[str]:
    """Return what `penstock why` says first of an alert."""
    found = why(workspace, f"a{case.id}")
    yield found.worst.said
    yield from found.suspects[:_MOST_SAID]


def _feed(seen: _Seen) -> Iterator[str]:
    until = seen.plan.at(seen.fault.after)
    if _failed(seen, seen.since, until):
        return
    yield _who_answered(seen, until)
    came = _rows_of(seen, until, seen.mended)
    if came:
        yield f"{came:,} late rows were taken in as soon as they came"


def _genre(seen: _Seen) -> Iterator[str]:
    until = seen.plan.at(seen.fault.after)
    before, while_it = _quality(seen, seen.since - (until - seen.since), seen.since), _quality(seen, seen.since, until)
    is_worse = while_it.high is not None and before.low is not None and while_it.high < before.low
    if not is_worse and not _failed(seen, seen.since, until):
        yield f"live quality {measured(while_it)}, against {measured(before)} just before"


def _burst(seen: _Seen) -> Iterator[str]:
    until = seen.plan.at(seen.fault.after)
    asked = _answers(seen, seen.since, until)
    if asked.height and not asked["failed"].sum():
        usual = _answers(seen, seen.since - seen.step, seen.since).height
        fallbacks = int(asked["fallback"].sum())
        yield f"all {asked.height:,} questions (the step before: {usual:,}) were answered, {fallbacks} by the fallback"


def _schema(seen: _Seen) -> Iterator[str]:
    until = seen.plan.at(seen.fault.after)
    if _rows_of(seen, seen.since, until):
        return
    yield "no row of the changed file was taken in"
    yield _who_answered(seen, until)
    came = _rows_of(seen, until, seen.mended)
    if came:
        yield f"{came:,} rows came when it was changed back"


def _bad_release(seen: _Seen) -> Iterator[str]:
    bad = next((n for n, live in enumerate(seen.facts.live) if live.since == seen.since), None)
    if bad is None:
        yield "the gate refused it"
        return
    following = seen.facts.live[bad + 1 : bad + 2]
    for after in following:
        asked = _answers(seen, seen.since, after.since).height
        cause = next((r.cause for r in seen.facts.retrains if r.release == after.release), "")
        days = (after.since - seen.since).total_seconds() / _HOUR_S / 24
        yield (
            f"{seen.facts.live[bad].release} gave {counted(asked, 'answer')} in {days:g} days, "
            f"then {after.release} took its place ({cause})"
        )


_CONTAINED: dict[FaultName, Callable[[_Seen], Iterator[str]]] = {
    "feed": _feed,
    "genre": _genre,
    "burst": _burst,
    "schema": _schema,
    "bad_release": _bad_release,
}


def _who_answered(seen: _Seen, until: datetime) -> str:
    before, after = seen.facts.live_at(seen.since), seen.facts.live_at(until)
    answered = counted(_answers(seen, seen.since, until).height, "answer")
    if before is not None and after is not None and before.release == after.release:
        return f"{before.release} stayed live and gave {answered}, none failed"
    return f"{answered}, none failed"


def _answers(seen: _Seen, since: datetime, until: datetime) -> pl.DataFrame:
    return seen.facts.answers.filter(pl.col("at") >= since, pl.col("at") < until)


def _failed(seen: _Seen, since: datetime, until: datetime) -> int:
    return int(_answers(seen, since, until)["failed"].sum())


def _rows_of(seen: _Seen, since: datetime, until: datetime) -> int:
    versions = [version for found in seen.facts.versions.values() for version in found]
    return sum(v.rows_added for v in versions if v.taken_at is not None and since < v.taken_at <= until)


def _quality(seen: _Seen, since: datetime, until: datetime) -> Quality:
    truths = next(iter(seen.facts.truths.values()), None)
    if truths is None:
        return Quality()
    return mean_of(truths.filter(pl.col("at") >= since, pl.col("at") < until))
