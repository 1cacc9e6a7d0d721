"""The doors of the lake: a table per dataset, its versions, and reading one of them."""

from collections.abc import Collection, Iterator
from pathlib import Path

import polars as pl

from penstock.core.errors import DamagedError, NotFoundError
from penstock.core.records import DatasetVersion
from penstock.core.refs import parse_name
from penstock.store.lake import hidden, log, quarantine, upkeep
from penstock.store.lake.dtypes import empty_frame, from_stored, stored_schema
from penstock.store.lake.files import Batch
from penstock.store.lake.intake import Place, take_in
from penstock.store.lake.rules import IntakeRules


class Table:
    """The versions of one dataset."""

    def __init__(self, root: Path, pipeline: str, dataset: str) -> None:
        self._directory = root / pipeline / dataset
        self._place = Place(self._directory, f"{pipeline}/{dataset}", pipeline, dataset)

    def latest(self) -> DatasetVersion | None:
        """Return the newest version, from the Delta log; None before the first intake."""
        facts = log.latest_facts(self._directory)
        return facts.version if facts else None

    def version(self, number: int) -> DatasetVersion:
        """Return one version.

        Raises:
            NotFoundError: There is no such version; the hint names those there are.
        """
        return self._facts(number).version

    def versions(self) -> list[DatasetVersion]:
        """Return all versions, oldest first."""
        newest: dict[int, DatasetVersion] = {}
        for facts in log.facts_newest_first(self._directory):
            newest.setdefault(facts.version.version, facts.version)
        return [newest[number] for number in sorted(newest)]

    def intake(self, batches: Iterator[Batch], rules: IntakeRules) -> DatasetVersion | None:
        """Take in all batches as one commit: all of it, or nothing.

        Args:
            batches: Rows as Polars frames or Arrow tables or record batches, of any size; read once, streamed.
            rules: What the intake must obey.

        Returns:
            The new version, or None when there were no rows at all.

        Raises:
            SchemaError: The columns are not those agreed at the first intake.
            LeaseLostError: The table is no longer at `rules.expected_version`, or the fence said so.
            StoreError: The disk is full or cannot be written.
        """
        return take_in(self._place, batches, rules)

    def scan(self, version: DatasetVersion) -> pl.LazyFrame:
        """Return the rows of a version: the newest per key, in order of arrival, in the recorded types.

        Raises:
            NotFoundError: The version is not there, or `vacuum` removed its files.
            DamagedError: A file is missing or not of the size the log says.
        """
        facts, files = self._files(version)
        if not files:
            return empty_frame(facts.version.schema).lazy()
        return self._scan_files(facts, files)

    def part_rows(self, version: DatasetVersion, *, added: bool = False) -> list[int]:
        """Return how many rows of a version lie in each of its files, in order of arrival.

        Args:
            version: The version.
            added: Only the files that this version added.

        Raises:
            NotFoundError: The version is not there, or `vacuum` removed its files.
            DamagedError: A file is missing or not of the size the log says.
        """
        facts, files = self._files(version, added=added)
        places = hidden.read_hidden(self._directory, facts.hidden)
        gone = dict(places.group_by("file").len().rows())
        return [rows - gone.get(name, 0) for name, rows in files]

    def scan_part(self, version: DatasetVersion, number: int, *, added: bool = False) -> pl.LazyFrame:
        """Return the rows of `scan` that lie in the file `number` of `part_rows`.

        Raises:
            NotFoundError: The version is not there, or `vacuum` removed its files.
            DamagedError: A file is missing or not of the size the log says.
        """
        facts, files = self._files(version, added=added)
        return self._scan_files(facts, [files[number]])

    def count(self, version: DatasetVersion) -> int:
        """Return how many rows `scan` gives, without reading them."""
        return self._facts(version.version).visible_rows

    def notes(self, version: DatasetVersion) -> tuple[str, ...]:
        """Return what this intake changed without loss: columns put in order, or kept in another type."""
        return self._facts(version.version).notes

    def quarantine(self) -> pl.LazyFrame:
        """Return the rows set aside so far: `_reason`, `_intake` (version number) and `_row` (JSON as it came)."""
        return quarantine.read(self._directory, log.facts_newest_first(self._directory))

    def compact(self) -> DatasetVersion | None:
        """Rewrite the visible rows of the newest version into few full files; its number and digest stay.

        Returns:
            The version as it lies now, or None when there was nothing to gain.
        """
        return upkeep.compact(self._place)

    def vacuum(self, *, keep: Collection[int], grace_s: float, dry_run: bool) -> list[str]:
        """Delete files that neither the newest version nor those in `keep` need, nor a write under way.

        Args:
            keep: Numbers of versions that runs and releases pin.
            grace_s: Files younger than this stay, as they may belong to a write under way.
            dry_run: Only say what would go.

        Returns:
            The files, relative to the table.
        """
        return upkeep.vacuum(self._directory, keep, grace_s=grace_s, dry_run=dry_run)

    def check(self) -> list[str]:
        """Read every file again and return one sentence per fault: damaged, missing, left over."""
        return upkeep.check(self._directory)

    def _files(self, version: DatasetVersion, *, added: bool = False) -> tuple[log.Facts, list[hidden.File]]:
        facts = self._facts(version.version, kind="intake" if added else None)
        if facts.version.digest != version.digest:
            raise DamagedError(
                f"{version} is recorded with digest {version.digest!r}, but the lake holds {facts.version.digest!r}.",
                hint="the lake was restored or exchanged; take the data in again",
            )
        parts = list(facts.parts) if added else log.live_parts(self._directory, facts.version.delta_version)
        upkeep.refuse_missing(self._directory, parts, str(version))
        return facts, [(part.name, part.rows) for part in parts]

    def _scan_files(self, facts: log.Facts, files: list[hidden.File]) -> pl.LazyFrame:
        places = hidden.read_hidden(self._directory, facts.hidden)
        rows = hidden.scan_visible(self._directory, files, places, stored_schema(facts.version.schema))
        return from_stored(rows, facts.version.schema)

    def _facts(self, number: int, *, kind: str | None = None) -> log.Facts:
        for facts in log.facts_newest_first(self._directory):
            if facts.version.version == number and kind in {None, facts.kind}:
                return facts
        there = [version.version for version in self.versions()]
        hint = f"there are {there[0]} to {there[-1]}" if there else "nothing was taken in yet"
        raise NotFoundError(f"There is no version {self._place.dataset}@{number}.", hint=hint)


class Lake:
    """All tables of a project, one directory per pipeline and dataset.

    Args:
        root: Where they lie.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def table(self, pipeline: str, dataset: str) -> Table:
        """Return the table of a dataset, whether or not anything was taken in yet."""
        return Table(self.root, parse_name(pipeline, what="pipeline"), parse_name(dataset, what="dataset"))

    def tables(self) -> list[tuple[str, str]]:
        """Return (pipeline, dataset) of each table there is."""
        logs = self.root.glob("*/*/_delta_log")
        return sorted((path.parent.parent.name, path.parent.name) for path in logs)
