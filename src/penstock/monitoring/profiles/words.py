"""Profiles of columns of categories and texts: the most common values with their counts, and the rest as a number."""

from collections.abc import Mapping

import polars as pl

from penstock.core.records import Record

MOST = 512
_LONGEST = 128


class Words(Record, frozen=True, kw_only=True):
    """What values of a category look like.

    Attributes:
        count: Values.
        common: The most common values with their counts, at most 512; longer texts are cut to 128 characters.
        rest: Values that are none of these.
        distinct: Different values, at least: exact within one profile, the largest of both parts after merging.
        length_mean: Mean length in characters.
    """

    count: int = 0
    common: dict[str, int] = {}
    rest: int = 0
    distinct: int = 0
    length_mean: float = 0.0


def words_of(series: pl.Series) -> Words:
    """Profile a column of text, categories or truth values without nulls."""
    if not len(series):
        return Words()
    text = series if series.dtype == pl.String else series.cast(pl.String)
    counted = text.alias("value").value_counts(sort=False)
    distinct = counted.height
    # Ties are broken by the value, so that the same rows give the same profile.
    top = counted.sort("count", "value", descending=[True, False]).head(MOST)
    common: dict[str, int] = {}
    for value, number in top.iter_rows():
        common[value[:_LONGEST]] = common.get(value[:_LONGEST], 0) + number
    length = counted.select((pl.col("value").str.len_chars() * pl.col("count")).sum()).item() or 0
    return Words(
        count=len(series),
        common=common,
        rest=len(series) - sum(common.values()),
        distinct=distinct,
        length_mean=float(length) / len(series),
    )


def merged_words(one: Words, other: Words) -> Words:
    """Return the profile of both sets of values.

    A value that was common in one part only keeps that part's count: what was too rare to be listed is in the rest.
    """
    count = one.count + other.count
    if not count:
        return Words()
    totals = dict(one.common)
    for value, number in other.common.items():
        totals[value] = totals.get(value, 0) + number
    kept = _most(totals)
    return Words(
        count=count,
        common=kept,
        rest=count - sum(kept.values()),
        distinct=max(one.distinct, other.distinct, len(totals)),
        length_mean=(one.length_mean * one.count + other.length_mean * other.count) / count,
    )


def _most(totals: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:MOST])
