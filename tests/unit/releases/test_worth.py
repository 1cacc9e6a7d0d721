"""Whether offline figures tell anything of what answers come to."""

import numpy as np
import pytest
from scipy import stats

from penstock.checks.correlation import rank_correlation
from penstock.core.records import Interval
from penstock.releases.worth import Agreement, Triple, agreement_of


def _agreement(offline: list[float], online: list[float | None], *, is_turned: bool = False) -> Agreement:
    triples = [
        Triple(release=f"movies@{n}", offline=Interval(mean=a, low=a, high=a, n=100), online=b)
        for n, (a, b) in enumerate(zip(offline, online, strict=True), start=1)
    ]
    return agreement_of(triples, (), metric="ndcg_at_10", outcome="watched", is_turned=is_turned)


def test_figures_that_go_together_or_against_each_other_are_told_apart() -> None:
    """B4, tM2: over releases the sign and its interval are said; where it flips there is a warning."""
    offline = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    rising: list[float | None] = [1.0, 1.1, 1.3, 1.2, 1.5, 1.6, 1.9, 1.8]
    assert _agreement(offline, rising).found == "agrees"
    against = _agreement(offline, rising[::-1])
    assert against.found == "against"
    assert against.said.startswith("CAUTION: ndcg_at_10 and watched surely run against each other")
    assert _agreement(offline, rising[::-1], is_turned=True).found == "agrees"
    assert _agreement(offline[:5], [3.0, 1.0, 2.0, 2.5, 0.5]).found == "flipped"
    assert _agreement(offline[:5], [0.5, 3.0, 1.0, 2.0, 2.5]).found == "unclear"
    few = _agreement(offline[:5], [1.0, None, 2.0, 3.0, 4.0])
    assert (few.found, few.releases) == ("unknown", 4)
    assert "5 are needed" in few.said


def test_a_rank_correlation_is_that_of_scipy_and_its_interval_holds_the_truth() -> None:
    """The estimate is SciPy's, ties too; of 1,000 samples without relation at most 7 % of intervals miss zero."""
    rng = np.random.default_rng(5)
    one, other = rng.integers(0, 6, 30).astype(float), rng.normal(size=30)
    assert rank_correlation(list(one), list(other)).r == pytest.approx(stats.spearmanr(one, other).statistic)
    found = [rank_correlation(list(rng.normal(size=8)), list(rng.normal(size=8))) for _ in range(1000)]
    assert sum(one.low > 0 or one.high < 0 for one in found) <= 70
    assert (rank_correlation([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).low, rank_correlation([], []).n) == (-1.0, 0)
    with pytest.raises(ValueError, match="2 figures do not go with 1"):
        rank_correlation([1, 2], [1])
