"""What to do, as a pure function: `decide(state, event, now)` returns the state after it and the actions.

It reads no clock, no ledger and no setting. Whoever calls it twice with the same, after a crash or beside another
worker, gets the same; that a cause is then recorded once and run once is the ledger's unique key and `causes.begin`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never

from msgspec.structs import replace

from penstock.worker import judge, slots
from penstock.worker.state import (
    STANDING,
    Action,
    Ended,
    Event,
    Follow,
    Looked,
    Noticed,
    Open,
    Outcome,
    PipelineState,
    Quarantine,
    Queue,
    Readmit,
    Skip,
    Spent,
    Start,
    State,
)

DAY = timedelta(hours=24)
# A run whose process died this often is not begun again for the same cause.
MOST_LOST = 3


def decide(state: State, event: Event, now: datetime) -> tuple[State, tuple[Action, ...]]:
    """Return what follows from an event.

    Args:
        state: How everything stands.
        event: What happened.
        now: UTC; it may jump either way between two calls.

    Returns:
        The state as if every action had been carried out, and the actions in their order.
    """
    match event:
        case Looked():
            return _look(state, now)
        case Noticed():
            pipeline = state.pipelines[event.pipeline]
            pipeline, actions = _notice(pipeline, event, now)
        case Ended():
            pipeline = state.pipelines[event.pipeline]
            pipeline, actions = _end(pipeline, event, now)
        case _:
            assert_never(event)
    return _with(state, pipeline), tuple(actions)


def decide_each(state: State, happened: Sequence[Event], now: datetime) -> tuple[Action, ...]:
    """Return what several events lead to, one after another."""
    actions: list[Action] = []
    for event in happened:
        state, more = decide(state, event, now)
        actions += more
    return tuple(actions)


def _look(state: State, now: datetime) -> tuple[State, tuple[Action, ...]]:
    actions: list[Action] = []
    for found in sorted(state.pipelines.values(), key=lambda p: p.name):
        pipeline = found
        for step in (_due, _answered, _quarantine):
            pipeline, more = step(pipeline, now)
            actions += more
        state = _with(state, pipeline)
    state, more = _begin_what_may(state, now)
    return state, (*actions, *more)


def _begin_what_may(state: State, now: datetime) -> tuple[State, list[Action]]:
    """Consider what waits: the most important first, then what has waited longest."""
    actions: list[Action] = []
    every = [c for p in state.pipelines.values() for c in p.open]
    running = sum(c.state == "running" for c in every)
    waiting = [c for c in every if c.state == "waiting"]
    for cause in sorted(waiting, key=lambda c: (-c.priority, c.decided_at, c.id, c.pipeline, c.name)):
        pipeline, more = _consider(state.pipelines[cause.pipeline], cause, now, is_full=running >= state.most)
        running += sum(isinstance(action, Start) for action in more)
        state = _with(state, pipeline) if more else state
        actions += more
    return state, actions


def _due(pipeline: PipelineState, now: datetime) -> tuple[PipelineState, list[Action]]:
    """Queue the cron slots that came since the newest decided one, as far as policy catches them up."""
    rules = pipeline.rules
    if rules.schedule is None:
        return pipeline, []
    if pipeline.schedule_since is None:
        follow = Follow(pipeline=pipeline.name, schedule=rules.schedule, timezone=rules.timezone)
        return replace(pipeline, schedule_since=now), [follow]
    # Only what is not in the future counts as decided before: a clock that was wrong for an hour costs no slot later.
    after = max([pipeline.schedule_since, *(slot for slot in pipeline.slots if slot <= now)])
    came = slots.slots_between(rules.schedule, rules.timezone, after, now)
    if not came:
        return pipeline, []
    wanted = came if rules.catch_up == "all" else came[-1:]
    if rules.catch_up == "none" and now - came[-1] >= _patience(pipeline, came[-1]):
        wanted = []
    actions: list[Action] = []
    for slot in wanted or came[-1:]:
        key = slot_key(slot)
        missed = len(came) - 1 if slot == came[-1] and rules.catch_up != "all" else 0
        figures = {"missed": missed, "since": slot_key(came[0])} if missed else {}
        if not wanted:
            reason = f"missed: nothing ran at {key}, and catch_up is 'none'"
            actions.append(Skip(pipeline=pipeline.name, kind="schedule", key=key, reason=reason, figures=figures))
            pipeline = replace(pipeline, decided=pipeline.decided | {("schedule", key)})
        elif ("schedule", key) not in pipeline.decided:
            said = f"slot {key} of {rules.schedule!r}" + (f", for {missed} missed ones too" if missed else "")
            noticed = Noticed(pipeline=pipeline.name, kind="schedule", key=key, said=said, figures=figures)
            pipeline, more = _notice(pipeline, noticed, now)
            actions += more
    return replace(pipeline, slots=tuple(sorted({*pipeline.slots, *wanted, came[-1]}))), actions


def _patience(pipeline: PipelineState, slot: datetime) -> timedelta:
    """Return how late a slot may be noticed and still be on time: half of the time to the next one, at most an hour."""
    following = slots.next_slot(pipeline.rules.schedule or "", pipeline.rules.timezone, slot)
    return min((following - slot) / 2, timedelta(hours=1))


def slot_key(slot: datetime) -> str:
    """Return the key of a cron slot: its instant in UTC."""
    return slot.isoformat(timespec="seconds").replace("+00:00", "Z")


def _notice(pipeline: PipelineState, event: Noticed, now: datetime) -> tuple[PipelineState, list[Action]]:
    if (event.kind, event.key) in pipeline.decided:
        return pipeline, []
    if event.kind in STANDING and event.kind not in pipeline.rules.retrain_on:
        return pipeline, []
    actions: list[Action] = []
    for older in pipeline.open:
        if older.kind == event.kind and event.kind in STANDING and older.state == "waiting" and not older.is_begun:
            pipeline, more = _skip(pipeline, older, f"{event.kind}:{event.key} came after it and stands for both")
            actions += more
    cause = Open(
        pipeline=pipeline.name, kind=event.kind, key=event.key, decided_at=now, priority=pipeline.rules.priority
    )
    queue = Queue(
        pipeline=pipeline.name,
        kind=event.kind,
        key=event.key,
        priority=cause.priority,
        reason=event.said,
        figures=event.figures | _weighed(pipeline, event),
    )
    after = replace(pipeline, open=(*pipeline.open, cause), decided=pipeline.decided | {(event.kind, event.key)})
    return after, [*actions, queue]


def _weighed(pipeline: PipelineState, event: Noticed) -> dict[str, Any]:
    """Return what is expected of the retrain at this moment, so that a run has its reason beside it, as a skip has."""
    if pipeline.worth is None or event.kind not in pipeline.rules.weighed:
        return {}
    return {"expected": pipeline.worth.said}


def _answered(pipeline: PipelineState, _: datetime) -> tuple[PipelineState, list[Action]]:
    """Skip what waits although the live release was trained after it was noticed."""
    actions: list[Action] = []
    for cause in pipeline.open:
        is_old = pipeline.live_since is not None and cause.decided_at <= pipeline.live_since
        if cause.kind in STANDING and cause.state == "waiting" and not cause.is_begun and is_old:
            pipeline, more = _skip(pipeline, cause, f"{pipeline.live} was trained after this was noticed")
            actions += more
    return pipeline, actions


def _quarantine(pipeline: PipelineState, _: datetime) -> tuple[PipelineState, list[Action]]:
    is_failing = pipeline.failures >= pipeline.rules.quarantine_after
    if is_failing and not pipeline.is_quarantined:
        reason = f"{pipeline.failures} retrains failed in a row; it is tried again less and less often"
        key = slot_key(pipeline.failed_at) if pipeline.failed_at is not None else ""
        figures = {"failures": pipeline.failures, "retry_at": judge.retry_at(pipeline)}
        action = Quarantine(pipeline=pipeline.name, key=key, reason=reason, figures=figures)
        return replace(pipeline, is_quarantined=True), [action]
    if pipeline.is_quarantined and not is_failing:
        return replace(pipeline, is_quarantined=False), [Readmit(pipeline=pipeline.name, reason="a run succeeded")]
    return pipeline, []


def _consider(
    pipeline: PipelineState, cause: Open, now: datetime, *, is_full: bool
) -> tuple[PipelineState, list[Action]]:
    """Start, hold or skip a waiting cause; where no place is free it just waits."""
    if cause not in pipeline.open:  # a cause that was started in this same look answers it
        return pipeline, []
    found = judge.judge(pipeline, cause, now)
    if found is None:
        return (pipeline, []) if is_full else _start(pipeline, cause, now)
    if isinstance(found, Skip):
        return replace(pipeline, open=tuple(c for c in pipeline.open if c != cause)), [found]
    if found.reason == cause.held:
        return pipeline, []
    held = tuple(replace(c, held=found.reason) if c == cause else c for c in pipeline.open)
    return replace(pipeline, open=held), [found]


def _start(pipeline: PipelineState, cause: Open, now: datetime) -> tuple[PipelineState, list[Action]]:
    begun = replace(cause, state="running", is_begun=True)
    actions: list[Action] = [Start(cause=begun)]
    pipeline = replace(pipeline, open=tuple(begun if c == cause else c for c in pipeline.open), began_at=now)
    for other in pipeline.open:
        if other.kind in STANDING and other.state == "waiting" and not other.is_begun:
            pipeline, more = _skip(pipeline, other, f"the retrain of {cause.name} answers it")
            actions += more
    return pipeline, actions


def _end(pipeline: PipelineState, event: Ended, now: datetime) -> tuple[PipelineState, list[Action]]:
    spent = pipeline.spent
    if event.cpu_s:
        spent = (*(s for s in spent if now - DAY < s.at), Spent(at=now, cpu_s=event.cpu_s))
    pipeline = replace(pipeline, spent=spent)
    cause = next((c for c in pipeline.open if (c.kind, c.key) == (event.kind, event.key)), None)
    if cause is None:  # told twice
        return pipeline, []
    lost = cause.lost + (event.outcome == "lost")
    after = state_after(event.outcome, lost)
    if after == "waiting":
        again = replace(cause, state="waiting", is_begun=True, lost=lost)
        return replace(pipeline, open=tuple(again if c == cause else c for c in pipeline.open)), []
    pipeline = replace(pipeline, open=tuple(c for c in pipeline.open if c != cause))
    if after == "failed":
        pipeline = replace(pipeline, failures=pipeline.failures + 1, failed_at=now)
    elif event.outcome == "succeeded":
        pipeline = replace(pipeline, failures=0, failed_at=None, usual_cpu_s=event.cpu_s or pipeline.usual_cpu_s)
    return _quarantine(pipeline, now)


def state_after(outcome: Outcome, lost: int) -> Literal["waiting", "done", "failed"]:
    """Return what a cause is after its run; one whose process dies again and again is not begun for ever."""
    match outcome:
        case "succeeded" | "refused":
            return "done"
        case "failed":
            return "failed"
        case "cancelled":
            return "waiting"
        case "lost":
            return "waiting" if lost < MOST_LOST else "failed"
        case _:
            assert_never(outcome)


def _skip(pipeline: PipelineState, cause: Open, reason: str) -> tuple[PipelineState, list[Action]]:
    action = Skip(pipeline=pipeline.name, kind=cause.kind, key=cause.key, reason=reason)
    return replace(pipeline, open=tuple(c for c in pipeline.open if c != cause)), [action]


def _with(state: State, pipeline: PipelineState) -> State:
    return replace(state, pipelines={**state.pipelines, pipeline.name: pipeline})
