"""Guards of a rollout: what they find, and how often they are wrong."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from penstock.monitoring.guards import Answer, Guard, Tally, add, features_of, judge, tally_of

SEED = 20261130
LOOKS = 40
EACH = 25


def answers(
    chance: np.random.Generator, count: int, *, change: Callable[[float], float] = lambda score: score, **rates: float
) -> list[Answer]:
    """Return answers as a release gives them: a score, about 2 ms, now and then an error or a fallback."""
    found = []
    for _ in range(count):
        score = float(chance.beta(2, 5))
        is_error = chance.random() < rates.get("errors", 0.002)
        is_nan = chance.random() < rates.get("nan", 0.0)
        is_fallback = is_error or is_nan or chance.random() < rates.get("fallbacks", 0.005)
        answer = {"score": round(change(score), 4), "label": "high" if score > 0.5 else "low"}
        found.append(
            Answer(
                serve="judge",
                answer=json.dumps(answer).encode(),
                answer_us=int(chance.lognormal(7.6 + rates.get("slower", 0.0), 0.5)),
                error="AnswerError" if is_nan else "ValueError" if is_error else None,
                fallback=is_fallback,
            )
        )
    return found


def watched(
    chance: np.random.Generator, worse: dict[str, Any], *, looks: int = LOOKS
) -> tuple[int | None, list[Guard]]:
    """Look again and again at a canary of a tenth of the users; return the look that took it back, and by what."""
    base, candidate = Tally(features={}, distinct=set(), truth={}), Tally(features={}, distinct=set(), truth={})
    for look in range(looks):
        base = add(base, tally_of(answers(chance, EACH * 3), promise_us=20_000))
        candidate = add(candidate, tally_of(answers(chance, EACH, **worse), promise_us=20_000))
        broken = [guard for guard in judge(base, candidate, alpha=0.05, stages=3) if guard.is_broken]
        if broken:
            return look, broken
    return None, []


def test_two_hundred_clean_canaries_are_let_through() -> None:
    """L7, N4: of candidates that are no worse, looked at 20 times each, no more are taken back than was stated."""
    chance = np.random.default_rng(SEED)
    taken_back = sum(watched(chance, {}, looks=20)[0] is not None for _ in range(200))
    assert taken_back <= 10  # 5 % of 200


@pytest.mark.parametrize(
    ("worse", "guard"),
    [
        ({"errors": 0.2}, "errors"),
        ({"nan": 0.2}, "not finite"),
        ({"fallbacks": 0.3}, "fallbacks"),
        ({"slower": 1.5}, "time"),
        ({"change": lambda score: -score}, "answers: judge score"),
        ({"change": lambda score: 5 * score}, "answers: judge score"),
    ],
)
def test_a_planted_fault_is_found(worse: dict[str, Any], guard: str) -> None:
    """tI6, L7: errors, NaN, a fallback storm, slowness and inverted scores are found within a few hundred answers."""
    look, broken = watched(np.random.default_rng(SEED), worse)
    assert look is not None
    assert guard in {found.name for found in broken}


def test_one_answer_to_everybody_is_found() -> None:
    """A candidate that has stopped looking at what it is asked is taken back though each answer is plausible."""
    chance = np.random.default_rng(SEED)
    base = tally_of(answers(chance, 2000))
    constant = tally_of(answers(chance, 400, change=lambda _score: 0.28))
    same = tally_of([Answer(serve="judge", answer=b'{"score":0.28,"label":"low"}', answer_us=2000)] * 400)
    assert {guard.name for guard in judge(base, same, alpha=0.05, stages=3) if guard.is_broken} >= {
        "answers: all the same"
    }
    assert "answers: all the same" not in {g.name for g in judge(base, constant, alpha=0.05, stages=3) if g.is_broken}


def test_truth_that_is_worse_takes_a_candidate_back() -> None:
    """L7: live quality decides where the truth is known, in either direction of what is better."""
    from penstock.checks.sequential import Moments  # noqa: PLC0415 - beside its only use

    chance = np.random.default_rng(SEED)
    base, good, bad = (
        Tally(
            features={}, distinct=set(), truth={"outcome watched": Moments.of(chance.binomial(1, rate, 3000).tolist())}
        )
        for rate in (0.3, 0.31, 0.2)
    )
    assert not any(guard.is_broken for guard in judge(base, good, alpha=0.05, stages=3))
    assert [guard.name for guard in judge(base, bad, alpha=0.05, stages=3) if guard.is_broken] == [
        "quality: outcome watched"
    ]


def test_a_number_that_never_varies_judges_nobody() -> None:
    """An answer may hold the version of its model: another one is no fault."""
    base, candidate = (
        tally_of(
            [
                Answer(serve="judge", answer=b'{"version":%d,"score":%.3f}' % (version, at / 500), answer_us=2000)
                for at in range(500)
            ]
        )
        for version in (1, 2)
    )
    names = {guard.name: guard.is_broken for guard in judge(base, candidate, alpha=0.05, stages=1)}
    assert names["answers: judge score"] is False
    assert "answers: judge version" not in names


def test_tallies_add_up() -> None:
    """What several looks saw is what one look would have seen."""
    chance = np.random.default_rng(SEED)
    found = answers(chance, 300, errors=0.05)
    parts, whole = add(tally_of(found[:70]), tally_of(found[70:])), tally_of(found)
    assert (parts.n, parts.errors, parts.fallbacks) == (whole.n, whole.errors, whole.fallbacks)
    assert parts.features.keys() == whole.features.keys()
    for name, moments in whole.features.items():
        assert parts.features[name].mean == pytest.approx(moments.mean)
        assert parts.features[name].m2 == pytest.approx(moments.m2)


@pytest.mark.parametrize(
    ("answer", "features"),
    [
        (0.5, {"value": 0.5}),
        (True, {"value": 1.0}),
        (None, {}),
        ("text", {"length": 4.0}),
        ({"a": 1, "b": {"c": "xy"}}, {"a": 1.0, "b.c.length": 2.0}),
        ([{"s": 3}, {"s": 1}], {"length": 2.0, "first.s": 3.0, "last.s": 1.0}),
        ([], {"length": 0.0}),
    ],
)
def test_answers_of_every_shape_are_described(answer: object, features: dict[str, float]) -> None:
    """Whatever a serve function answers, numbers say how it is distributed."""
    assert features_of(answer) == features
