"""Profiles of columns of categories and texts: the most common values with their counts, and the rest as a number."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from penstock.core.records import Record
from penstock.monitoring.profiles.counting import Integers, counted
from penstock.monitoring.profiles.distinct import Hashes, estimated, fewest, hashes_of, hashing

MOST = 512
# While rows of one pass are counted more values are kept, so that what comes late in it is not lost early.
MOST_IN_PASSING = 4096
_LONGEST = 128
_MIXED = -1


class Words(Record, frozen=True, kw_only=True):
    """What values of a category look like.

    Attributes:
        count: Values.
        common: The most common values with their counts, at most 512; longer texts are cut to 128 characters.
        rest: Values that are none of these.
        missed: By how much a count may be too small, and the most often that a value occurs which is not listed; 0
            where all are listed.
        distinct: Different values: exact where all are listed, else within 2.2 % (one standard error); at least so
            many where parts were hashed by versions of polars that hash differently.
        length_mean: Mean length in characters.
        hashes: The smallest hashes of all values, as little-endian 64-bit integers; none where all are listed whole.
        hashed_by: Tells one way of hashing from another; 0 where all values are listed whole, -1 where ways were mixed.
    """

    count: int = 0
    common: dict[str, int] = {}
    rest: int = 0
    missed: int = 0
    distinct: int = 0
    length_mean: float = 0.0
    hashes: bytes = b""
    hashed_by: int = 0


def words_of(series: pl.Series, most: int = MOST) -> Words:
    """Profile a column of text, categories or truth values without nulls.

    Args:
        series: The column.
        most: Values to list.
    """
    if not len(series):
        return Words()
    text = series if series.dtype == pl.String else series.cast(pl.String)
    hashes = hashes_of(text)
    found = counted(hashes)
    values = text.gather(found.rows)
    lengths = values.str.len_chars().to_numpy()
    common, dropped = _most(values, found.counts, most)
    is_short = int(lengths.max(initial=0)) <= _LONGEST
    if not is_short:
        common = _cut(common)
    is_whole = is_short and not dropped and not found.missed
    length = text.str.len_chars().cast(pl.UInt64).sum() if found.missed else lengths @ found.counts
    kept = fewest(found.hashes, len(found.hashes))
    return Words(
        count=len(series),
        common=common,
        rest=len(series) - sum(common.values()),
        missed=max(found.missed, dropped),
        distinct=len(values) if not found.missed else estimated(kept),
        length_mean=float(length) / len(series),
        hashes=b"" if is_whole else kept.astype("<u8").tobytes(),
        hashed_by=0 if is_whole else hashing(),
    )


def joined_words(parts: Sequence[Words], most: int = MOST) -> Words:
    """Return the profile of the values of all parts.

    A value that was common in one part only keeps that part's count: what was too rare to be listed is in the rest,
    and `missed` bounds it (Agarwal et al., 2012, Mergeable summaries, PODS, 23-34).

    Args:
        parts: Profiles of columns of one type.
        most: Values to list.
    """
    filled = [part for part in parts if part.count]
    if not filled:
        return Words()
    count = sum(part.count for part in filled)
    totals: dict[str, int] = {}
    for part in filled:
        for value, number in part.common.items():
            totals[value] = totals.get(value, 0) + number
    kept, dropped = _most(list(totals), np.fromiter(totals.values(), dtype=np.int64, count=len(totals)), most)
    is_whole = not dropped and not any(part.hashed_by for part in filled)
    union = None if is_whole else _union(filled)
    return Words(
        count=count,
        common=kept,
        rest=count - sum(kept.values()),
        missed=sum(part.missed for part in filled) + dropped,
        distinct=_distinct(filled, len(totals), union),
        length_mean=sum(part.length_mean * part.count for part in filled) / count,
        hashes=b"" if union is None else union.astype("<u8").tobytes(),
        hashed_by=0 if is_whole else (_MIXED if union is None else hashing()),
    )


def _most(values: pl.Series | list[str], counts: Integers, most: int) -> tuple[dict[str, int], int]:
    """Return the most common values, and how often the first occurs that is not among them."""
    dropped = 0
    if len(counts) > most:
        # Only values as common as the last one listed need to be looked at, which are few of all.
        place = len(counts) - most
        ordered = np.partition(counts, [place - 1, place])
        dropped = int(ordered[place - 1])
        at = np.flatnonzero(counts >= ordered[place])
        counts = counts[at]
        values = values.gather(at) if isinstance(values, pl.Series) else [values[one] for one in at.tolist()]
    if isinstance(values, pl.Series):
        values = values.to_list()
    # Ties are broken by the value, so that the same rows give the same profile.
    ranked = sorted(zip((-counts).tolist(), values, strict=True))
    return {value: -number for number, value in ranked[:most]}, dropped


def _cut(common: dict[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for value, number in common.items():
        found[value[:_LONGEST]] = found.get(value[:_LONGEST], 0) + number
    return found


def _union(parts: Sequence[Words]) -> Hashes | None:
    """Return the fewest hashes of all parts; None where some were hashed in another way."""
    if any(part.hashed_by not in {0, hashing()} for part in parts):
        return None
    together = np.concatenate([_hashes(part) for part in parts])
    return fewest(together, len(together))


def _hashes(part: Words) -> Hashes:
    if part.hashes:
        return np.frombuffer(part.hashes, dtype="<u8")
    return hashes_of(pl.Series(list(part.common), dtype=pl.String))


def _distinct(parts: Sequence[Words], listed: int, union: Hashes | None) -> int:
    if union is not None:
        return estimated(union)
    return max(listed, *(part.distinct for part in parts))
