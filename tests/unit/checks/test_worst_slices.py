"""The worst slices are found, surely bad, few, and hardly ever invented (E2, N8)."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from penstock.checks.built_in import worst_slices
from penstock.checks.cells import searchable
from penstock.checks.evaluation import Evaluation, Roles
from penstock.checks.statistics import Floats, false_discovery
from penstock.checks.worst_slices import Limits, Searched, search_slices

BANK = Path(__file__).parents[4] / "shared" / "data" / "bank_marketing" / "bank_full.parquet"
GAINS = 1 / np.log2(np.arange(2, 12))


def described(rng: np.random.Generator, n: int) -> pl.DataFrame:
    """Return rows with ten columns of words and numbers."""
    words = {f"word{at}": rng.choice(list("abcde"), n) for at in range(6)}
    return pl.DataFrame(words | {f"number{at}": rng.normal(size=n) for at in range(4)})


def ndcg(rng: np.random.Generator, n: int) -> Floats:
    return np.where(rng.random(n) < 0.3, rng.choice(GAINS, n), 0.0)


def search(frame: pl.DataFrame, gains: Floats, limits: Limits | None = None) -> Searched:
    return search_slices(frame, searchable(frame), gains, limits=limits or Limits())


def test_a_bad_subgroup_of_two_percent_is_found_and_nothing_else() -> None:
    """N8: 2 % of the rows, by a value of one column and a range of another, are named in at least 9 of 10 searches."""
    hits = extra = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        frame = described(rng, 6000)
        planted = (frame["word0"] == "a") & (frame["number0"] > float(np.quantile(frame["number0"], 0.9)))
        assert 0.015 < planted.sum() / 6000 < 0.025
        found = search(frame, rng.normal(0, 1, 6000) - 1.2 * planted.to_numpy()).found
        is_hit = [{column for column, _ in one.parts} == {"word0", "number0"} for one in found]
        hits += any(is_hit)
        extra += len(is_hit) - sum(is_hit)
        assert all(one.high < 0 and one.n >= 20 for one in found)
    assert hits >= 27
    assert extra <= 2


@pytest.mark.parametrize("kind", ["normal", "ndcg"])
def test_an_equal_candidate_is_blocked_in_less_than_five_percent(kind: str) -> None:
    """N8: over 200 evaluations of two equal models, searched in some hundred slices each, fewer than 10 are blocked."""
    blocked = judged = 0
    for seed in range(200):
        rng = np.random.default_rng([seed, len(kind)])
        frame = described(rng, 700)
        gains = rng.normal(size=700) if kind == "normal" else ndcg(rng, 700) - ndcg(rng, 700)
        found = search(frame, gains, Limits(min_effect=0.0))
        blocked += bool(found.found)
        judged += found.judged
    assert blocked < 10
    assert judged > 200 * 150


def test_a_column_that_explains_all_is_told_alone() -> None:
    """Where a whole value is bad, no pair within it and nothing that overlaps it is told beside it."""
    rng = np.random.default_rng(1)
    frame = described(rng, 6000).with_columns(twin=pl.col("word1") + "!")
    searched = search(frame, rng.normal(0, 1, 6000) - 0.5 * (frame["word1"] == "b").to_numpy())
    assert [one.name for one in searched.found] in ([("word1=b")], ["twin=b!"])
    assert searched.bad > 10


def test_two_bad_subgroups_are_both_told() -> None:
    """What one slice does not explain is told too, the surest first."""
    rng = np.random.default_rng(12)
    frame = described(rng, 8000)
    lost = 1.5 * (frame["word2"] == "c").to_numpy() + 1.0 * (frame["word3"] == "d").to_numpy()
    found = search(frame, rng.normal(0, 1, 8000) - lost).found
    assert [one.name for one in found] == ["word2=c", "word3=d"]
    assert found[0].low < -1.7 < found[0].high


def test_lists_are_searched_by_their_members() -> None:
    """A title of several genres counts for each; a pair of a genre and another column, or of two lists, is found."""
    rng = np.random.default_rng(3)
    genres = [sorted(set(rng.choice(["Drama", "Horror", "Comedy", "War"], 2).tolist())) for _ in range(4000)]
    tags = [[str(tag)] if tag < 5 else [] for tag in rng.integers(0, 6, 4000)]
    frame = pl.DataFrame({"genres": genres, "tags": tags, "plan": rng.choice(["a", "b", "c"], 4000)})
    is_war = np.array(["War" in row for row in genres])
    by_plan = search(frame, rng.normal(0, 1, 4000) - 1.0 * (is_war & (frame["plan"] == "b").to_numpy()))
    assert [one.name for one in by_plan.found] == ["genres=War and plan=b"]
    by_tag = search(frame, rng.normal(0, 1, 4000) - 1.5 * (is_war & np.array([row == ["3"] for row in tags])))
    assert [one.name for one in by_tag.found] == ["genres=War and tags=3"]


def test_what_is_small_is_not_told() -> None:
    """Slices below the least size are counted, and a loss below the least effect, however sure, is left out."""
    rng = np.random.default_rng(4)
    frame = described(rng, 20_000)
    mild = rng.normal(0, 1, 20_000) - 0.1 * (frame["word0"] == "a").to_numpy()
    assert search(frame, mild).found == ()
    assert [one.name for one in search(frame, mild, Limits(min_effect=0.0)).found] == ["word0=a"]
    few = search(frame.head(60), mild[:60])
    assert few.too_small > few.judged


def test_no_digit_depends_on_the_order_of_rows() -> None:
    """The evidence is part of what a release's hash covers: shuffled rows give the same bytes."""
    rng = np.random.default_rng(5)
    frame = described(rng, 3000)
    gains = rng.normal(0, 1, 3000) - 1.0 * (frame["word0"] == "a").to_numpy()
    order = rng.permutation(3000)
    assert search(frame, gains).found
    assert search(frame, gains) == search(frame[order], gains[order])


def test_nothing_to_slice_by_is_nothing_found() -> None:
    """Keys, one value everywhere and words of many values are no slices."""
    frame = pl.DataFrame({"id": [f"u{n}" for n in range(100)], "same": ["x"] * 100})
    assert search(frame, np.full(100, -1.0)) == Searched(judged=0, too_small=0)


def quality(lost: pl.Expr, *, champion: bool = True, higher_is_better: bool = True) -> Evaluation:
    """Return an evaluation over a bank's real customers, with a candidate that is better but for some of them."""
    if not BANK.exists():
        assert os.environ.get("CI") != "true", f"bank marketing data is not at {BANK}"
        pytest.skip(f"bank marketing data is not at {BANK}")
    rng = np.random.default_rng(6)
    known = pl.read_parquet(BANK).drop("y").sample(12_000, seed=1)
    base = rng.normal(0.6, 0.2, known.height)
    sign = 1 if higher_is_better else -1
    live = known.with_columns(score=pl.Series(base))
    better = pl.Series(base + sign * (0.02 + rng.normal(0, 0.05, known.height)))
    ours = known.with_columns(score=better - sign * 0.15 * lost.fill_null(value=False).cast(pl.Float64))
    other = "live" if champion else "simple"
    roles = Roles(candidate="ours", champion="live") if champion else Roles(candidate="ours", baselines=("simple",))
    return Evaluation(
        {"ours": ours, other: live}, roles=roles, metric="score", key=("row",), higher_is_better=higher_is_better
    )


LOST = (pl.col("job") == "retired") & (pl.col("contact") == "cellular")


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_the_gate_blocks_by_a_slice_that_nobody_declared(higher_is_better: bool) -> None:
    """E2: the mean improved and no slice is declared, yet pensioners reached by mobile phone are worse off."""
    result = worst_slices(quality(LOST, higher_is_better=higher_is_better))
    assert not result.passed
    assert result.message.startswith("score is worse than the champion's for job=retired and contact=cellular by 0.1")
    (worse,) = result.evidence["worse"]
    assert worse["n"] > 250
    assert worse["high"] < 0
    assert worst_slices(quality(pl.lit(value=False), higher_is_better=higher_is_better)).passed


def test_a_baseline_that_is_better_for_some_is_told_and_blocks_nothing() -> None:
    """Before the first release there is no champion: a simple rule may be the best one for some few."""
    result = worst_slices(quality(LOST, champion=False))
    assert result.passed
    assert "a baseline is better, which blocks nothing, for job=retired and contact=cellular" in result.message


def test_columns_of_numbers_are_sliced_where_they_say_nothing_about_a_model() -> None:
    """An age is a column of floats as a metric is; what is the same for both models describes the example."""
    rng = np.random.default_rng(7)
    age = rng.uniform(18, 90, 4000)
    base = rng.normal(0, 1, 4000)
    ours = base + rng.normal(0, 0.3, 4000) - 0.6 * (age > 75.6)
    rows = {
        model: pl.DataFrame({"age": age, "score": score, "hit": (score > 0).astype(float)})
        for model, score in (("ours", ours), ("live", base))
    }
    result = worst_slices(Evaluation(rows, roles=Roles(candidate="ours", champion="live"), metric="score"))
    assert [row["parts"] for row in result.evidence["worse"]] == [
        (("age", result.evidence["worse"][0]["parts"][0][1]),)
    ]
    assert result.evidence["worse"][0]["slice"].startswith("age=>= 75")


def test_false_discovery_agrees_with_its_definition() -> None:
    """Worked example of Benjamini and Hochberg; under any dependence each is larger by the sum of 1/k."""
    p_values = np.array([0.01, 0.04, 0.03, 0.5])
    assert false_discovery(p_values) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    factor = 1 + 1 / 2 + 1 / 3 + 1 / 4
    assert false_discovery(p_values, is_any_dependence=True)[0] == pytest.approx(0.04 * factor)
    assert false_discovery(np.array([])).size == 0
