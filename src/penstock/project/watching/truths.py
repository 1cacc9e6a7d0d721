"""Reads answers with what became of them, as frames for the monitors of quality."""

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

import polars as pl

from penstock.core.records import Record
from penstock.project.watching.look import Look
from penstock.serving.predictions.reading import feedback_frame, predictions_frame
from penstock.serving.predictions.truth import Source
from penstock.serving.predictions.typed import typed_frame

ID, VALUE, START = "prediction_id", "value", "start"
# Beyond so many answers of a window, slices are looked for in a sample drawn by prediction id: the same one for whoever
# looks, and whatever other windows are looked at with it.
_MOST_ROWS = 5_000
_WORDS_OF_OUTCOMES = ("whole", "outcome")
_DIGITS = 4


class Subject(Record, frozen=True, kw_only=True):
    """Something that is said about answers afterwards.

    Attributes:
        source: Who says it.
        waits: Only what is whole counts; otherwise all that is said.
        is_higher_better: Whether a larger truth is a better one.
        false_alarms: Accepted chance of a false alarm per window.
    """

    name: str
    source: Source
    waits: bool
    false_alarms: float
    is_higher_better: bool = True

    @property
    def monitor(self) -> str:
        """Name of its monitor."""
        return f"{'quality' if self.source == 'outcome' else 'feedback'}:{self.name}"


class Truths(NamedTuple):
    """The truth about the answers of one window, in brief.

    Attributes:
        mark: Another one where any of it is new or corrected.
        labelled: Answers with a truth that counts.
    """

    start: datetime
    mark: str
    labelled: int


def said_of(look: Look) -> pl.LazyFrame:
    """Return all that was said about answers, the newest of each name and source."""
    return feedback_frame(look.workspace.home, look.pipeline)


def feedback_names(said: pl.LazyFrame) -> list[str]:
    """Return what callers say something about, in numbers."""
    found = said.filter(pl.col("source") == "caller", pl.col(VALUE).is_finite()).select(pl.col("name").unique())
    return sorted(found.collect(engine="streaming")["name"].to_list())


def truths_by_window(look: Look, subject: Subject, said: pl.LazyFrame) -> list[Truths]:
    """Return the closed windows about whose answers something counts that was said, oldest first.

    The window of an answer is known from its id alone, so that no answer is read here.
    """
    step_ms = round(look.policy.window_s * 1000)
    asked_ms = pl.col(ID).str.slice(1, 11).str.to_integer(base=16)
    start = pl.from_epoch(asked_ms // step_ms * step_ms, time_unit="ms").dt.replace_time_zone("UTC").alias(START)
    is_known = pl.col(VALUE).is_finite().fill_null(value=False)
    found = (
        _counted(subject, said)
        .group_by(start)
        .agg(
            pl.len().alias("count"),
            is_known.sum().alias("labelled"),
            pl.col(VALUE).filter(is_known).sort().sum().alias("sum"),
            pl.col("received_at").max().alias("newest"),
        )
        .filter(pl.col(START) <= look.now - look.step)
        .sort(START)
    )
    rows = found.collect(engine="streaming").iter_rows(named=True)
    return [
        Truths(
            start=row[START],
            mark=f"{row['count']}/{row['labelled']}/{row['sum']:.9g}/{row['newest']:%Y-%m-%dT%H:%M:%S.%f}",
            labelled=row["labelled"],
        )
        for row in rows
    ]


class Answers:
    """The answers of a span with what became of them.

    Args:
        look: What is known.
        subject: What is said about them.
        said: From `said_of`.
        span: Only answers given from the first time on and before the second.
    """

    def __init__(self, look: Look, subject: Subject, said: pl.LazyFrame, span: tuple[datetime, datetime]) -> None:
        self._look, self._subject, self._said = look, subject, said
        since, until = span
        asked = predictions_frame(look.workspace.home, look.pipeline, since=since, until=until)
        self._asked = asked.filter(pl.col("answer") != "null")

    @cached_property
    def levels(self) -> pl.DataFrame:
        """Every answer: prediction_id, start (of its window), release, variant, is_whole, value (null: not known)."""
        start = pl.from_epoch(
            pl.col("at").dt.timestamp("us") // self._step_us * self._step_us, time_unit="us"
        ).dt.replace_time_zone("UTC")
        asked = self._asked.select(ID, "at", "release", "variant", start.alias(START))
        known = _counted(self._subject, self._said).select(ID, _known(), is_whole=pl.lit(value=True))
        joined = asked.join(known, on=ID, how="left").with_columns(pl.col("is_whole").fill_null(value=False))
        return joined.sort("at", ID).collect(engine="streaming")

    @cached_property
    def described(self) -> pl.DataFrame:
        """Answers with a truth, or a sample of them: `levels`, and a column per field and per word of the outcome."""
        levels = self.levels.filter(pl.col(VALUE).is_not_null())
        limit = _MOST_ROWS / pl.len().over(START) * 16**_DIGITS
        chosen = levels.filter(pl.col(ID).str.slice(12, _DIGITS).str.to_integer(base=16) < limit)
        wanted = chosen.lazy().select(ID)
        raw = self._asked.join(wanted, on=ID, how="semi").with_columns(pl.lit("null").alias("answer"))
        typed = typed_frame(raw.collect(engine="streaming"), {}).drop("answer")
        found = typed.join(chosen.select(ID, START, VALUE), on=ID, how="inner", maintain_order="left")
        return self._with_words(found, wanted)

    def names(self) -> list[str]:
        """Return the columns that answers may be sliced by, beside those of the platform."""
        return [name for name in self.described.columns if name not in {ID, "at", START, VALUE, "key", "release"}]

    @property
    def _step_us(self) -> int:
        return round(self._look.policy.window_s * 1_000_000)

    def _with_words(self, found: pl.DataFrame, wanted: pl.LazyFrame) -> pl.DataFrame:
        if self._subject.source != "outcome":
            return found
        said = _counted(self._subject, self._said).join(wanted, on=ID, how="semi").select(ID, "detail")
        texts = said.collect(engine="streaming")
        try:
            words = texts.select(ID, texts["detail"].str.json_decode(infer_schema_length=None).alias("words"))
        except pl.exceptions.PolarsError:  # of two releases with unlike words: the fields remain
            return found
        words = words.unnest("words").drop(_WORDS_OF_OUTCOMES, strict=False)
        taken = {name: f"{name}_outcome" for name in words.columns if name != ID and name in found.columns}
        return found.join(words.rename(taken), on=ID, how="left", maintain_order="left")


def _counted(subject: Subject, said: pl.LazyFrame) -> pl.LazyFrame:
    own = said.filter(pl.col("source") == subject.source, pl.col("name") == subject.name)
    if subject.waits:
        return own.filter(pl.col("detail").str.starts_with('{"whole":true').fill_null(value=False))
    return own.filter(pl.col(VALUE).is_not_null())


def _known() -> pl.Expr:
    return pl.when(pl.col(VALUE).is_finite()).then(pl.col(VALUE)).alias(VALUE)


def newest_release(rows: pl.DataFrame) -> str | None:
    """Return the release that gave most of some answers, the newest of several."""
    counts = rows.group_by("release").agg(pl.len().alias("count"), pl.col("at").max()).sort("count", "at")
    return None if counts.is_empty() else str(counts["release"][-1])


def examples(ids: Sequence[str], most: int = 5) -> list[str]:
    """Return the newest of some prediction ids, as examples to look at."""
    return sorted(ids, reverse=True)[:most]
