"""Decisions over many simulated worlds: kills, two workers, lost acknowledgements, clocks that jump."""

import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from loop_world import ZONES, World, check_rests, check_slots, live, make_world
from penstock.worker.decide import DAY, decide, slot_key
from penstock.worker.slots import slots_between
from penstock.worker.state import Action, Ended, Looked, PipelineState, Rules, Start, State

SEEDS, PER_CASE = 10_000, 500


def test_every_cause_is_run_at_most_once() -> None:
    """Whoever dies and however the clock jumps, a cause comes to one end, within all limits."""
    _simulate(range(300))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, PER_CASE))
def test_every_cause_is_run_at_most_once_over_10_000_seeds(first: int) -> None:
    """Q12: the same over ten thousand worlds."""
    _simulate(range(first, first + PER_CASE))


def _simulate(seeds: range) -> None:
    quarantines = runs = 0
    for seed in seeds:
        world = make_world(seed)
        live(world, 14, jumps=seed % 2 == 1)
        if not world.has_jumped:
            check_slots(world)
            check_rests(world)
            _check_budget(world)
        quarantines += world.quarantines
        runs += len(world.runs)
    assert quarantines > len(seeds) / 20
    assert runs > len(seeds)


def _check_budget(world: World) -> None:
    """No run begins when what was spent in the last 24 hours has reached the budget; a person's own run may."""
    for name, rules in world.rules.items():
        own = [run for run in world.runs if run.pipeline == name]
        for run in own:
            spent = [
                r.cpu_s for r in own if r.ended_at and run.began_at - DAY < r.ended_at <= run.began_at and r is not run
            ]
            if rules.cpu_s_per_day is not None and run.kind != "manual":
                ended_before = [r for r in own if r.ended_at is not None and r.began_at < run.began_at]
                assert not ended_before or sum(spent) < rules.cpu_s_per_day + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_what_waits_is_run_or_answered_in_the_end(seed: int) -> None:
    """Nothing waits for ever: left alone with a sound clock, every cause gets an end and every quarantine is left."""
    world = make_world(seed)
    live(world, 30, jumps=True)
    world.inbox.clear()
    world.worth = None
    world.rules = {
        name: type(rules)(cooldown_s=rules.cooldown_s, quarantine_after=rules.quarantine_after)
        for name, rules in world.rules.items()
    }
    for _ in range(600):
        world.now += timedelta(hours=3)
        world.tick()
        for run in world.runs:
            if run.outcome is None:
                run.outcome, run.ended_at = "succeeded", world.now
        if all(row.state not in {"waiting", "running"} for row in world.rows.values()):
            break
    left = [(row.kind, row.reason) for row in world.rows.values() if row.state in {"waiting", "running"}]
    assert left == []


@pytest.mark.slow
def test_a_hundred_pipelines_lose_no_slot_in_a_month() -> None:
    """Q12: 100 cadences in five zones, a worker that looks unevenly and whose decisions are lost now and then."""
    chance = random.Random(3)
    begin, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    rules = {
        f"p{n:02}": Rules(
            schedule=f"{chance.randint(0, 59)} */{chance.randint(3, 23)} * * *",
            timezone=chance.choice(ZONES),
            catch_up="all",
        )
        for n in range(100)
    }
    pipelines = {name: PipelineState(name=name, rules=rule, schedule_since=begin) for name, rule in rules.items()}
    state, now = State(most=1000, pipelines=pipelines), begin
    run: dict[str, list[str]] = {name: [] for name in rules}
    while now < end:
        now = min(end, now + timedelta(minutes=chance.randint(20, 900)))
        after, actions = decide(state, Looked(), now)
        if chance.random() < 0.1 and now < end:  # died before it was recorded
            continue
        state = _all_run(after, list(actions), now, run)
    for name, rule in rules.items():
        due = [slot_key(slot) for slot in slots_between(rule.schedule or "", rule.timezone, begin, end)]
        assert run[name] == due


def _all_run(state: State, actions: list[Action], now: datetime, run: dict[str, list[str]]) -> State:
    """Let every retrain that was started end well, and what waited for it start, until nothing waits."""
    while started := [action.cause for action in actions if isinstance(action, Start)]:
        for cause in started:
            run[cause.pipeline].append(cause.key)
            ended = Ended(pipeline=cause.pipeline, kind=cause.kind, key=cause.key, outcome="succeeded")
            state, _ = decide(state, ended, now)
        state, more = decide(state, Looked(), now)
        actions = list(more)
    return state
