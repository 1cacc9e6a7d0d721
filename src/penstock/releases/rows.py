"""What changed between the evaluation rows of two releases, on the examples that both were judged by.

Belongs here: matching rows and telling values apart. Which evaluations are compared is decided by `compare`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from penstock.core.records import Artifact, Record
from penstock.store import codecs
from penstock.store.blobs import Blobs

_KEY = "key"
_AFTER = "after"
_BEFORE = "before"
_SIZE = "size"


class PredictionChange(Record, frozen=True, kw_only=True):
    """What changed on the rows or requests that both sides answered.

    Attributes:
        subject: "quality of recommender" for evaluation rows, "recommend" for sampled requests.
        common: Rows or requests both sides have.
        changed: How many of them differ.
        better: Rows whose deciding metric got better; 0 for requests.
        worse: Rows whose deciding metric got worse.
        columns: Number of rows that differ, by column; only columns in which some do.
        examples: Some that differ, the metric's largest moves first: the key or request, before, after.
        note: Why nothing could be compared; "" where it could.
    """

    subject: str
    common: int
    changed: int
    better: int = 0
    worse: int = 0
    columns: dict[str, int] = {}
    examples: tuple[dict[str, Any], ...] = ()
    note: str = ""


class Judged(Record, frozen=True, kw_only=True):
    """How an evaluation was declared: what makes a row the same example, and what decides."""

    key: tuple[str, ...]
    slices: tuple[str, ...]
    metric: str
    higher_is_better: bool


def compare_rows(
    subject: str, pair: tuple[Artifact, Artifact], judged: Judged, blobs: Blobs, *, shown: int
) -> PredictionChange:
    """Compare the rows of one model in two releases.

    Args:
        subject: What they are, for people.
        pair: The rows before and after.
        judged: How they are matched: by key, or by position where there is none and the examples are the same.
        blobs: Where they are; an imported release comes without them.
        shown: Most examples given.

    Raises:
        DamagedError: The rows are there but damaged.
    """
    if pair[0].digest == pair[1].digest:
        return PredictionChange(subject=subject, common=pair[0].rows or 0, changed=0)
    before, after = (_readable(artifact, blobs) for artifact in pair)
    if before is None or after is None:
        return _not_compared(subject, "the rows are not in this store")
    obstacle = _obstacle(before, after, judged)
    if obstacle:
        return _not_compared(subject, obstacle)
    both = [c for c in before.columns if c in after.columns and c not in judged.key]
    joined = _joined(before, after, judged.key, both)
    differs = [_differs(joined, i).alias(f"differs {i}") for i in range(len(both))]
    flagged = joined.with_columns(differs)
    moved = flagged.filter(pl.any_horizontal([f"differs {i}" for i in range(len(both))])) if both else flagged.clear()
    counts = {name: int(moved[f"differs {i}"].sum()) for i, name in enumerate(both)}
    gains = _gains(moved, both, judged)
    return PredictionChange(
        subject=subject,
        common=joined.height,
        changed=moved.height,
        better=int((gains > 0).sum()),
        worse=int((gains < 0).sum()),
        columns={name: count for name, count in counts.items() if count},
        examples=tuple(_examples(moved, gains, (judged.key, both), shown)),
    )


def _not_compared(subject: str, why: str) -> PredictionChange:
    return PredictionChange(subject=subject, common=0, changed=0, note=why)


def _readable(artifact: Artifact, blobs: Blobs) -> pl.DataFrame | None:
    if artifact.digest not in blobs:
        return None
    frame = codecs.load(artifact, blobs, form="polars")
    if not isinstance(frame, pl.DataFrame):
        return None
    texts = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Categorical | pl.Enum)]
    return frame.with_columns(pl.col(texts).cast(pl.String))  # their codes mean something else in each file


def _obstacle(before: pl.DataFrame, after: pl.DataFrame, judged: Judged) -> str:
    """Say why the rows cannot be matched; "" when they can."""
    if not judged.key:
        names = [name for name in judged.slices if name in before.columns and name in after.columns]
        same = before.height == after.height and all(before[n].equals(after[n]) for n in names)
        return "" if same else "they are of other examples, and no key says which are the same"
    for frame in (before, after):
        missing = [name for name in judged.key if name not in frame.columns]
        if missing:
            return f"one side has no key column {missing[0]!r}"
        if frame.select(pl.struct(judged.key).is_duplicated().any()).item():
            return f"its key {list(judged.key)!r} repeats on one side"
    other = [name for name in judged.key if not _is_comparable(before.schema[name], after.schema[name])]
    return f"key column {other[0]!r} has another type on each side" if other else ""


def _is_comparable(one: pl.DataType, other: pl.DataType) -> bool:
    return one == other or (one.is_integer() and other.is_integer())


def _joined(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str], both: Sequence[str]) -> pl.DataFrame:
    """Return common rows with columns "key i", "before i" and "after i": names of ours cannot meet the user's."""
    old = before.select(*_named(key, "key"), *_named(both, _BEFORE))
    new = after.select(*_named(key, "key"), *_named(both, _AFTER))
    if not key:
        return pl.concat([old, new], how="horizontal").with_row_index("key 0")
    keys = [f"key {i}" for i in range(len(key))]
    wide = pl.col([k for k in keys if old.schema[k] != new.schema[k]]).cast(pl.Int128)
    old, new = old.with_columns(wide), new.with_columns(wide)
    return old.join(new, on=keys, how="inner", nulls_equal=True, maintain_order="left")


def _named(columns: Sequence[str], prefix: str) -> list[pl.Expr]:
    return [pl.col(name).alias(f"{prefix} {i}") for i, name in enumerate(columns)]


def _differs(joined: pl.DataFrame, number: int) -> pl.Expr:
    before, after = f"{_BEFORE} {number}", f"{_AFTER} {number}"
    one, other = joined.schema[before], joined.schema[after]
    if one == other or (one.is_numeric() and other.is_numeric()):
        return pl.col(before).ne_missing(pl.col(after))
    return pl.lit(value=True)  # of another type, so never the same value


def _gains(moved: pl.DataFrame, both: Sequence[str], judged: Judged) -> pl.Series:
    """Return by how much the deciding metric of each row got better; null where it cannot be told."""
    unknown = pl.Series("gain", [None] * moved.height, dtype=pl.Float64)
    if judged.metric not in both:
        return unknown
    columns = [f"{side} {both.index(judged.metric)}" for side in (_BEFORE, _AFTER)]
    if not all(moved.schema[c].is_numeric() or moved.schema[c] == pl.Boolean for c in columns):
        return unknown
    before, after = (moved[c].cast(pl.Float64) for c in columns)
    gain = (after - before) * (1 if judged.higher_is_better else -1)
    return gain.fill_nan(None).alias("gain")


def _examples(
    moved: pl.DataFrame, gains: pl.Series, names: tuple[Sequence[str], Sequence[str]], shown: int
) -> Iterator[dict[str, Any]]:
    key, both = names
    largest = moved.with_columns(gains.abs().alias(_SIZE)).sort(
        _SIZE, descending=True, nulls_last=True, maintain_order=True
    )
    for row in largest.head(shown).iter_rows(named=True):
        changed = [(i, name) for i, name in enumerate(both) if row[f"differs {i}"]]
        yield {
            _KEY: {name: row[f"key {i}"] for i, name in enumerate(key or ("row",))},
            _BEFORE: _side(row, _BEFORE, changed),
            _AFTER: _side(row, _AFTER, changed),
        }


def _side(row: Mapping[str, Any], side: str, changed: Sequence[tuple[int, str]]) -> dict[str, Any]:
    return {name: row[f"{side} {i}"] for i, name in changed}
