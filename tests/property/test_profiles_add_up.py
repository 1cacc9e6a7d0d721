"""Profiles of parts add up to that of the whole, whatever the parts, their order and what is merged first."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.monitoring.profiles.profile import Profile, merge, merge_all, profile

numbers = st.one_of(
    st.none(),
    st.floats(allow_nan=True, allow_infinity=True, width=64),
    st.floats(-5, 5),
    st.integers(-20, 20).map(float),
)
words = st.one_of(st.none(), st.sampled_from(["a", "b", "ü", ""]), st.text(max_size=4))
rows = st.lists(st.tuples(numbers, words), max_size=60)


def of(part: list[tuple[float | None, str | None]]) -> Profile:
    """Profile some rows."""
    schema = {"x": pl.Float64, "w": pl.String}
    return profile(pl.DataFrame(part, schema=schema, orient="row"))


def same(one: Profile, other: Profile) -> bool:
    """Whether all is equal but means and deviations, which are so but for rounding."""
    (x, w), (y, v) = ([part.columns[name] for name in "xw"] for part in (one, other))
    assert x.numbers is not None
    assert y.numbers is not None
    fields = ("count", "not_finite", "zeros", "low", "high", "bits", "bins", "counts")
    is_same = all(getattr(x.numbers, name) == getattr(y.numbers, name) for name in fields)
    assert w.words is not None
    assert v.words is not None
    words_are = all(
        getattr(w.words, name) == getattr(v.words, name) for name in ("count", "common", "rest", "distinct")
    )
    return is_same and words_are and (x.rows, x.nulls, w.nulls) == (y.rows, y.nulls, v.nulls)


@settings(max_examples=150, deadline=None)
@given(rows, rows, rows)
def test_parts_add_up_in_any_order(one: list, two: list, three: list) -> None:  # type: ignore[type-arg]  # rows as drawn
    """M8: merging is associative and commutative, and gives what the whole would have given."""
    a, b, c = of(one), of(two), of(three)
    whole = of(one + two + three)
    assert same(merge(merge(a, b), c), whole)
    assert same(merge(a, merge(b, c)), whole)
    assert same(merge_all([c, a, b]), whole)


def test_distinct_values_add_up_beyond_those_that_are_listed() -> None:
    """M8: 30,000 ids over three overlapping parts are counted within four standard errors, and alike in any order."""
    ids = pl.Series([f"user-{n}" for n in range(30_000)])
    rng = np.random.default_rng(0)
    whole = profile(pl.DataFrame({"w": ids})).columns["w"].words
    parts = [profile(pl.DataFrame({"w": ids.gather(rng.integers(0, 30_000, 40_000))})) for _ in range(3)]
    joined = [merge_all(order).columns["w"].words for order in (parts, parts[::-1])]
    assert whole is not None
    assert abs(whole.distinct / 30_000 - 1) < 0.09
    assert joined[0] is not None
    assert joined[1] is not None
    assert joined[0].distinct == joined[1].distinct
    assert joined[0].hashes == joined[1].hashes
    assert abs(joined[0].distinct / 29_450 - 1) < 0.09


def test_what_a_count_may_miss_is_bounded() -> None:
    """M8: with more than 512 values the listed counts are short by at most `missed`, also after merging."""
    rng = np.random.default_rng(1)
    parts = [pl.Series(rng.zipf(1.2, 30_000) % 20_000).cast(pl.String) for _ in range(4)]
    joined = merge_all([profile(part.alias("w").to_frame()) for part in parts]).columns["w"].words
    assert joined is not None
    true = dict(pl.concat(parts).value_counts().iter_rows())
    assert joined.rest == joined.count - sum(joined.common.values())
    for value, number in joined.common.items():
        assert number <= true[value] <= number + joined.missed
    assert all(number <= joined.missed for value, number in true.items() if value not in joined.common)
