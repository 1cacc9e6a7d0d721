"""Fields and answers as columns that can be profiled: structs become columns, lists their length and their elements.

Answers of a serve function are JSON, whose types each window shows anew: integers and floats are one kind here, and a
column of which a window has nothing has the type of earlier windows, so that chance does not look like a new schema.
"""

from collections.abc import Collection, Iterator, Mapping

import polars as pl

from penstock.monitoring.profiles.profile import Column, Profile, profile
from penstock.store.lake.dtypes import parse_dtype

_DEEPEST = 3
LENGTH, ITEM = "length", "item"


def profile_of(frame: pl.DataFrame, known: Mapping[str, str], names: Collection[str] = ()) -> Profile:
    """Profile fields or answers.

    Args:
        frame: A row per prediction, of any types.
        known: Types by column of earlier windows; empty in the first.
        names: Columns, or fields of structs, whose numbers are names, as "user_id": they are profiled as categories.

    Returns:
        Per column as many rows as it has values: of a list, its elements.
    """
    columns: dict[str, pl.Series] = {}
    for series in frame.get_columns():
        columns |= dict(_flat(series, 0))
    expected = {name: parse_dtype(kind) for name, kind in known.items()}
    typed = {name: _typed(series, expected.get(name), is_name=_last(name) in names) for name, series in columns.items()}
    absent = {name: pl.Series(name, [None] * frame.height, dtype=kind) for name, kind in expected.items()}
    settled = {name: series for name, series in (absent | typed).items() if series.dtype != pl.Null()}
    # One look at all columns of one length at a time: a profile is of a frame.
    found: dict[str, Column] = {}
    for rows in {len(series) for series in settled.values()}:
        alike = [series.alias(name) for name, series in settled.items() if len(series) == rows]
        found |= profile(pl.DataFrame(alike)).columns
    return Profile(rows=frame.height, columns={name: found[name] for name in sorted(found)})


def _flat(series: pl.Series, depth: int) -> Iterator[tuple[str, pl.Series]]:
    name, kind = series.name, series.dtype
    if depth > _DEEPEST:
        return
    match kind:
        case pl.Struct():
            for part in series.struct.unnest().get_columns():
                yield from _flat(part.alias(f"{name}.{part.name}"), depth + 1)
        case pl.Array() | pl.List():
            lists = series.arr.to_list() if isinstance(kind, pl.Array) else series
            yield f"{name}.{LENGTH}", lists.list.len().cast(pl.Float64).alias(f"{name}.{LENGTH}")
            items = lists.filter(lists.list.len().fill_null(0) > 0).explode()
            is_struct = isinstance(items.dtype, pl.Struct)
            yield from _flat(items.alias(name if is_struct else f"{name}.{ITEM}"), depth + 1)
        case pl.Binary() | pl.Object():
            return
        case _:
            yield name, series


def _last(name: str) -> str:
    return name.removesuffix(f".{ITEM}").rpartition(".")[2]


def _typed(series: pl.Series, expected: pl.DataType | None, *, is_name: bool) -> pl.Series:
    if is_name and series.dtype.is_integer():
        return series.cast(pl.String)
    if series.dtype.is_numeric():
        return series.cast(pl.Float64)
    if series.dtype == pl.Null() and expected is not None:
        return series.cast(expected)
    return series
