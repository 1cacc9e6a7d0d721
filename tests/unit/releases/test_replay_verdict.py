"""Whether recorded requests stop a candidate: its error rates, by simulation with fixed seeds."""

import math
import random

import pytest

from penstock.releases.replay.records import Replay, SideShown
from penstock.releases.replay.verdict import judge_replay, sign_test


def replay_of(lost: int, again: int, gained: int, *, changed: int = 0, compared: int = 500) -> Replay:
    side = SideShown(release="movies@1", answered=compared, fallback=0, failed=0, refused=0, late=0, not_finite=0)
    return Replay(
        candidate="movies@2", against="movies@1", pipeline="movies", recorded=compared, sampled=compared,
        compared=compared, since=None, until=None, changed=changed, lost=lost, lost_again=again, gained=gained,
        sides=(side, side),
    )  # fmt: skip


def test_one_request_that_only_the_candidate_fails_twice_is_enough() -> None:
    """L8: a failure that repeats, where the live release fails on nothing, is no chance."""
    assert judge_replay(replay_of(0, 0, 0)).passed
    assert not judge_replay(replay_of(1, 1, 0)).passed
    assert judge_replay(replay_of(1, 0, 0)).passed  # answered when asked again
    assert judge_replay(replay_of(3, 3, 2)).passed  # the live release does as badly
    assert not judge_replay(replay_of(20, 0, 4)).passed  # it fails by chance, but more often


def test_policy_decides_how_many_answers_may_change() -> None:
    """L8: without a limit any number of answers may change."""
    assert judge_replay(replay_of(0, 0, 0, changed=500)).passed
    assert judge_replay(replay_of(0, 0, 0, changed=100), most_changed=0.2).passed
    assert not judge_replay(replay_of(0, 0, 0, changed=101), most_changed=0.2).passed


@pytest.mark.parametrize("rate", [0.0005, 0.004, 0.02, 0.1])
def test_releases_that_fail_alike_by_chance_are_seldom_refused(rate: float) -> None:
    """L8: of two equally unreliable releases the candidate is refused in 5 % of cases at most, at any rate."""
    draw, trials, refused = random.Random(7), 1000, 0
    for _ in range(trials):
        live = [draw.random() < rate for _ in range(500)]
        candidate = [draw.random() < rate for _ in range(500)]
        lost = sum(b and not a for a, b in zip(live, candidate, strict=True))
        gained = sum(a and not b for a, b in zip(live, candidate, strict=True))
        again = sum(draw.random() < rate for _ in range(lost))
        refused += not judge_replay(replay_of(lost, again, gained)).passed
    assert refused / trials < 0.07  # and the error of so many trials


def test_the_sign_test_is_exact_for_many() -> None:
    """L8: the chance of at least so many even coins, also of thousands."""
    assert sign_test(0, 0) == 1.0
    for more, fewer in ((5, 0), (2, 1), (1, 2), (0, 3), (4, 4), (40, 60), (70, 30)):
        count = more + fewer
        exact = sum(math.comb(count, heads) for heads in range(more, count + 1)) / 2**count
        assert sign_test(more, fewer) == pytest.approx(exact, rel=1e-9)
    assert sign_test(50_000, 50_000) == pytest.approx(0.5, abs=0.01)
    assert sign_test(30_000, 0) == 0.0
