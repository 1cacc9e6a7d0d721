"""Experiments on customers who really were randomised: the known effects are found, and none where there is none."""

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import experiments as real  # noqa: E402 - found only with the folder on the path

from penstock.releases.experiments.decide import Decision, Wait  # noqa: E402 - as above
from penstock.releases.experiments.plan import Metric  # noqa: E402 - as above
from penstock.releases.experiments.words import verdict_of  # noqa: E402 - as above

pytestmark = pytest.mark.skipif(
    not real.DATA.exists(), reason=f"{real.DATA} is not there; it lies beside the repository"
)

GUARD = Metric(name="conversion", margin=0.1)
PAIRS = ((real.MENS, real.NONE), (real.WOMENS, real.NONE), (real.MENS, real.WOMENS))


@pytest.fixture(scope="module")
def mail() -> real.Mail:
    return real.mail()


def _seen(pair: tuple[str, str], metric: str) -> tuple[str, str, str]:
    """Return how looks name a pair: the later arm over the earlier one."""
    arm, over = sorted(pair, key=real.ARMS.index, reverse=True)
    return metric, arm, over


def test_the_known_effects_are_found_and_held_by_every_interval(mail: real.Mail) -> None:
    """L5, Q74: in four orders both mails beat none on visits and the men's beats the women's, before the end.

    At every one of 128 looks each interval holds the difference of all 64,000 customers.
    """
    made = real.plan()
    rate = {arm: float(mail.visit[mail.arm == at].mean()) for at, arm in enumerate(real.ARMS)}
    assert [round(rate[arm], 3) for arm in real.ARMS] == [0.106, 0.183, 0.151]
    for customers in (mail, *(mail.shuffled(seed) for seed in (1, 2, 3))):
        looks = [real.effects(made, look) for look in real.replay(made, customers)]
        for better, worse in PAIRS:
            key = _seen((better, worse), "visit")
            truth = rate[key[1]] - rate[key[2]]
            assert all(look[key].low <= truth <= look[key].high for look in looks), key
            word = "better" if key[1] == better else "worse"
            first = next(at for at, look in enumerate(looks) if look[key].found == word)
            assert first < len(looks) - 1
            assert {look[key].found for look in looks} == {"unclear", word}


def test_it_is_decided_early_and_said_in_words_and_money(mail: real.Mail) -> None:
    """Q74, Q10: with conversion as a guard the men's mail wins well before all have come, and the verdict says so."""
    made = real.plan(guards=(GUARD,))
    for seed in range(5):
        look = next(one for one in real.replay(made, mail.shuffled(seed)) if not isinstance(one.found, Wait))
        assert isinstance(look.found, Decision)
        assert (look.found.kind, look.found.winner, look.rows < 48_000) == ("wins", real.MENS, True)
        verdict = verdict_of(made, look.found, look.seen, real.START)
        assert verdict.per_month is not None
        assert verdict.said.startswith(f"{real.MENS} brings 0.0")
        assert f"about {verdict.per_month:,.0f} a month at today's traffic" in verdict.said
        assert verdict.said.endswith(f"stop: {real.MENS} wins")


def test_without_effect_it_decides_wrongly_in_at_most_five_per_cent(mail: real.Mail) -> None:
    """L5, Q74: 150 copies with arms dealt anew, 128 looks each; `python -m benchmarks experiments` does 500.

    Neither does an arm win in more than 5 % of them, nor does any look call any difference sure.
    """
    wins, ever = real.wrong(real.plan(guards=(GUARD,)), mail, 150)
    assert wins <= 0.05 * 150
    assert ever <= 0.05 * 150


def test_lost_customers_are_noticed_before_they_mislead(mail: real.Mail) -> None:
    """L5: where every tenth idle customer of one arm is lost, the experiment ends without a winner."""
    made = real.plan()
    idle = np.flatnonzero((mail.arm == 1) & (mail.visit == 0))
    kept = np.setdiff1d(np.arange(len(mail.arm)), idle[::10])
    lost = real.Mail(mail.arm[kept], mail.visit[kept], mail.conversion[kept]).shuffled(4)
    found = real.decided(made, lost)
    assert found is not None
    assert (found[1].kind, found[1].winner) == ("invalid", None)
    assert "did not fall on arms as planned" in found[1].because
