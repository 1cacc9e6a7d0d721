"""Profiles say what columns look like, add up, and come back from their bytes."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from penstock.monitoring.profiles.numbers import quantiles, share_below
from penstock.monitoring.profiles.profile import decode_profile, encode_profile, merge, merge_all, profile


def people(rows: int, seed: int = 0) -> pl.DataFrame:
    """Return columns of every kind."""
    rng = np.random.default_rng(seed)
    wealth = np.exp(rng.normal(8, 2, rows)) * rng.choice([1, -1, 0], rows, p=[0.8, 0.1, 0.1])
    return pl.DataFrame({
        "wealth": wealth,
        "age": rng.integers(0, 99, rows),
        "city": rng.choice(np.array(["Bern", "Ürümqi", "Łódź"]), rows),
        "member": rng.random(rows) < 0.3,
        "since": pl.Series(rng.integers(0, 10**9, rows)).cast(pl.Datetime("ms", "UTC")),
        "notes": [None if n % 3 else "x" * (n % 7) for n in range(rows)],
        "tags": [[n] for n in range(rows)],
    })  # fmt: skip


@pytest.mark.parametrize("rows", [1, 999, 200_000])
def test_quantiles_are_near_the_true_ones(rows: int) -> None:
    """D8: within 1/32 of the value, whatever the sign and the order of magnitude, for few and many rows."""
    frame = people(rows)
    shares = np.array([0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0])
    for name in ("wealth", "age"):
        numbers = profile(frame).columns[name].numbers
        assert numbers is not None
        true = np.quantile(frame[name].to_numpy(), shares, method="inverted_cdf")
        assert quantiles(numbers, shares) == pytest.approx(true, rel=1 / 32, abs=1e-9)
        edges = np.quantile(frame[name].to_numpy(), [0.3, 0.8])
        true_shares = [(frame[name] <= edge).mean() for edge in edges]
        assert share_below(numbers, edges) == pytest.approx(true_shares, abs=0.03 if rows > 1 else 1)


def test_a_profile_counts_exactly() -> None:
    """tO2: rows, missing values, zeros, NaN, infinities, extremes and categories are exact."""
    frame = pl.DataFrame({
        "x": [1.0, -2.5, 0.0, float("nan"), float("inf"), None],
        "c": ["a", "b", "a", None, "a", "c"],
        "b": [True, False, True, True, None, None],
        "t": [datetime(2024, 1, 1, tzinfo=UTC)] * 6,
    })  # fmt: skip
    found = profile(frame)
    x, c, b, t = (found.columns[name] for name in "xcbt")
    assert (found.rows, x.nulls, c.nulls, b.nulls) == (6, 1, 1, 2)
    assert x.numbers is not None
    assert (x.numbers.count, x.numbers.not_finite, x.numbers.zeros) == (3, 2, 1)
    assert (x.numbers.low, x.numbers.high) == (-2.5, 1.0)
    assert c.words is not None
    assert c.words.common == {"a": 3, "b": 1, "c": 1}
    assert b.words is not None
    assert b.words.common == {"true": 3, "false": 1}
    assert t.numbers is not None
    assert t.numbers.low == t.numbers.high == datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6


def test_profiles_of_parts_add_up_to_that_of_the_whole() -> None:
    """M8: what workers, windows and nodes saw can be joined without the rows."""
    frame = people(20_000)
    whole = profile(frame)
    parts = [profile(frame.slice(start, length)) for start, length in ((0, 1), (1, 7_000), (7_001, 20_000))]
    joined = merge(merge(parts[0], parts[1]), parts[2])
    assert joined.rows == whole.rows
    for name, column in whole.columns.items():
        other = joined.columns[name]
        assert (other.rows, other.nulls) == (column.rows, column.nulls)
        if column.numbers is not None and other.numbers is not None:
            assert other.numbers.bins == column.numbers.bins
            assert other.numbers.counts == column.numbers.counts
            assert other.numbers.mean == pytest.approx(column.numbers.mean)
            assert other.numbers.variance == pytest.approx(column.numbers.variance)
        if column.words is not None and other.words is not None:
            assert other.words.common == column.words.common


def test_a_lazy_frame_is_profiled_in_batches_alike(tmp_path_factory: pytest.TempPathFactory) -> None:
    """D6: a frame that is read in pieces has the profile of the whole."""
    path = tmp_path_factory.mktemp("profile") / "people.parquet"
    frame = people(5_000)
    frame.write_parquet(path, row_group_size=700)
    lazy, whole = profile(pl.scan_parquet(path)), profile(frame)
    assert lazy.rows == whole.rows
    for name in ("wealth", "age"):
        one, other = lazy.columns[name].numbers, whole.columns[name].numbers
        assert one is not None
        assert other is not None
        assert (one.bins, one.counts) == (other.bins, other.counts)


def test_a_profile_comes_back_from_its_bytes() -> None:
    """M8: the same profile gives the same bytes, and they give it back."""
    found = profile(people(500))
    assert decode_profile(encode_profile(found)) == found
    assert encode_profile(found) == encode_profile(profile(people(500)))


def test_a_profile_of_a_newer_format_is_refused() -> None:
    """O3: what this version cannot read it does not guess."""
    data = encode_profile(profile(people(5))).replace(b"profile 2", b"profile 9")
    with pytest.raises(Exception, match="format 9"):
        decode_profile(data)


def test_profiles_of_other_columns_are_not_merged() -> None:
    """S6: a changed type is said, not averaged over."""
    with pytest.raises(Exception, match="'x'"):
        merge(profile(pl.DataFrame({"x": [1]})), profile(pl.DataFrame({"x": [1.0]})))


def test_no_rows_have_a_profile_too() -> None:
    """Q53: an empty window is a window."""
    found = profile(people(10).head(0))
    assert found.rows == 0
    assert merge(found, profile(people(10))).rows == 10


def test_long_columns_are_counted_exactly() -> None:
    """M8, D8: many rows are counted in tables, few by sorting: both say the same of numbers; texts are exact."""
    rng = np.random.default_rng(7)
    rows = 150_000
    frame = pl.DataFrame({
        "whole": np.rint(rng.normal(500, 80, rows)),
        "eighths": rng.integers(0, 900, rows) / 8 * rng.choice([1, 0], rows),
        "below": -np.exp(rng.normal(size=rows)),
        "broken": np.where(rng.random(rows) < 0.01, np.nan, rng.gamma(2, size=rows)),
        "word": "w" + pl.Series(rng.integers(0, 3_000, rows) ** 2 // 3_000).cast(pl.String),
    })  # fmt: skip
    whole = profile(frame).columns
    parts = [profile(frame.slice(start, 10_000).drop("word")) for start in range(0, rows, 10_000)]
    joined = merge_all(parts).columns
    for name, column in joined.items():
        one, other = column.numbers, whole[name].numbers
        assert one is not None
        assert other is not None
        assert (one.count, one.not_finite, one.zeros) == (other.count, other.not_finite, other.zeros)
        assert (one.bits, one.bins, one.counts) == (other.bits, other.bins, other.counts)
    words = whole["word"].words
    assert words is not None
    true = dict(frame["word"].value_counts().iter_rows())
    assert words.distinct == len(true)
    assert words.common == dict(sorted(true.items(), key=lambda item: (-item[1], item[0]))[:512])
    assert words.length_mean == pytest.approx(frame["word"].str.len_chars().mean())
