"""What an experiment decides from tallies, and what its plan says before it begins."""

import math
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from penstock.checks.sequential import Moments
from penstock.core.errors import InputError, StoreError
from penstock.core.states import ExperimentState, change_experiment
from penstock.releases.experiments.decide import Decision, Seen, Tally, Wait, decide
from penstock.releases.experiments.plan import (
    Arm,
    Metric,
    Plan,
    Usual,
    Wanted,
    Wishes,
    days_until,
    keys_after,
    make_plan,
)
from penstock.releases.experiments.words import plan_words, verdict_of
from penstock.serving.plane.split import arm_of

START = datetime(2024, 5, 1, tzinfo=UTC)
USUAL = Usual(
    per_key=Moments(n=5000, mean=0.1, m2=450.0),
    guards={"bought": Moments(n=5000, mean=0.02, m2=98.0)},
    new_keys=tuple(range(500, 14_001, 500)),
    keys_per_month=30_000.0,
    answers_per_day=2_000.0,
)
WISHES = Wishes(
    name="ranking",
    arms=(Arm(name="movies@3", share=0.5), Arm(name="movies@4", share=0.5)),
    outcome=Metric(name="watched"),
    effect=Wanted(amount=0.02),
    value=0.3,
    cost=0.001,
)
GUARDED = msgspec.structs.replace(WISHES, guards=(Metric(name="bought", margin=0.1),))


def _plan(wishes: Wishes = WISHES) -> Plan:
    return make_plan(wishes, USUAL, salt="movies/ranking")


def _share(n: int, hits: int) -> Tally:
    return Tally(moments=Moments(n=n, mean=hits / n, m2=hits * (1 - hits / n)), is_share=True)


def _seen(plan: Plan, n: int, **hits: tuple[int, int]) -> Seen:
    tallies = {
        name: {arm.name: _share(n, count) for arm, count in zip(plan.arms, counts, strict=True)}
        for name, counts in hits.items()
    }
    return Seen(started_at=START, assigned={arm.name: n for arm in plan.arms}, tallies=tallies)


def _decide(plan: Plan, seen: Seen, days: float = 3.0) -> Wait | Decision:
    return decide(plan, seen, START + timedelta(days=days))


def test_a_plan_says_how_long_an_effect_takes_and_what_it_is_worth() -> None:
    """Q74, L5: units, days and money before anything begins; a smaller effect takes longer; days give an effect."""
    plan = _plan()
    # An equal split needs about 2 (z_power + boundary)^2 (deviation / effect)^2 keys a side, the boundary near 3.
    assert plan.units == pytest.approx(2 * (0.84 + 3.05) ** 2 * (0.3 / 0.02) ** 2, rel=0.03)
    assert plan.days == pytest.approx(2 * plan.units / 500 + 1, rel=0.01)
    finer = _plan(msgspec.structs.replace(WISHES, effect=Wanted(amount=0.1, is_relative=True)))
    assert finer.effect == pytest.approx(0.01)
    assert finer.units == pytest.approx(4 * plan.units, rel=0.02)
    by_days = _plan(msgspec.structs.replace(WISHES, effect=None, days=plan.days))
    assert by_days.effect == pytest.approx(0.02, rel=0.01)
    assert by_days.longest_days == pytest.approx(plan.days, rel=0.02)
    said = "\n".join(plan_words(_plan(GUARDED)))
    for words in (
        "movies@3 is the control",
        "Wrong in at most 5%",
        "worth about 180 a month",
        "bought may lose at most 10%",
    ):
        assert words in said
    assert "cost about 60 a month" in said
    # The spread of a share of 2 % is 0.14: as many keys as find 0.02 in 0.3 rule out 0.02 * 0.14 / 0.3 of 0.02.
    assert "these keys cannot rule out a loss of less than 47%, so it may end undecided" in said


def test_traffic_of_people_who_come_back_is_reckoned_by_its_curve() -> None:
    """Days to decide follow how many keys are new each day, which falls where the same people come again."""
    curve = (1000, 1500, 1750, 1850, 1900, 1930, 1950, 1960)
    assert days_until(curve, 1500) == pytest.approx(2.0)
    assert days_until(curve, 1750) == pytest.approx(3.0)
    assert keys_after(curve, 2.5) == pytest.approx(1625)
    assert keys_after(curve, days_until(curve, 5000)) == pytest.approx(5000)
    assert days_until((), 10) == math.inf


def test_the_better_arm_wins_in_words_and_money() -> None:
    """Q74, Q10: the verdict says the difference, its interval, the money a month at today's traffic, and who wins."""
    plan = _plan()
    seen = _seen(plan, 6000, watched=(600, 780))
    decision = _decide(plan, seen)
    assert isinstance(decision, Decision)
    verdict = verdict_of(plan, decision, seen, START)
    assert (verdict.kind, verdict.winner) == ("wins", "movies@4")
    assert verdict.per_month == pytest.approx(0.03 * 0.3 * 30_000)
    assert verdict.per_month_low is not None
    assert 0 < verdict.per_month_low < 270
    assert verdict.said.startswith("movies@4 brings 0.03 more watched per key (0.0")
    assert "than movies@3, about 270 a month at today's traffic" in verdict.said
    assert verdict.said.endswith("stop: movies@4 wins")


def test_the_control_wins_where_the_other_arm_does_harm() -> None:
    """A candidate that is surely worse ends the experiment; where less is better it is the other way round."""
    plan = _plan()
    found = _decide(plan, _seen(plan, 6000, watched=(780, 600)))
    assert isinstance(found, Decision)
    assert (found.kind, found.winner, found.over) == ("wins", "movies@3", "movies@4")
    less = _plan(msgspec.structs.replace(WISHES, outcome=Metric(name="watched", higher_is_better=False), value=-0.3))
    seen = _seen(less, 6000, watched=(780, 600))
    found = _decide(less, seen)
    assert isinstance(found, Decision)
    assert found.winner == "movies@4"
    assert verdict_of(less, found, seen, START).per_month == pytest.approx(270)


def test_a_guard_that_surely_fell_keeps_an_arm_from_winning() -> None:
    """L5: better on the outcome but surely worse on a guard: the control stays."""
    plan = _plan(GUARDED)
    found = _decide(plan, _seen(plan, 6000, watched=(600, 900), bought=(240, 90)))
    assert isinstance(found, Decision)
    assert (found.kind, found.winner) == ("wins", "movies@3")
    assert found.because == "movies@4 is worse on bought"


def test_a_guard_that_is_not_shown_to_hold_is_waited_for_until_the_end() -> None:
    """A winner needs every guard within its margin: until then it waits; at the end it is undecided, not a win."""
    plan = _plan(GUARDED)
    seen = _seen(plan, 3000, watched=(300, 480), bought=(60, 58))
    early = _decide(plan, seen)
    assert isinstance(early, Wait)
    assert "no worse on bought is not shown yet" in early.because
    late = _decide(plan, seen, days=plan.longest_days + 1)
    assert isinstance(late, Decision)
    assert (late.kind, late.winner) == ("undecided", None)


def test_no_difference_is_said_once_none_worth_finding_is_left() -> None:
    """With an interval inside the effect that was to be found, or at the end of the plan, the control stays."""
    plan = _plan()
    found = _decide(plan, _seen(plan, 6800, watched=(680, 660)))
    assert isinstance(found, Decision)
    assert (found.kind, found.winner) == ("no_difference", "movies@3")
    early = _decide(plan, _seen(plan, 1000, watched=(100, 104)))
    assert isinstance(early, Wait)
    assert early.days_left == pytest.approx(plan.longest_days - 3)
    ended = _decide(plan, _seen(plan, 1000, watched=(100, 104)), days=plan.longest_days + 1)
    assert isinstance(ended, Decision)
    assert ended.kind == "no_difference"


def test_a_split_that_is_not_as_planned_ends_it() -> None:
    """L5: with 8 % of an arm's keys missing nothing is learned, however good the figures look."""
    plan = _plan()
    seen = msgspec.structs.replace(_seen(plan, 6000, watched=(600, 780)), assigned={"movies@3": 6000, "movies@4": 5500})
    found = _decide(plan, seen)
    assert isinstance(found, Decision)
    assert (found.kind, found.winner) == ("invalid", None)
    assert "movies@4 47.83% instead of 50.00%" in found.because


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": (Arm(name="movies@3", share=1.0),)}, "cannot be compared"),
        ({"arms": (Arm(name="a", share=0.5), Arm(name="b", share=0.4))}, "do not add up to 1"),
        ({"alpha": 0.0}, "alpha 0.0 is not between"),
        ({"effect": Wanted(amount=0.0)}, "effect 0.0 is not above zero"),
        ({"effect": Wanted(amount=1e-6)}, "more than come in ten years"),
        ({"effect": None, "days": 0.5}, "no key is measured to the end"),
        ({"guards": (Metric(name="watched", margin=0.1),)}, "cannot decide and be a guard"),
    ],
)
def test_what_cannot_be_planned_is_said(change: dict[str, object], message: str) -> None:
    """One clear error with the value and the next step."""
    with pytest.raises(InputError, match=message) as caught:
        _plan(msgspec.structs.replace(WISHES, **change))
    assert caught.value.hint


def test_states_change_by_the_table_alone() -> None:
    """What has ended stays ended."""
    assert change_experiment(ExperimentState.PLANNED, ExperimentState.RUNNING) is ExperimentState.RUNNING
    with pytest.raises(StoreError, match="cannot go from 'decided' to 'running'"):
        change_experiment(ExperimentState.DECIDED, ExperimentState.RUNNING)


def test_keys_fall_on_arms_by_their_shares_and_stay() -> None:
    """L5: 30,000 keys fall as the shares say; an arm in front that grows keeps its keys; another salt deals anew."""
    keys = [f"user-{n}".encode() for n in range(30_000)]
    shares = (0.2, 0.3, 0.5)
    dealt = [arm_of(key, "movies/one", shares) for key in keys]
    for arm, share in enumerate(shares):
        assert dealt.count(arm) == pytest.approx(share * len(keys), rel=0.03)
    assert dealt == [arm_of(key, "movies/one", [20, 30, 50]) for key in keys]
    grown = [arm_of(key, "movies/one", (0.5, 0.5)) for key in keys]
    assert all(now == 0 for before, now in zip(dealt, grown, strict=True) if before == 0)
    other = [arm_of(key, "movies/two", shares) for key in keys]
    both = sum(one == two == 0 for one, two in zip(dealt, other, strict=True))
    assert both == pytest.approx(0.04 * len(keys), rel=0.1)
    assert {arm_of(key, "x", (0, 1, 0)) for key in keys[:1000]} == {1}
    with pytest.raises(ValueError, match="cannot be split by"):
        arm_of(b"user-1", "x", (0, 0))
