"""`Evaluation`: what a user reads from the rows of several models."""

import itertools
import json
import math

import msgspec
import numpy as np
import polars as pl
import pytest

from penstock.checks.evaluation import Evaluation, Lift, Roles
from penstock.core.errors import DataError, InputError

ROLES = Roles(candidate="ranker", baselines=("popular",), champion="champion")


def make_rows(seed: int = 0, n: int = 400) -> dict[str, pl.DataFrame]:
    """Return rows of three models on the same examples, the candidate a little better."""
    rng = np.random.default_rng(seed)
    base = rng.random(n)
    genres = [list(rng.choice(["Drama", "Comedy", "War"], size=rng.integers(0, 3), replace=False)) for _ in range(n)]
    frame = pl.DataFrame({
        "user_id": np.arange(n),
        "decade": rng.choice([1980, 1990, 2000], n),
        "genre": pl.Series(genres, dtype=pl.List(pl.String)),
        "age": rng.random(n) * 60,
        "country": pl.Series([("de", "fr", None)[number % 3] for number in range(n)], dtype=pl.String),
    })  # fmt: skip
    gains = {"ranker": 0.02, "popular": 0.0, "champion": 0.01}
    return {
        model: frame.with_columns(ndcg=pl.Series(base + gain + rng.normal(0, 0.02, n)), hit=pl.Series(base > 0.5))
        for model, gain in gains.items()
    }


def make(rows: dict[str, pl.DataFrame] | None = None, *, higher_is_better: bool = True) -> Evaluation:
    return Evaluation(
        rows or make_rows(),
        roles=ROLES,
        metric="ndcg",
        slices=("decade", "genre", "age", "country"),
        key=("user_id",),
        higher_is_better=higher_is_better,
    )


def test_metrics_are_floats_and_flags_but_not_keys_and_slices() -> None:
    """A column of floats or of 0/1 values is a metric; ids and slices are not."""
    quality = make()
    assert quality.metrics == ("ndcg", "hit")
    assert (quality.metric, quality.candidate, quality.champion) == ("ndcg", "ranker", "champion")
    assert quality.models == ("ranker", "popular", "champion")


def test_a_lift_is_paired_so_it_sees_what_means_cannot() -> None:
    """The interval of the paired difference excludes zero where the two means' intervals overlap."""
    quality = make()
    lift = quality.lift("ranker", over="popular")
    ours, theirs = quality.mean("ranker"), quality.mean("popular")
    assert lift.low > 0
    assert ours.low < theirs.high
    assert lift.mean == pytest.approx(ours.mean - theirs.mean)
    assert lift.base == pytest.approx(theirs.mean)
    assert lift.relative == pytest.approx(lift.mean / theirs.mean)
    assert str(lift).endswith(", n=400")


def test_pairs_are_found_by_key_whatever_the_order() -> None:
    """The order of rows changes no digit of any statistic."""
    rows = make_rows()
    shuffled = {
        model: frame.sample(fraction=1.0, shuffle=True, seed=at) for at, (model, frame) in enumerate(rows.items())
    }
    assert msgspec.json.encode(make(rows).to_json()) == msgspec.json.encode(make(shuffled).to_json())


def test_where_compares_on_a_part() -> None:
    """`where` keeps the examples for which the condition holds; none at all is an error."""
    quality = make()
    part = quality.lift("ranker", over="popular", where=pl.col("country") == "de")
    assert part.n == quality.rows("ranker").filter(pl.col("country") == "de").height
    with pytest.raises(DataError, match="No examples to compare 'ranker' and 'popular'"):
        quality.lift("ranker", over="popular", where=pl.col("decade") == 2020)


def test_rows_that_are_not_the_same_examples_are_refused() -> None:
    """Unequal keys, repeated keys, unequal lengths and unequal descriptions each say what was found."""
    rows = make_rows()
    fewer = {**rows, "popular": rows["popular"].head(390)}
    with pytest.raises(DataError, match=r"10 examples only in the first, 0 only in the second"):
        make(fewer).lift("ranker", over="popular")
    doubled = {**rows, "popular": pl.concat([rows["popular"], rows["popular"].head(3)])}
    with pytest.raises(DataError, match=r"3 of 403 repeat a key \['user_id'\]"):
        make(doubled).lift("ranker", over="popular")
    with pytest.raises(DataError, match="400 rows against 390"):
        Evaluation(fewer, roles=ROLES, metric="ndcg").lift("ranker", over="popular")
    reversed_rows = {**rows, "popular": rows["popular"].reverse()}
    with pytest.raises(DataError, match=r"they differ in \['user_id', 'decade', 'genre', 'age', 'country'\]"):
        Evaluation(reversed_rows, roles=ROLES, metric="ndcg", slices=("age",)).lift("ranker", over="popular")


def test_a_bad_value_is_an_error_and_never_left_out() -> None:
    """NaN, infinity and null are counted and named; the summaries say None instead of a number."""
    rows = make_rows()
    bad = (
        pl.when(pl.col("user_id") < 3).then(math.nan).when(pl.col("user_id") == 3).then(None).otherwise(pl.col("ndcg"))
    )
    quality = make({**rows, "popular": rows["popular"].with_columns(ndcg=bad)})
    message = "Metric 'ndcg' of 'popular' is missing, NaN or infinite in 4 of 400 rows"
    with pytest.raises(DataError, match=message):
        quality.mean("popular")
    with pytest.raises(DataError, match=message):
        quality.lift("ranker", over="popular")
    assert quality.non_finite() == {("popular", "ndcg"): 4}
    table = {(row["model"], row["metric"]): row for row in quality.table()}
    assert table["popular", "ndcg"]["mean"] is None
    assert table["ranker", "ndcg"]["mean"] is not None
    assert "popular (baseline): not finite" in repr(quality)


def test_every_row_is_in_a_slice_and_lists_count_for_each_entry() -> None:
    """Counts add up: nulls and empty lists are slices of their own, numbers with many values become bins."""
    quality = make()
    found = quality.slices().filter((pl.col("model") == "ranker") & (pl.col("metric") == "ndcg"))
    sizes = {str(name): int(n) for name, n in found.group_by("column").agg(pl.col("n").sum()).iter_rows()}
    genres = quality.rows("ranker")["genre"].list.len()
    assert sizes == {"decade": 400, "age": 400, "country": 400, "genre": int(genres.clip(1, None).sum())}
    assert found.filter(pl.col("column") == "age").height == 5
    assert set(found.filter(pl.col("column") == "country")["value"]) == {"de", "fr", "(missing)"}
    assert set(found.filter(pl.col("column") == "genre")["value"]) == {"Drama", "Comedy", "War", "(missing)"}


def test_a_slice_is_an_evaluation_again() -> None:
    """`slice` keeps models and roles; values may be given as they are in the rows."""
    quality = make()
    part = quality.slice("decade", 1990)
    assert part.rows("ranker")["decade"].unique().to_list() == [1990]
    assert part.lift("ranker", over="champion").n == part.rows("ranker").height
    assert quality.slice("country", None).rows("popular")["country"].null_count() > 0
    row = quality.slices("genre").filter(
        (pl.col("value") == "War") & (pl.col("model") == "ranker") & (pl.col("metric") == "ndcg")
    )
    assert quality.slice("genre", "War").mean("ranker").mean == pytest.approx(row["mean"].item())
    with pytest.raises(InputError, match="No slice '2020' of 'decade'"):
        quality.slice("decade", 2020)
    with pytest.raises(InputError, match="'user_id' is not a slice"):
        quality.slices("user_id")


def test_beyond_fifty_values_the_rest_is_one_slice() -> None:
    """A column with many values keeps the 50 most frequent and `(other)`."""
    many = [f"v{number:03}" for number in range(80) for _ in range(1 + (number < 50))]
    frame = pl.DataFrame({"city": many, "score": np.linspace(0, 1, len(many))})
    quality = Evaluation({"ranker": frame}, roles=Roles(candidate="ranker"), slices=("city",))
    found = quality.slices("city")
    assert found.height == 51
    assert found.filter(pl.col("value") == "(other)")["n"].item() == 30


def test_one_example_has_no_bounds() -> None:
    """With one example nothing is known about the spread: infinite bounds, None in plain records."""
    frame = pl.DataFrame({"kind": ["a", "b", "b"], "score": [0.3, 0.4, 0.6]})
    quality = Evaluation({"ranker": frame}, roles=Roles(candidate="ranker"), slices=("kind",))
    lone = quality.slice("kind", "a").mean("ranker")
    assert (lone.low, lone.high, lone.n) == (-math.inf, math.inf, 1)
    row = next(row for row in quality.to_metrics() if row["value"] == "a")
    assert (row["mean"], row["low"], row["high"]) == (0.3, None, None)


def test_worst_slices_follow_the_direction() -> None:
    """The worst slice has the lowest bound when higher is better, the highest when lower is."""
    rows = make_rows()
    scored = {m: f.with_columns(ndcg=pl.col("ndcg") - (pl.col("decade") == 1980) * 0.5) for m, f in rows.items()}
    assert make(scored).worst(count=1)["value"].item() == "1980"
    assert make(scored, higher_is_better=False).worst(count=1)["value"].item() != "1980"


def test_the_summary_is_plain_and_complete() -> None:
    """`to_json` survives JSON; the candidate's record carries its lifts over baseline and champion."""
    told = make().to_json()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    table = told["table"]
    assert isinstance(table, list)
    assert [lift["over"] for lift in table[0]["lifts"]] == ["popular", "champion"]
    assert [row["role"] for row in table[:3]] == ["candidate", "baseline", "champion"]
    assert set(make().to_metrics()[0]) == {"model", "metric", "slice", "value", "mean", "low", "high", "n"}
    assert "<td>ranker</td>" in make()._repr_html_()


def test_mistakes_say_what_there_is() -> None:
    """Unknown models, metrics and columns are answered with the known ones."""
    rows = make_rows()
    quality = make()
    with pytest.raises(InputError, match=r"No model 'rankr'.*'ranker'"):
        quality.mean("rankr")
    with pytest.raises(InputError, match=r"No metric 'mrr'.*ndcg"):
        quality.mean("ranker", "mrr")
    with pytest.raises(DataError, match=r"'ranker' have no column 'mrr'\."):
        Evaluation(rows, roles=ROLES, metric="mrr")
    with pytest.raises(DataError, match=r"No evaluation rows of \['other'\]"):
        Evaluation(rows, roles=Roles(candidate="other"))
    with pytest.raises(DataError, match="have no metric"):
        Evaluation({"ranker": rows["ranker"].select("user_id")}, roles=Roles(candidate="ranker"))
    empty = Evaluation({"ranker": rows["ranker"].clear()}, roles=Roles(candidate="ranker"), metric="ndcg")
    with pytest.raises(DataError, match="No evaluation rows of 'ranker'"):
        empty.mean("ranker")
    assert "no rows" in repr(empty)


def test_a_lift_over_itself_is_nothing() -> None:
    """Equal rows give a lift of exactly zero, whatever the metric."""
    quality = make()
    for model, metric in itertools.product(quality.models, quality.metrics):
        lift = quality.lift(model, over=model, metric=metric)
        assert isinstance(lift, Lift)
        assert (lift.mean, lift.low, lift.high) == (0.0, 0.0, 0.0)
