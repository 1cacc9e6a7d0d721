"""When silence is a hang, and when a dead worker is started again: judged without processes and without a clock."""

import pytest

from penstock.serving.processes.hangs import HangWatch
from penstock.serving.processes.restarts import CRASHES_ALLOWED, PROBATION_S, Restarts


def look(watch: HangWatch, now_s: float) -> None:
    """Look at every tick until `now_s`, as the supervisor does."""
    at = watch._looked_s
    while at < now_s:
        at += 0.5
        watch.is_due(at)


@pytest.mark.parametrize(
    ("beat_s", "longest_s", "silent_s"),
    [(100.0, 0.0, 40.0), (115.0, 0.0, None), (100.0, 20.0, None), (100.0, 10.0, 40.0), (None, 0.0, None)],
)
def test_silence_is_a_hang_when_it_is_longer_than_any_deadline(
    beat_s: float | None, longest_s: float, silent_s: float | None
) -> None:
    """Thirty seconds, or three times the longest deadline; a worker without a file is never judged."""
    watch = HangWatch(30.0, now_s=0.0)
    look(watch, 140.0)
    assert watch.silence_s(beat_s, ready_s=1.0, longest_s=longest_s) == silent_s


def test_a_watcher_that_was_stopped_itself_blames_nobody() -> None:
    """After Ctrl-Z and fg every worker has been silent for as long as the watcher slept."""
    watch = HangWatch(30.0, now_s=0.0)
    look(watch, 100.0)
    assert watch.is_due(4000.0)
    assert watch.silence_s(100.0, ready_s=1.0, longest_s=0.0) is None
    look(watch, 4031.0)
    assert watch.silence_s(100.0, ready_s=1.0, longest_s=0.0) == 31.0


def test_a_worker_that_has_just_become_ready_is_not_blamed_for_its_load() -> None:
    """Before it is ready there is no event loop that could turn."""
    watch = HangWatch(30.0, now_s=0.0)
    look(watch, 100.0)
    assert watch.silence_s(10.0, ready_s=99.0, longest_s=0.0) is None


def test_the_first_deaths_cost_no_pause_and_later_ones_ever_more() -> None:
    """A worker that keeps dying young is started again after growing pauses, up to half a minute."""
    restarts = Restarts(live_s=0.0)
    pauses = [restarts.died(0, now_s=at, ready_s=at - 1.0) for at in range(1, 12)]
    assert pauses[:3] == [0.0, 0.0, 0.5]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30.0
    assert not restarts.is_due(0, now_s=40.0)
    assert restarts.is_due(0, now_s=41.0)


def test_a_worker_that_others_kill_is_back_within_a_second() -> None:
    """Growing pauses are for what a release does to itself; after SIGKILL it is half a second at most."""
    restarts = Restarts(live_s=0.0)
    pauses = [restarts.died(0, now_s=at, ready_s=at - 1.0, is_own_fault=False) for at in range(1, 12)]
    assert max(pauses) == 0.5


def test_a_worker_that_answered_for_a_while_is_started_again_at_once() -> None:
    """Its death says nothing about the next one; other slots are not held up by a bad one."""
    restarts = Restarts(live_s=0.0)
    for at in range(10):
        restarts.died(0, now_s=at, ready_s=None)
    assert restarts.died(0, now_s=100.0, ready_s=50.0) == 0.0
    assert restarts.died(1, now_s=100.0, ready_s=None) == 0.0


@pytest.mark.parametrize(
    ("now_s", "is_own_fault", "is_hopeless"),
    [(5.0, True, True), (5.0, False, False), (PROBATION_S + 5.0, True, False)],
)
def test_a_release_is_given_up_for_early_deaths_of_its_own(now_s: float, is_own_fault: bool, is_hopeless: bool) -> None:
    """Kills from outside and deaths long after the swap are no reason to go back."""
    restarts = Restarts(live_s=0.0)
    for slot in range(CRASHES_ALLOWED):
        restarts.died(slot, now_s=now_s, ready_s=1.0, is_own_fault=is_own_fault)
    assert restarts.is_hopeless is is_hopeless
