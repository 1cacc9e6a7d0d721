"""Spoils source files as the world does: a feed that stops, a column renamed, ratings that mean the opposite."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from penstock.core.errors import InputError
from penstock.worker.rehearsal.faults.plans import Fault
from penstock.worker.rehearsal.records import Plan
from penstock.worker.rehearsal.requests import as_kind

_RENAMED = "_v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The files of a pipeline's datasets, whole, and what is known of them.

    Attributes:
        rows: What the dataset with times is read from.
        time: Its time column in the file.
        value: The number in it that people give, as a rating.
        link: Column that it shares with `things`; None where there is no other file.
        things: What is rated, with the column `group` that says of which groups it is.
        group: Column of `things` with words, or lists of words.
    """

    rows: pl.DataFrame
    time: str
    value: str
    link: str | None = None
    things: pl.DataFrame | None = None
    group: str | None = None

    @property
    def largest_group(self) -> str:
        """The group with most rows."""
        if self.things is None or self.group is None or self.link is None:
            raise InputError(
                "The fault 'genre' cannot be planted: no second file says of which group a row is.",
                hint="leave it out of --plant",
            )
        about = self.things.select(self.link, pl.col(self.group).alias("group"))
        about = about.explode("group") if isinstance(about.schema["group"], pl.List) else about
        counts = self.rows.select(self.link).join(about, on=self.link).drop_nulls()["group"].value_counts(name="count")
        return str(counts.sort(["count", "group"], descending=[True, False])["group"][0])

    def busiest(self, column: str) -> Any:
        """Return the value of a column with most rows."""
        counts = self.rows[column].value_counts(name="count")
        return counts.sort(["count", column], descending=[True, False])[column][0]


def read_source(files: Sequence[Path], key: Sequence[str]) -> Source:
    """Return what a pipeline's files hold.

    Args:
        files: The file of the dataset with times first.
        key: Its key, which is no value.

    Raises:
        InputError: They hold no times, or no number.
    """
    frames = [read(path) for path in files]
    rows = frames[0]
    time = next((name for name, kind in rows.schema.items() if kind.is_temporal()), None)
    numbers = [name for name, kind in rows.schema.items() if kind.is_numeric() and name not in key]
    if time is None or not numbers:
        what = "a time" if time is None else "a number that is no key"
        raise InputError(f"No faults can be planted in {files[0].name}: it has no column with {what}.")
    for things in frames[1:]:
        link = next((name for name in things.columns if name in key), None)
        group = next((name for name, kind in things.schema.items() if _is_group(name, kind, key)), None)
        if link is not None and group is not None:
            return Source(rows=rows, time=time, value=numbers[0], link=link, things=things, group=group)
    return Source(rows=rows, time=time, value=numbers[0])


def read(path: Path) -> pl.DataFrame:
    """Return a source file, whole."""
    return pl.read_csv(path, try_parse_dates=True) if path.suffix == ".csv" else pl.read_parquet(path)


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write a source file; whoever reads meanwhile sees the old one or the new one."""
    half = path.with_name(f"{path.name}.half")
    if path.suffix == ".csv":
        frame.write_csv(half)
    else:
        frame.write_parquet(half)
    half.replace(path)


def spoiled(source: Source, faults: Sequence[Fault], plan: Plan, step: int) -> pl.DataFrame:
    """Return the rows as the source gives them at the end of a step."""
    rows = source.rows
    for fault in faults:
        match fault.name:
            case "feed" if fault.is_on(step):
                rows = rows.filter(pl.col(source.time) <= _moment(plan.at(fault.first), source))
            case "genre":
                rows = _inverted(source, rows, fault, plan)
            case "schema" if fault.is_on(step):
                rows = rows.rename({source.value: f"{source.value}{_RENAMED}"})
            case _:
                pass
    return rows


def said(source: Source, fault: Fault) -> str:
    """Return what was done to the source, in words."""
    match fault.name:
        case "feed":
            return f"the source gave no new rows for {fault.after - fault.first} steps, then all of them at once"
        case "genre":
            return f"{source.value!r} of all rows of {source.group} {source.largest_group!r} was turned upside down"
        case "schema":
            return f"the source called column {source.value!r} {source.value + _RENAMED!r} for a step"
        case "burst":
            return "ten times as many requests in one step"
        case "bad_release":
            return (
                "a person left in the code by hand, so that everybody got their answer: released once, then taken back"
            )


def _inverted(source: Source, rows: pl.DataFrame, fault: Fault, plan: Plan) -> pl.DataFrame:
    if source.things is None or source.link is None or source.group is None:
        return rows
    group, value = pl.col(source.group), pl.col(source.value)
    is_list = isinstance(source.things.schema[source.group], pl.List)
    is_in = group.list.contains(source.largest_group) if is_list else group == source.largest_group
    chosen = source.things.filter(is_in)[source.link].implode()
    since, until = (_moment(plan.at(step), source) for step in (fault.first, fault.after))
    time = pl.col(source.time)
    low, high = (int(bound) for bound in (source.rows[source.value].min(), source.rows[source.value].max()))  # type: ignore[arg-type]  # a column of numbers
    turned = (low + high - value).cast(source.rows.schema[source.value])
    is_hit = (time > since) & (time <= until) & pl.col(source.link).is_in(chosen)
    return rows.with_columns(pl.when(is_hit).then(turned).otherwise(value).alias(source.value))


def _moment(at: datetime, source: Source) -> pl.Expr:
    return pl.lit(as_kind(at, source.rows.schema[source.time])).cast(source.rows.schema[source.time])


def _is_group(name: str, kind: pl.DataType, key: Sequence[str]) -> bool:
    is_text = isinstance(kind, pl.List) and isinstance(kind.inner, pl.String)
    return is_text and name not in key
