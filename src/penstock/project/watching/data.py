"""Monitors of datasets: schema, ranges, missing values, new categories, drift, and how many rows came.

A dataset with a time column is looked at in windows by that column; rows that come late have their window looked at
again. Others are looked at by intake. When a pipeline is first watched, windows are laid back over the rows that it was
trained on; these say what is ordinary and raise no alarm.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property

import msgspec
import polars as pl

from penstock.core.records import DatasetVersion
from penstock.monitoring.drift.compare import Budget, Seen, compare
from penstock.monitoring.findings import Finding, Window
from penstock.monitoring.profiles.profile import Profile, profile
from penstock.monitoring.ranges import out_of_range
from penstock.monitoring.volume import Counted, refused, volume
from penstock.pipeline.graph import Node, texts
from penstock.project.watching.arrival import INTAKES, Arrival, newest_row_at, versions_of
from penstock.project.watching.history import History, counted, reference_of
from penstock.project.watching.look import EPOCH, Look, Measured
from penstock.serving.predictions.typed import as_time
from penstock.store.lake.dtypes import parse_dtype
from penstock.store.lake.table import Table
from penstock.store.ledger import datasets

# Of the budget of the monitor of a dataset, half is for its columns and half for how many rows came.
_DRIFT_SHARE = 0.5


def measure(look: Look) -> Iterator[Measured]:
    """Measure the windows of every dataset that closed since, and those that rows came to late."""
    for node in () if look.manifest is None else look.manifest.graph.nodes:
        if node.role != "dataset":
            continue
        with look.workspace.ledger.read() as conn:
            version = datasets.newest(conn, look.pipeline, node.name)
        if version is not None:
            kind = _ByTime if newest_row_at(version) is not None else _ByIntake
            yield from kind(look, node, version).measure()


class _Dataset:
    """What monitors of datasets share."""

    def __init__(self, look: Look, node: Node, version: DatasetVersion) -> None:
        self.look = look
        self.name = node.name
        self.monitor = f"data:{node.name}"
        self.version = version
        self.mark = look.marks.get(self.monitor)
        # Keys are names: each of their values is new sooner or later, and the size of a number among them says nothing.
        self.left_out = texts(node.options.get("key"))

    @cached_property
    def history(self) -> History:
        """Earlier windows."""
        return History(self.look, self.monitor)

    @cached_property
    def table(self) -> Table:
        """Where the rows are."""
        return self.look.workspace.lake.table(self.look.pipeline, self.name)

    def findings(self, start: datetime, rows: int, found: Profile | None) -> tuple[Finding, ...]:
        """Compare a window with the ordinary ones before it."""
        earlier = self.history.ordinary(start)
        budget = self.look.false_alarms
        one = Counted(start=start, rows=rows)
        findings = volume(counted(earlier), one, false_alarms=budget * (1 - _DRIFT_SHARE), subject=self.name)
        reference = reference_of(earlier)
        if found is None or reference is None:
            return tuple(findings)
        seen = Seen(start=start, profile=found)
        findings += compare(reference, seen, budget=Budget(false_alarms=budget * _DRIFT_SHARE), subject=self.name)
        findings += out_of_range([one.profile for one in reference.windows], found, subject=self.name)
        return tuple(findings)

    def measured(
        self, span: tuple[datetime, datetime], rows: int, found: Profile | None, findings: tuple[Finding, ...]
    ) -> Measured:
        """Return a window, and let later ones be compared with it."""
        start, end = span
        release = self.look.release
        is_served = release is not None and end > release.made_at
        window = Window(
            monitor=self.monitor,
            start=start,
            end=end,
            rows=rows,
            release=str(release.ref) if release is not None and is_served else None,
            findings=findings,
        )
        self.history.add(window, found)
        return Measured(window=window, profile=found, basis=self.version.version)


class _ByTime(_Dataset):
    """Windows by the time column."""

    def __init__(self, look: Look, node: Node, version: DatasetVersion) -> None:
        super().__init__(look, node, version)
        self.time = str(node.options["time"])
        self.kind = parse_dtype(dict(version.schema)[self.time])
        self.arrival = Arrival(look, version)

    def measure(self) -> Iterator[Measured]:
        newest = self.arrival.newest
        if newest is None:
            return
        if self.mark is None:
            yield from self._laid_back(newest)
            return
        closed = list(self._closed(self.mark.end_at))
        if not closed:
            return
        aside = self._set_aside()
        kept = self.history.rows
        since = max(self.mark.first_at, closed[0] - self.look.reference * self.look.step)
        counts = self._counts(since, closed[-1] + self.look.step)
        # Rows that newer ones of the same key replaced leave their window; only rows that came have it looked at again.
        late = [start for start, rows in kept.items() if counts.get(start, 0) > rows and start >= since]
        for start in sorted(late):
            yield self._window(start, counts[start], aside=())
        for start in closed:
            yield self._window(start, counts.get(start, 0), aside=aside if start == closed[-1] else ())

    def _closed(self, start: datetime) -> Iterator[datetime]:
        while self.arrival.is_closed(start + self.look.step):
            yield start
            start += self.look.step

    def _laid_back(self, newest: datetime) -> Iterator[Measured]:
        """Measure windows over what is there at first: those of the rows trained on say what is ordinary."""
        trained = self._trained(newest)
        since = self.look.floor(trained) - self.look.reference * self.look.step
        counts = self._counts(since, self.look.floor(newest) + self.look.step)
        first = min(counts, default=None)
        for start in () if first is None else self._closed(first):
            if start < trained:
                yield self._window(start, counts.get(start, 0), is_ordinary=True)
            else:
                yield self._window(start, counts.get(start, 0))

    def _trained(self, newest: datetime) -> datetime:
        """Return the time of the newest row that the live release was made from."""
        manifest = self.look.manifest
        known = None if manifest is None else manifest.datasets.get(self.name)
        if known is None or known.watermark is None:
            return newest
        return as_time(datetime.fromisoformat(known.watermark))

    def _window(
        self, start: datetime, rows: int, *, aside: tuple[Finding, ...] = (), is_ordinary: bool = False
    ) -> Measured:
        end = start + self.look.step
        # Of the time only its place in the window is compared: when half a day is missing, the other half is too much.
        place = (pl.col(self.time).cast(pl.Datetime("us")) - pl.lit(start.replace(tzinfo=None))).dt.total_seconds()
        columns = self._rows(start, end).drop(set(self.left_out) - {self.time})
        found = profile(columns.with_columns((place / 3600).alias(self.time))) if rows else None
        findings = () if is_ordinary else tuple(map(self._of_feed, self.findings(start, rows, found)))
        return self.measured((start, end), rows, found, (*findings, *aside))

    def _of_feed(self, finding: Finding) -> Finding:
        """Return what was found of the time column as what it says of the feed."""
        if finding.subject != f"{self.name}.{self.time}" or finding.kind == "schema":
            return finding
        said = f"Rows of {self.name!r} came at other times of the window than ordinarily. {finding.said}"
        return msgspec.structs.replace(finding, kind="broken_feed", said=said)

    def _rows(self, start: datetime, end: datetime) -> pl.LazyFrame:
        moment = pl.col(self.time)
        between = (moment >= self._literal(start)) & (moment < self._literal(end))
        return self.table.scan(self.version).filter(between)

    def _counts(self, since: datetime, until: datetime) -> dict[datetime, int]:
        """Return how many rows each window has, by its start."""
        moment = pl.col(self.time)
        if self.kind == pl.Date():
            moment = moment.cast(pl.Datetime("us"))
        step_us = self.look.step // timedelta(microseconds=1)
        number = (moment.dt.epoch("us") // step_us).alias("number")
        counted_rows = self._rows(since, until).group_by(number).len().collect(engine="streaming")
        return {EPOCH + number * self.look.step: rows for number, rows in counted_rows.iter_rows()}

    def _literal(self, moment: datetime) -> pl.Expr:
        """Return a moment as a value of the time column, so that files that lie elsewhere in time are not read."""
        if self.kind == pl.Date():
            return pl.lit(moment.date() if moment.time() == EPOCH.time() else moment.date() + timedelta(days=1))
        zone = self.kind.time_zone if isinstance(self.kind, pl.Datetime) else None
        value = pl.lit(moment.replace(tzinfo=None)).cast(pl.Datetime("us"))
        value = value if zone is None else value.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        return value.cast(self.kind)

    def _set_aside(self) -> tuple[Finding, ...]:
        """Return what the contract refused in the intakes that no window has spoken of."""
        basis = 0 if self.mark is None else self.mark.basis
        return _set_aside([*versions_of(self.look, self.name)], basis, self.name)


class _ByIntake(_Dataset):
    """A window per intake: from the intake before to this one."""

    def measure(self) -> Iterator[Measured]:
        if self.mark is not None and self.mark.basis >= self.version.version:
            return
        versions = versions_of(self.look, self.name)
        basis = 0 if self.mark is None else self.mark.basis
        trained = 0 if self.look.manifest is None else self._trained()
        before = None
        for version in versions[-INTAKES:] if len(versions) > INTAKES else versions:
            if version.version > basis and version.taken_at is not None:
                self.version = version
                start = version.taken_at - self.look.step if before is None else before
                yield self._window(start, version, is_ordinary=self.mark is None and version.version <= trained)
            before = version.taken_at

    def _trained(self) -> int:
        manifest = self.look.manifest
        known = None if manifest is None else manifest.datasets.get(self.name)
        return 0 if known is None else known.version

    def _window(self, start: datetime, version: DatasetVersion, *, is_ordinary: bool) -> Measured:
        end = max(version.taken_at or start, start + timedelta(microseconds=1))
        found = profile(self._rows(version).drop(self.left_out)) if version.rows_added else None
        findings = () if is_ordinary else self.findings(start, version.rows_added, found)
        aside = () if is_ordinary else _set_aside(versions_of(self.look, self.name), version.version - 1, self.name)
        return self.measured((start, end), version.rows_added, found, (*findings, *aside))

    def _rows(self, version: DatasetVersion) -> pl.LazyFrame:
        parts = self.table.part_rows(version, added=True)
        return pl.concat([self.table.scan_part(version, number, added=True) for number in range(len(parts))])


def _set_aside(versions: list[DatasetVersion], after: int, name: str) -> tuple[Finding, ...]:
    new = [version for version in versions if version.version > after]
    shares = [_share(version) for version in versions if version.version <= after]
    reasons: dict[str, int] = {}
    for version in new:
        for reason, number in version.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + number
    taken = sum(version.rows_added for version in new)
    return tuple(refused(reasons, taken, usual_share=max(shares, default=0.0), subject=name))


def _share(version: DatasetVersion) -> float:
    return version.rows_quarantined / max(version.rows_quarantined + version.rows_added, 1)
