"""Decisions one by one; many at once: `tests/property/test_decide_simulated.py`."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.worker.decide import decide
from penstock.worker.state import (
    Action,
    Ended,
    Event,
    Hold,
    Kind,
    Looked,
    Noticed,
    PipelineState,
    Quarantine,
    Readmit,
    Rules,
    Skip,
    Spent,
    Start,
    State,
    Worth,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def _state(most: int = 1, **pipeline: Any) -> State:
    return State(most=most, pipelines={"movies": PipelineState(name="movies", **pipeline)})


def _noticed(kind: Kind = "drift", key: str = "w1", pipeline: str = "movies") -> Noticed:
    return Noticed(pipeline=pipeline, kind=kind, key=key, said="it moved")


def _follow(state: State, *steps: tuple[Event, datetime]) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    for event, now in steps:
        state, more = decide(state, event, now)
        actions += more
    return state, actions


def _started(actions: list[Action]) -> list[str]:
    return [action.cause.name for action in actions if isinstance(action, Start)]


def _only(actions: list[Action], kind: type[Any]) -> Any:
    (found,) = [action for action in actions if isinstance(action, kind)]
    return found


def test_what_is_noticed_twice_is_one_cause() -> None:
    """A hundred equal triggers start one retrain."""
    _, actions = _follow(_state(), *[(_noticed(), NOW)] * 100, (Looked(), NOW), (Looked(), NOW))
    assert _started(actions) == ["drift:w1"]


def test_one_retrain_answers_all_that_stands() -> None:
    """Drift, new data and age wait together; the first that runs answers the others, which says so."""
    events: list[tuple[Event, datetime]] = [(_noticed(kind), NOW) for kind in ("drift", "new_data", "stale")]
    _, actions = _follow(_state(), *events, (Looked(), NOW))
    assert len(_started(actions)) == 1
    skipped = [action.reason for action in actions if isinstance(action, Skip)]
    assert skipped == [f"the retrain of {_started(actions)[0]} answers it"] * 2


def test_what_policy_does_not_name_starts_nothing() -> None:
    """`retrain_on` without drift: an alarm is told to people, and that is all."""
    _, actions = _follow(_state(rules=Rules(retrain_on=frozenset({"new_data"}))), (_noticed(), NOW), (Looked(), NOW))
    assert actions == []


def test_a_person_need_not_wait_for_anything_but_a_turn() -> None:
    """Neither cool-down nor budget nor quarantine holds back what a person asked for."""
    state = _state(
        rules=Rules(cpu_s_per_day=1.0),
        began_at=NOW - HOUR,
        failures=5,
        failed_at=NOW - HOUR,
        is_quarantined=True,
        spent=(Spent(at=NOW - HOUR, cpu_s=100.0),),
    )
    _, actions = _follow(state, (_noticed("manual"), NOW), (Looked(), NOW))
    assert _started(actions) == ["manual:w1"]


def test_the_more_important_pipeline_goes_first_and_no_more_run_than_may() -> None:
    """With one place, the higher priority takes it; the other starts when it has ended."""
    low, high = (PipelineState(name=name, rules=Rules(priority=p)) for name, p in (("low", 0), ("high", 9)))
    state = State(most=1, pipelines={"low": low, "high": high})
    state, actions = _follow(
        state, (_noticed(pipeline="low"), NOW), (_noticed(pipeline="high"), NOW + HOUR), (Looked(), NOW + HOUR)
    )
    assert [a.cause.pipeline for a in actions if isinstance(a, Start)] == ["high"]
    ended = Ended(pipeline="high", kind="drift", key="w1", outcome="succeeded")
    _, actions = _follow(state, (ended, NOW + 2 * HOUR), (Looked(), NOW + 2 * HOUR))
    assert [a.cause.pipeline for a in actions if isinstance(a, Start)] == ["low"]


def test_a_retrain_that_gains_too_little_is_skipped_with_its_figures() -> None:
    """N7: what is expected and what it costs stand in the record; measured loss of quality is not weighed."""
    worth = Worth(is_worth=False, said="gains 0.0001, costs 0.002", figures={"gain": 0.0001, "cost": 0.002})
    state, actions = _follow(_state(worth=worth), (_noticed("new_data"), NOW), (Looked(), NOW))
    skip = _only(actions, Skip)
    assert (skip.reason, skip.figures) == (worth.said, worth.figures)
    _, actions = _follow(state, (_noticed("quality"), NOW), (Looked(), NOW))
    assert _started(actions) == ["quality:w1"]


def test_a_retrain_over_budget_waits_until_a_day_is_over() -> None:
    """What it usually takes counts too: a budget is not overdrawn by beginning just below it."""
    spent = (Spent(at=NOW - 20 * HOUR, cpu_s=50.0),)
    state = _state(rules=Rules(cpu_s_per_day=80.0, cpu_hour=3.6), spent=spent, usual_cpu_s=40.0)
    state, actions = _follow(state, (_noticed(), NOW), (Looked(), NOW))
    hold = _only(actions, Hold)
    assert hold.until == NOW + 4 * HOUR
    assert (hold.figures["spent_cpu_s"], hold.figures["spent_money"]) == (50.0, 0.05)
    _, actions = _follow(state, (Looked(), NOW + 4 * HOUR))
    assert _started(actions) == ["drift:w1"]


def test_quarantine_is_entered_once_waits_longer_each_time_and_is_left() -> None:
    """Three failures: one alert; the wait doubles with each further one; a success ends it."""
    state, now, waits = _state(rules=Rules(cooldown_s=3600.0)), NOW, []
    actions: list[Action] = []
    for number in range(5):
        began = now
        state, more = _follow(state, (_noticed(key=f"w{number}"), now))
        for _ in range(200):
            state, looked = _follow(state, (Looked(), now))
            more += looked
            if _started(looked):
                break
            now += HOUR / 2
        waits.append(now - began)
        ended = Ended(pipeline="movies", kind="drift", key=f"w{number}", outcome="failed")
        state, last = _follow(state, (ended, now))
        actions += [*more, *last]
    assert waits == [0 * HOUR, HOUR, HOUR, HOUR, 2 * HOUR]
    assert _only(actions, Quarantine).figures["failures"] == 3
    state, actions = _follow(state, (_noticed(key="last"), now), (Looked(), now + 4 * HOUR))
    assert _started(actions) == ["drift:last"]
    good = Ended(pipeline="movies", kind="drift", key="last", outcome="succeeded")
    state, actions = _follow(state, (good, now + 5 * HOUR))
    assert _only(actions, Readmit).pipeline == "movies"
    assert state.pipelines["movies"].failures == 0


def test_what_the_gate_refuses_is_no_failure() -> None:
    """A candidate that is not better than the live release is what gates are for."""
    state = _state(rules=Rules(cooldown_s=0.0, quarantine_after=1))
    for number in range(4):
        ended = Ended(pipeline="movies", kind="drift", key=f"w{number}", outcome="refused")
        state, actions = _follow(state, (_noticed(key=f"w{number}"), NOW), (Looked(), NOW), (ended, NOW))
        assert _started(actions) == [f"drift:w{number}"]
    assert state.pipelines["movies"].failures == 0


@pytest.mark.parametrize(
    ("catch_up", "started", "skipped"),
    [
        ("one", ["schedule:2026-03-04T04:00:00Z"], []),
        ("all", [f"schedule:2026-03-0{day}T04:00:00Z" for day in (2, 3, 4)], []),
        ("none", [], ["2026-03-04T04:00:00Z"]),
    ],
)
def test_missed_slots_are_caught_up_as_policy_says(catch_up: Any, started: list[str], skipped: list[str]) -> None:
    """Three days of silence: the newest slot, all of them, or none with the reason; on time again after that."""
    rules = Rules(schedule="0 4 * * *", catch_up=catch_up)
    state, found = _state(rules=rules, schedule_since=NOW), list[Action]()
    now = NOW + 3 * 24 * HOUR
    for _ in range(4):
        state, actions = _follow(state, (Looked(), now))
        found += actions
        for name in _started(actions):
            ended = Ended(pipeline="movies", kind="schedule", key=name.partition(":")[2], outcome="succeeded")
            state, _more = _follow(state, (ended, now))
    assert _started(found) == started
    assert [action.key for action in found if isinstance(action, Skip)] == skipped
    _, actions = _follow(state, (Looked(), datetime(2026, 3, 5, 4, 1, tzinfo=UTC)))
    assert _started(actions) == ["schedule:2026-03-05T04:00:00Z"]


def test_a_lost_run_begins_again_without_waiting_for_its_own_cooldown() -> None:
    """A worker died in the retrain: the cause waits again and starts at the next look; told twice, nothing changes."""
    lost = Ended(pipeline="movies", kind="drift", key="w1", outcome="lost")
    _, actions = _follow(_state(), (_noticed(), NOW), (Looked(), NOW), (lost, NOW), (lost, NOW), (Looked(), NOW))
    assert _started(actions) == ["drift:w1", "drift:w1"]
