"""The retrain loop: an alarm each minute, decided on each minute, cannot train more than rest and budget allow."""

import itertools
import random
import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from loop_world import BEGIN, Run, World
from penstock.worker.decide import DAY
from penstock.worker.state import Noticed, Rules

MINUTE = timedelta(minutes=1)
RUN, CPU_S = 40 * MINUTE, 300.0


class _Sound(random.Random):
    """Nobody dies: what is asked here is what the storm alone does."""

    def random(self) -> float:
        return 0.5


def _storm(rules: Rules, minutes: int) -> World:
    """Let a monitor alarm each minute, each time for a window of its own, while retrains take forty minutes."""
    world = World(_Sound(), {"p": rules}, most=2)
    for minute in range(minutes):
        world.now = BEGIN + minute * MINUTE
        world.inbox.append(Noticed(pipeline="p", kind="drift", key=str(minute), said="moved"))
        world.tick()
        assert sum(row.state == "running" for row in world.rows.values()) <= 1
        for run in world.runs:
            if run.outcome is None and world.now - run.began_at >= RUN:
                run.outcome, run.ended_at, run.cpu_s = "refused", world.now, CPU_S
    return world


def _gaps(runs: list[Run]) -> list[timedelta]:
    return [after.began_at - before.began_at for before, after in itertools.pairwise(runs)]


@pytest.mark.parametrize("cooldown_s", [0.0, 3600.0, 21_600.0])
def test_an_alarm_each_minute_trains_once_per_rest(cooldown_s: float) -> None:
    """The retrain loop: one run in flight, rests kept; one cause waits and stands for the others, or answers them."""
    world = _storm(Rules(cooldown_s=cooldown_s), 24 * 60)
    assert min(_gaps(world.runs)) >= max(timedelta(seconds=cooldown_s), RUN)
    rest = max(timedelta(seconds=cooldown_s), RUN)
    assert len(world.runs) == pytest.approx(DAY / rest, abs=0.1 * (DAY / rest) + 1)
    assert sum(row.state == "waiting" for row in world.rows.values()) <= 1
    assert len(world.rows) == 24 * 60


def test_an_alarm_each_minute_stays_within_the_budget() -> None:
    """N7: whatever alarms, in no 24 hours does a run begin that would overdraw what policy grants."""
    world = _storm(Rules(cooldown_s=0.0, cpu_s_per_day=1000.0), 30 * 60)
    begun = [run.began_at for run in world.runs]
    assert len(begun) >= 4
    for run in world.runs:
        spent = sum(r.cpu_s for r in world.runs if r.ended_at and run.began_at - DAY < r.ended_at <= run.began_at)
        assert spent < 1000.0
    most = max(sum(1 for other in begun if at <= other < at + DAY) for at in begun)
    assert most * CPU_S <= 1000.0 + CPU_S
