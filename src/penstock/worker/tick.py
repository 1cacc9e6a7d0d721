"""Everything that is due at one moment, done once: intake, truth, windows, decisions, runs.

All of it may be broken off anywhere and done again, here or by another worker: intakes are exactly once, windows have
keys, causes are rows, and a run begins with its cause.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import msgspec
import structlog

from penstock.core import faults
from penstock.core.errors import LeaseLostError, PenstockError, StoreError
from penstock.core.process import this_process
from penstock.core.records import Record
from penstock.engine.stopping import CancelledRunError
from penstock.pipeline.graph import Graph
from penstock.project.alerting import deliver, notice, notice_look
from penstock.project.experimenting import look_at_running
from penstock.project.intake import is_intake_due, take_in
from penstock.project.outcomes import join_outcomes
from penstock.project.rollout.guardian import Guardian
from penstock.project.targets import find_graph
from penstock.project.workspace import Workspace, read_manifest
from penstock.serving.predictions.compaction import compact
from penstock.store.ledger import causes, leases, releases
from penstock.worker import carry
from penstock.worker.decide import decide_each
from penstock.worker.economics import worth
from penstock.worker.gather import Trained, gather, trained
from penstock.worker.slots import check_schedule
from penstock.worker.state import Action, Looked, Open, Start, Worth

_events = structlog.get_logger("penstock.worker")
# Longer than one part of looking takes; whoever is killed is known dead at once on its own host, elsewhere after this.
LOOK_LEASE_S = 120.0
Economics = Callable[[Workspace, str, datetime], Worth | None]


class Looks(Record, frozen=True, kw_only=True):
    """What looking after one pipeline came to.

    Attributes:
        is_elsewhere: Another worker looks after it at this moment.
        intake: The run that took in rows, "r41"; None where none was due.
        datasets: Version by dataset after that.
        compacted: Predictions taken into their table.
        joined: Truths that are new or changed.
        findings: What monitors said, as sentences.
        problems: What went wrong; the rest was done all the same.
    """

    pipeline: str
    is_elsewhere: bool = False
    intake: str | None = None
    datasets: dict[str, str] = {}
    compacted: int = 0
    joined: int = 0
    findings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class TickReport(Record, frozen=True, kw_only=True):
    """What a tick did.

    Attributes:
        actions: What was decided, in order.
        runs: What became of runs that ended.
    """

    now: datetime
    pipelines: tuple[Looks, ...] = ()
    actions: tuple[Action, ...] = ()
    runs: tuple[carry.Settled, ...] = ()


def pipelines_of(workspace: Workspace) -> list[str]:
    """Return the pipelines that are kept fresh: those with a live release, and those that policy schedules.

    Raises:
        InputError: A schedule cannot be followed.
    """
    with workspace.ledger.read() as conn:
        released = {release.pipeline for release in releases.of_pipeline(conn)}
        live = {name for name in released if releases.live(conn, name) is not None}
    scheduled = {name for name, policy in workspace.settings.policies.items() if policy.schedule is not None}
    for name in scheduled:
        policy = workspace.settings.policy(name)
        check_schedule(policy.schedule or "", policy.timezone)
    return sorted(live | scheduled)


def tick(
    workspace: Workspace, now: datetime, *, economics: Economics | None = worth, is_again: bool = False
) -> TickReport:
    """Do all that is due at `now`, runs included, and return what was done.

    Args:
        workspace: The project; its clock should stand at `now`.
        now: UTC.
        economics: Says what a retrain is expected to gain, where that is known; None to weigh nothing.
        is_again: A tick at `now` may have been killed: look for rows and truth however lately that was done.

    Raises:
        StoreError: The store is away; whatever was not recorded is done by the next tick.
        CancelledRunError: This process was asked to stop.
    """
    names = pipelines_of(workspace)
    looks = tuple(look_after(workspace, name, now, is_again=is_again) for name in names)
    actions, ended = retrain_what_is_due(workspace, now, names=names, economics=economics)
    deliver(workspace, now)
    return TickReport(now=now, pipelines=looks, actions=actions, runs=ended)


def retrain_what_is_due(
    workspace: Workspace, now: datetime, *, names: list[str], economics: Economics | None = worth
) -> tuple[tuple[Action, ...], tuple[carry.Settled, ...]]:
    """Decide on what is known, and run what that comes to; return what was decided, and what became of runs."""
    ended, actions = carry.settle(workspace), list[Action]()
    while True:
        decided = decide_all(workspace, now, names=names, economics=economics)
        actions += decided
        starts = [action.cause for action in decided if isinstance(action, Start)]
        if not starts:
            break
        for cause in starts:
            carry.perform(workspace, cause, slot=slot_of(cause))
        ended += carry.settle(workspace)
    return tuple(actions), tuple(ended)


def preview(workspace: Workspace, now: datetime, *, economics: Economics | None = worth) -> TickReport:
    """Return what a tick would decide on what is known now; takes nothing in, records nothing, runs nothing."""
    names = pipelines_of(workspace)
    live = trained(names, workspace)
    with workspace.ledger.read() as conn:
        state, noticed = gather(conn, workspace, live, now, names=names, worth=_worth(workspace, names, now, economics))
    due = tuple(Looks(pipeline=name, intake="due" if is_intake_due(name, workspace, now) else None) for name in names)
    return TickReport(now=now, pipelines=due, actions=decide_each(state, (*noticed, Looked()), now))


def decide_all(
    workspace: Workspace, now: datetime, *, names: list[str], economics: Economics | None = worth
) -> tuple[Action, ...]:
    """Decide on everything and record it, in one transaction that one worker at a time holds."""
    live: dict[str, Trained] = trained(names, workspace)
    expected = _worth(workspace, names, now, economics)
    faults.point("tick_before_decision")
    with workspace.ledger.write() as conn:
        causes.lock_causes(conn)
        state, noticed = gather(conn, workspace, live, now, names=names, worth=expected)
        actions = decide_each(state, (*noticed, Looked()), now)
        carry.record(conn, actions)
        kept = {(c.pipeline, c.name): c for c in causes.open_causes(conn)}
    faults.point("tick_after_decision")
    notice(workspace, names, now)
    return tuple(found for action in actions if (found := _as_kept(action, kept)) is not None)


def slot_of(cause: Open) -> datetime | None:
    """Return the logical time of a scheduled run: its slot; None for other causes."""
    return datetime.fromisoformat(cause.key) if cause.kind == "schedule" else None


def look_after(workspace: Workspace, name: str, now: datetime, *, is_again: bool = False) -> Looks:
    """Bring what is known of one pipeline up to `now`, unless another worker is at it.

    Args:
        workspace: The project.
        name: Of the pipeline.
        now: UTC.
        is_again: Look for rows and truth however lately that was done.

    Raises:
        StoreError: The store is away.
    """
    with _looking(workspace, name) as renew:
        if renew is not None:
            with suppress(LeaseLostError):  # this took so long that another worker has taken it over
                return _Looking(workspace, name, now, renew).look(is_again=is_again)
    return Looks(pipeline=name, is_elsewhere=True)


_PARTS = {
    "_compact": "taking in predictions",
    "_take_in": "taking in rows",
    "_join": "joining truth",
    "_watch": "looking at windows",
    "_roll_out": "looking at the rollout",
    "_experiment": "looking at the experiment",
}


class _Looking:
    """Looks after one pipeline; what fails is noted, and the next thing done."""

    def __init__(self, workspace: Workspace, name: str, now: datetime, renew: Callable[[], None]) -> None:
        self._workspace, self._name, self._now, self._renew = workspace, name, now, renew
        self._problems: list[str] = []

    def look(self, *, is_again: bool) -> Looks:
        found: dict[str, Any] = {}
        is_due = is_again or is_intake_due(self._name, self._workspace, self._now)
        joined = [self._take_in, self._join, self._experiment] if is_due else []
        parts = [self._compact, *joined, self._watch, self._roll_out]
        told: dict[str, str | None] = {}
        for part in parts:
            self._renew()
            told[_PARTS[part.__name__]] = None
            try:
                found |= part()
            except (StoreError, LeaseLostError, CancelledRunError):
                raise
            except PenstockError as error:
                self._note(str(error))
                told[_PARTS[part.__name__]] = error.message
        notice_look(self._workspace, self._name, told, self._now)
        return Looks(pipeline=self._name, problems=tuple(self._problems), **found)

    def _experiment(self) -> dict[str, Any]:
        look_at_running(self._name, self._workspace)
        return {}

    def _roll_out(self) -> dict[str, Any]:
        guardian = Guardian(self._workspace, self._name)
        guardian.look()
        guardian.close()
        return {}

    def _note(self, said: str) -> None:
        _events.warning("tick_problem", pipeline=self._name, reason=said)
        self._problems.append(said)

    def _compact(self) -> dict[str, Any]:
        policy = self._workspace.settings.policy(self._name).serve
        done = compact(self._workspace.home, self._name, policy, clock=self._workspace.clock)
        return {"compacted": done.predictions}

    def _take_in(self) -> dict[str, Any]:
        graph: Graph = find_graph(self._workspace, self._name)
        taken = take_in(graph, self._workspace, now=self._now)
        if taken is None:
            return {}
        for dataset, said in taken.failures.items():
            self._note(f"{dataset}: {said}")
        return {"intake": f"r{taken.run_id}", "datasets": taken.datasets}

    def _join(self) -> dict[str, Any]:
        with self._workspace.ledger.read() as conn:
            live = releases.live(conn, self._name)
        if live is None:
            return {}
        manifest = read_manifest(live.manifest_digest, self._workspace)
        if not any(node.role == "outcome" for node in manifest.graph.nodes):
            return {}
        joined = join_outcomes(self._name, self._workspace, now=self._now)
        return {"joined": sum(outcome.written for outcome in joined.outcomes)}

    def _watch(self) -> dict[str, Any]:
        watch = _watcher()
        return (
            {} if watch is None else {"findings": tuple(f.said for f in watch(self._workspace, self._name, self._now))}
        )


def _watcher() -> Callable[[Workspace, str, datetime], list[Any]] | None:
    if importlib.util.find_spec("penstock.project.watching") is None:
        return None
    return getattr(importlib.import_module("penstock.project.watching"), "watch", None)


@contextmanager
def _looking(workspace: Workspace, name: str) -> Iterator[Callable[[], None] | None]:
    """Hold the lease of looking after a pipeline; gives how to renew it, or None where somebody else holds it."""
    lease = f"look/{name}"
    with workspace.ledger.write() as conn:
        token = leases.acquire(conn, lease, this_process(), LOOK_LEASE_S)
    if token is None:
        yield None
        return

    def renew() -> None:
        with workspace.ledger.write(durable=False) as conn:
            leases.renew(conn, lease, token, LOOK_LEASE_S)

    try:
        yield renew
    finally:
        with workspace.ledger.write(durable=False) as conn:
            leases.release(conn, lease, token)


def _worth(workspace: Workspace, names: list[str], now: datetime, economics: Economics | None) -> dict[str, Worth]:
    if economics is None:
        return {}
    found = {name: economics(workspace, name, now) for name in names}
    return {name: expected for name, expected in found.items() if expected is not None}


def _as_kept(action: Action, kept: dict[tuple[str, str], causes.Cause]) -> Action | None:
    """Return a start with number and time of its cause as recorded: a run begun again is told the same `now`."""
    if not isinstance(action, Start):
        return action
    found = kept.get((action.cause.pipeline, action.cause.name))
    if found is None:  # its key was decided so long ago that nobody looked that far back, and that stands
        return None
    return Start(cause=msgspec.structs.replace(action.cause, id=found.id, decided_at=found.decided_at))
