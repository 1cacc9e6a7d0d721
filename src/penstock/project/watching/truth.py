"""Monitors of live quality: how good answers turned out to be, overall, by slice, and against what is ordinary.

A window is looked at once any truth about it counts, and again whenever that is new or corrected. An outcome counts
when nothing more can come (`within`); what callers say counts at once. Who has no truth yet is not wrong.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import polars as pl

from penstock.checks import slicing
from penstock.checks.cells import searchable
from penstock.checks.statistics import Floats, Grouped, Integers, mean_intervals, scale_of
from penstock.checks.worst_slices import Limits
from penstock.monitoring.findings import Finding, Window
from penstock.monitoring.quality import FEWEST_TRUTHS, Counted, Earlier, Level, Question, judge_level, level_of
from penstock.monitoring.slice_quality import SliceLevel, fallen_slices, worse_slices
from penstock.project.watching.history import History
from penstock.project.watching.look import Look, Measured
from penstock.project.watching.truths import (
    ID,
    START,
    VALUE,
    Answers,
    Subject,
    Truths,
    examples,
    feedback_names,
    newest_release,
    said_of,
    truths_by_window,
)
from penstock.serving.predictions.reading import NOT_THE_MODEL
from penstock.store.ledger import windows

# Slices are looked for in as many windows as give them enough rows, up to a week of days.
_ENOUGH_ROWS = 2_000
_MOST_WINDOWS = 7
# Earlier windows that slices are compared with: four weeks of days say enough of them.
_MOST_EARLIER = 28
_MOST_LABELS = 12
_MOST_SHOWN = 60
_MARK = "truths"
_Sources = ("release", "serve", "variant", "fallback")


def measure(look: Look) -> Iterator[Measured]:
    """Measure the windows whose truth is new or corrected, of every outcome and of what callers say."""
    said = said_of(look)
    for subject in _subjects(look, feedback_names(said)):
        yield from _Monitor(look, subject).measure(said)


def _subjects(look: Look, names: Sequence[str]) -> list[Subject]:
    nodes = [] if look.manifest is None else [n for n in look.manifest.graph.nodes if n.role == "outcome"]
    # Outcomes have their part of the budget; what callers say shares it, since nobody declared that they would.
    share = look.false_alarms * (len(nodes) or 1) / max(len(nodes) + len(names), 1)
    outcomes = [
        Subject(
            name=node.name,
            source="outcome",
            waits=node.options.get("within") is not None,
            false_alarms=share,
            is_higher_better=_worth(node.options.get("value")) >= 0,
        )
        for node in nodes
    ]
    return outcomes + [Subject(name=name, source="caller", waits=False, false_alarms=share) for name in names]


def _worth(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


class _Monitor:
    """One subject over its windows."""

    def __init__(self, look: Look, subject: Subject) -> None:
        self._look, self._subject = look, subject
        self._history = History(look, subject.monitor)
        with look.workspace.ledger.read() as conn:
            kept = windows.page(conn, look.pipeline, subject.monitor, limit=100_000)
        evidence = {one.start_at: one.findings[0].get("evidence", {}) for one in kept if one.findings}
        self._marks = {start: str(found.get(_MARK, "")) for start, found in evidence.items()}
        self._levels = {start: _level(found) for start, found in evidence.items()}

    def measure(self, said: pl.LazyFrame) -> Iterator[Measured]:
        """Measure what changed, oldest first."""
        found = truths_by_window(self._look, self._subject, said)
        changed = [one for one in found if one.labelled and one.mark != self._marks.get(one.start)]
        if not changed:
            return
        step = self._look.step
        since = changed[0].start - (self._look.reference + _MOST_WINDOWS) * step
        answers = Answers(self._look, self._subject, said, (since, changed[-1].start + step))
        for one in changed:
            window = self._window(one, answers)
            if window is not None:
                self._history.add(window, None)
                yield Measured(window=window)

    def _window(self, truths: Truths, answers: Answers) -> Window | None:
        start, end = truths.start, truths.start + self._look.step
        rows = answers.levels.filter(pl.col(START) == start)
        known = rows.filter(pl.col(VALUE).is_not_null())
        if known.is_empty():  # what was said is about answers that are not kept here
            return None
        whole = int(rows["is_whole"].sum())
        counted = Counted(asked=rows.height, whole=whole, labelled=known.height)
        by_model = known.filter(~pl.col("variant").is_in(NOT_THE_MODEL))
        level = level_of((known if by_model.is_empty() else by_model)[VALUE].to_numpy())
        question = Question(
            name=self._subject.name,
            start=start,
            false_alarms=self._subject.false_alarms / 2,
            is_higher_better=self._subject.is_higher_better,
            # What callers say comes when it comes: they get one more window.
            may_alarm=counted.is_settled if self._subject.waits else self._look.now >= end + self._look.step,
        )
        ordinary = [one.start for one in self._history.ordinary(start)]
        earlier = [Earlier(start=at, level=found) for at in ordinary if (found := self._levels.get(at)) is not None]
        overall = judge_level(level, counted, earlier, question)
        self._levels[start] = level
        told = {_MARK: truths.mark, "level": msgspec.to_builtins(level), **msgspec.to_builtins(counted)}
        told |= {"by": _by(answers, start), "predictions": self._worst_of(known)}
        overall = msgspec.structs.replace(overall, evidence={**overall.evidence, **told})
        slices = self._slices(start, ordinary, answers, may_alarm=question.may_alarm)
        return Window(
            monitor=self._subject.monitor,
            start=start,
            end=end,
            rows=known.height,
            release=newest_release(rows),
            findings=(overall, *slices),
        )

    def _worst_of(self, known: pl.DataFrame) -> list[str]:
        ordered = known.sort(VALUE, descending=not self._subject.is_higher_better, maintain_order=True)
        return ordered[ID].head(5).to_list()

    def _slices(
        self, start: datetime, ordinary: Sequence[datetime], answers: Answers, *, may_alarm: bool
    ) -> list[Finding]:
        lately = self._lately(start, answers)
        before = [at for at in ordinary if at not in lately][-_MOST_EARLIER:]
        places = {at: place for place, at in enumerate(before)} | dict.fromkeys(lately, -1) | {start: -2}
        rows = answers.described.filter(pl.col(START).is_in(list(places)))
        numbers: Integers = rows[START].replace_strict(places, return_dtype=pl.Int64).to_numpy()
        values = self._oriented(rows)
        names = searchable(rows, but=[name for name in rows.columns if name not in answers.names()])
        limits = Limits(alpha=self._subject.false_alarms / 2)
        fallen = fallen_slices(rows, names, values, numbers, limits=limits) if before else []
        now = rows.filter(pl.Series(numbers < 0))
        worse = worse_slices(now, names, self._oriented(now), limits=Limits()) if now.height else []
        ids = {True: rows[ID], False: now[ID]}
        known = {one.name for one in fallen}
        found = [self._finding(one, ids[True], len(lately), is_alarm=may_alarm) for one in fallen]
        return found + [
            self._finding(one, ids[False], len(lately), is_alarm=False, is_fallen=False)
            for one in worse
            if one.name not in known
        ]

    def _lately(self, start: datetime, answers: Answers) -> list[datetime]:
        counts = dict(answers.described.group_by(START).agg(pl.len()).iter_rows())
        found, rows = [start], counts.get(start, 0)
        while rows < _ENOUGH_ROWS and len(found) < _MOST_WINDOWS:
            found.append(found[-1] - self._look.step)
            rows += counts.get(found[-1], 0)
        return found

    def _oriented(self, rows: pl.DataFrame) -> Floats:
        values: Floats = rows[VALUE].to_numpy().astype(np.float64)
        return values if self._subject.is_higher_better else -values

    def _finding(
        self, one: SliceLevel, ids: pl.Series, spans: int, *, is_alarm: bool, is_fallen: bool = True
    ) -> Finding:
        sign = 1 if self._subject.is_higher_better else -1
        mean, expected = sign * one.mean, sign * one.expected
        against = "earlier windows give" if is_fallen else "all other answers have"
        over = "the window" if spans == 1 else f"{spans} windows"
        said = (
            f"{self._subject.name} was {mean:.4g} for {one.name} over {one.n} answers of {over}, where {against} "
            f"{expected:.4g} (chance {one.p:.2g} over all slices that were looked at)."
        )
        evidence: dict[str, Any] = {
            "mean": mean,
            "expected": expected,
            "n": one.n,
            "parts": [list(part) for part in one.parts],
            "windows": spans,
            "predictions": examples(ids.gather(list(one.rows)).to_list()),
        }
        return Finding(
            kind="slice_quality",
            subject=f"{self._subject.name}/{one.name}",
            is_alarm=is_alarm,
            effect=sign * one.effect,
            p=one.p,
            said=said,
            evidence=evidence | {"against": "earlier" if is_fallen else "rest"},
        )


def _level(evidence: dict[str, Any]) -> Level | None:
    try:
        return msgspec.convert(evidence.get("level"), Level)
    except msgspec.ValidationError:  # of another version: the other windows still tell what is ordinary
        return None


def _by(answers: Answers, start: datetime) -> list[dict[str, Any]]:
    """Return mean, interval and number by release, variant, fallback and every column of few values."""
    rows = answers.described.filter(pl.col(START) == start)
    names = [*_Sources, *searchable(rows, but=[n for n in rows.columns if n not in answers.names() or n in _Sources])]
    values = rows[VALUE].to_numpy().astype(np.float64)
    scale, largest = scale_of(values), float(values.max(initial=0.0)) or 1.0
    shown: list[dict[str, Any]] = []
    for name in names:
        found = slicing.assign(rows[name], slicing.learn_labels(rows[name]))
        if not 1 <= len(found.labels) <= _MOST_LABELS or (len(found.labels) == 1 and name not in _Sources):
            continue
        data = Grouped.of(values[found.rows], found.groups, len(found.labels))
        levels = mean_intervals(data, scale, largest=largest)
        shown += [
            {"column": name, "value": label, "mean": mean, "low": _bound(low), "high": _bound(high), "n": n}
            for label, mean, low, high, n in zip(
                found.labels,
                levels.mean.tolist(),
                levels.low.tolist(),
                levels.high.tolist(),
                levels.n.tolist(),
                strict=True,
            )
            if n >= FEWEST_TRUTHS // 2
        ]
    return shown[:_MOST_SHOWN]


def _bound(value: float) -> float | None:
    return value if np.isfinite(value) else None
