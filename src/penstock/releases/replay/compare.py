"""Recorded requests that two releases answered: how many answers change, by how much, and for whom."""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import polars as pl

from penstock.checks.cells import searchable
from penstock.checks.concentration import search_concentration
from penstock.checks.statistics import Grouped, mean_intervals
from penstock.core.records import Interval
from penstock.releases.replay.records import (
    LATE,
    NOT_FINITE,
    Answering,
    Example,
    Recorded,
    Replay,
    Replayed,
    SideShown,
    Size,
    SliceShown,
    Spread,
)
from penstock.releases.replay.sizes import RELATIVE, size_of_change

_SHOWN = 10
_BANDS = ((0.001, "under 0.1 %"), (0.01, "0.1 to 1 %"), (0.1, "1 to 10 %"), (0.5, "10 to 50 %"), (1.0, "50 to 100 %"))
_WHOLE = "another altogether"
ANSWER = "answer"
_SAME_BY_FALLBACK = Size(kind="lost", magnitude=0.0)


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that were put to both.

    Attributes:
        requests: In the order in which they were asked.
        columns: A row per request, what it can be sliced by.
        recorded: How many there were to choose from.
        left_out: Of those, how many cannot be asked again, by the reason.
    """

    requests: tuple[Recorded, ...]
    columns: pl.DataFrame
    recorded: int
    left_out: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class _Pair:
    """One request and what both did with it; `size` is None where the answer is the same."""

    request: Recorded
    before: Replayed
    after: Replayed
    size: Size | None

    @property
    def is_lost(self) -> bool:
        return self.before.outcome == "answered" and self.after.outcome != "answered" and not self.is_slow

    @property
    def is_gained(self) -> bool:
        return self.after.outcome == "answered" and self.before.outcome != "answered"

    @property
    def is_slow(self) -> bool:
        """The candidate was given up, but the other one was not much quicker: the machine may be what was slow."""
        return self.after.error == LATE and self.before.took_us * 10 > self.after.took_us


def compare_replayed(pipeline: str, chosen: Chosen, before: Answering, after: Answering) -> Replay:
    """Compare what two releases did with the same requests.

    Args:
        pipeline: Whose requests they are.
        chosen: The requests.
        before: The release that is compared with.
        after: The candidate.
    """
    pairs = list(_pairs(chosen.requests, before, after))
    changed = [pair for pair in pairs if pair.size is not None]
    judged, slices = _slices(chosen.columns.head(len(pairs)), pairs)
    own = [p for p in pairs if p.request.is_own and p.request.release == before.release]
    tolerance = _tolerance(before, before)
    lost = [pair for pair in pairs if pair.is_lost]
    sizes = [pair.size for pair in changed if pair.size is not None]
    return Replay(
        candidate=after.release,
        against=before.release,
        pipeline=pipeline,
        recorded=chosen.recorded,
        sampled=len(chosen.requests),
        compared=len(pairs),
        since=_bound(min, pairs),
        until=_bound(max, pairs),
        left_out=chosen.left_out,
        changed=len(changed),
        share=_share(len(changed), len(pairs)),
        changed_ids=tuple(pair.request.prediction_id for pair in changed),
        kinds=dict(Counter(size.kind for size in sizes).most_common()),
        bands=_bands(sizes),
        spreads=dict(_spreads(sizes)),
        lost=len(lost),
        lost_again=sum(pair.after.is_again for pair in lost),
        gained=sum(pair.is_gained for pair in pairs),
        fell_back=sum(pair.after.outcome == "fallback" for pair in lost),
        no_longer=sum(_is_no_longer_given(pair, tolerance) for pair in own),
        own=len(own),
        unknown_fields=sum(pair.after.left_out for pair in pairs),
        sides=(_side(before, [p.before for p in pairs], pairs), _side(after, [p.after for p in pairs], pairs)),
        slices=slices,
        judged=judged,
        examples=tuple(map(_example, _most_telling([p for p in pairs if p.size is not None or p.is_lost]))),
        changed_serves=_by_serve(pairs),
    )


def _pairs(requests: Sequence[Recorded], before: Answering, after: Answering) -> Iterator[_Pair]:
    tolerance = _tolerance(before, after)
    for request, one, other in zip(requests, before.replayed, after.replayed, strict=False):
        yield _Pair(request, one, other, _size(one, other, tolerance))


def _tolerance(one: Answering, other: Answering) -> tuple[float, float]:
    return max(RELATIVE, one.tolerance[0], other.tolerance[0]), max(one.tolerance[1], other.tolerance[1])


def _size(one: Replayed, other: Replayed, tolerance: tuple[float, float]) -> Size | None:
    if one.has_answer and other.has_answer:
        if bytes(one.answer) == bytes(other.answer):
            return None
        return size_of_change(msgspec.json.decode(one.answer), msgspec.json.decode(other.answer), tolerance)
    if one.has_answer == other.has_answer:
        return None
    return Size(kind="lost" if one.has_answer else "gained", magnitude=1.0)


def _is_no_longer_given(pair: _Pair, tolerance: tuple[float, float]) -> bool:
    recorded = msgspec.json.decode(pair.request.answer)
    now = pair.before
    return not now.has_answer or size_of_change(recorded, msgspec.json.decode(now.answer), tolerance) is not None


def _bound(which: Any, pairs: Sequence[_Pair]) -> datetime | None:
    found: datetime | None = which((pair.request.at for pair in pairs), default=None)
    return found


def _share(changed: int, compared: int) -> Interval | None:
    if not compared:
        return None
    flags = np.zeros(compared)
    flags[:changed] = 1.0
    found = mean_intervals(Grouped.of(flags), "share")
    return Interval(mean=changed / compared, low=float(found.low[0]), high=float(found.high[0]), n=compared)


def _bands(sizes: Iterable[Size]) -> dict[str, int]:
    counts = dict.fromkeys([*(name for _, name in _BANDS), _WHOLE], 0)
    for size in sizes:
        is_measured = size.kind in {"number", "items", "order"}
        name = next((name for edge, name in _BANDS if size.magnitude <= edge), _WHOLE) if is_measured else _WHOLE
        counts[name] += 1
    return {name: count for name, count in counts.items() if count}


def _spreads(sizes: Sequence[Size]) -> Iterator[tuple[str, Spread]]:
    for name in ("absolute", "relative", "items", "moved"):
        values = sorted(value for size in sizes if (value := getattr(size, name)) is not None)
        if values:
            at = [float(np.quantile(values, level)) for level in (0.5, 0.9)]
            yield name, Spread(median=at[0], p90=at[1], largest=float(values[-1]))


def _side(about: Answering, replayed: Sequence[Replayed], pairs: Sequence[_Pair]) -> SideShown:
    outcomes = Counter(one.outcome for one in replayed)
    times = [one.took_us for one in replayed if one.outcome == "answered"]
    late = sum(
        one.outcome == "answered" and one.took_us > about.deadlines_s.get(pair.request.serve, float("inf")) * 1e6
        for one, pair in zip(replayed, pairs, strict=True)
    )
    return SideShown(
        release=about.release,
        answered=outcomes["answered"],
        fallback=outcomes["fallback"],
        failed=outcomes["failed"],
        refused=outcomes["refused"],
        late=outcomes["late"],
        not_finite=sum(one.error == NOT_FINITE for one in replayed),
        over_deadline=late,
        errors=dict(Counter(one.error for one in replayed if one.error).most_common()),
        median_us=statistics.median(times) if times else None,
        p99_us=float(np.quantile(times, 0.99)) if times else None,
        differing=about.differing,
    )


def _slices(columns: pl.DataFrame, pairs: Sequence[_Pair]) -> tuple[int, tuple[SliceShown, ...]]:
    flags = np.array([pair.size is not None for pair in pairs], dtype=np.bool_)
    columns = _with_answers(columns, pairs)
    found = search_concentration(columns, searchable(columns), flags)
    shown = tuple(
        SliceShown(
            name=one.name, n=one.n, changed=one.flagged, share=one.share, lift=one.lift, p=one.p_adjusted,
            is_sure=one.is_sure,
        )
        for one in found.found
    )  # fmt: skip
    return found.judged, shown


def _with_answers(columns: pl.DataFrame, pairs: Sequence[_Pair]) -> pl.DataFrame:
    """Add what the compared release answers, where that is one number, text or truth value."""
    answers = [msgspec.json.decode(pair.before.answer) for pair in pairs]
    kinds = {type(answer) for answer in answers} - {type(None)}
    if ANSWER in columns.columns or not kinds or not (kinds <= {int, float} or kinds in ({str}, {bool})):
        return columns
    dtype = pl.Float64 if kinds <= {int, float} else None
    return columns.with_columns(pl.Series(ANSWER, answers, dtype=dtype, strict=False))


def _most_telling(found: Sequence[_Pair]) -> list[_Pair]:
    """Return the largest changes, answers that are lost first."""
    seen: Counter[str] = Counter()
    ranked = []
    for place, pair in enumerate(found):
        size = pair.size or _SAME_BY_FALLBACK
        # Of changes that look the same, one tells as much as ten.
        alike = pair.after.error if pair.is_lost else f"{size.kind} {size.magnitude:.3g} {size.absolute or 0:.3g}"
        seen[alike] += 1
        ranked.append((seen[alike] > 1, not pair.is_lost, -size.magnitude, -(size.absolute or 0.0), place))
    return [found[key[-1]] for key in sorted(ranked)[:_SHOWN]]


def _example(pair: _Pair) -> Example:
    return Example(
        prediction_id=pair.request.prediction_id,
        serve=pair.request.serve,
        size=pair.size or _SAME_BY_FALLBACK,
        before=pair.before.outcome,
        after=pair.after.outcome,
        fields=msgspec.json.decode(pair.request.fields),
        answer_before=msgspec.json.decode(pair.before.answer),
        answer_after=msgspec.json.decode(pair.after.answer),
        said=pair.after.said or pair.before.said,
    )


def _by_serve(pairs: Sequence[_Pair]) -> dict[str, tuple[int, int]]:
    compared = Counter(pair.request.serve for pair in pairs)
    changed = Counter(pair.request.serve for pair in pairs if pair.size is not None)
    return {serve: (changed[serve], count) for serve, count in sorted(compared.items())}
