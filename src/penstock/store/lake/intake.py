"""One intake: batches in, one commit out, all of it or nothing.

Files are written under their final names without a lock; they count when the commit names them. The version built
upon and the caller's fence are checked under the table's lock together with the commit.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import structlog
from deltalake.exceptions import DeltaError

from penstock.core import faults
from penstock.core.errors import LeaseLostError, SchemaError
from penstock.core.records import DatasetVersion
from penstock.store.lake import contract, hidden, log, quarantine
from penstock.store.lake.align import Aligned, align
from penstock.store.lake.disk import disk_errors, locked
from penstock.store.lake.dtypes import Schema, check_schema, polars_schema, stored_schema
from penstock.store.lake.files import Batch, PartWriter, blocks
from penstock.store.lake.log import Facts, Part
from penstock.store.lake.quarantine import QuarantineWriter
from penstock.store.lake.rules import IntakeRules, encode_time, since

_events = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a table lies, and whose it is."""

    directory: Path
    table: str
    pipeline: str
    dataset: str


class _Intake:
    """What one intake has seen and written so far."""

    def __init__(self, place: Place, before: Facts | None, rules: IntakeRules, schema: Schema) -> None:
        number = (before.version.version if before else 0) + 1
        stem = f"{number:08d}-{secrets.token_hex(4)}"
        self.stem = stem
        self._directory = place.directory
        self.schema = schema
        self.dtypes = polars_schema(schema)
        self.contract = {**rules.record(), **({"cursor": True} if rules.cursor else {})}
        self.row_rules = contract.compile_rules(self.contract, self.dtypes)
        described = tuple(dict.fromkeys([*rules.key, *([rules.time] if rules.time else [])]))
        self.parts = PartWriter(place.directory, stem, schema, described)
        self.set_aside = QuarantineWriter(place.directory, stem, number)
        self.time = rules.time
        self.latest_time: Any = None
        self.notes: dict[str, None] = {}
        self._tried: dict[str, int] = {}
        self._failed: dict[str, int] = {}

    def take(self, block: pl.DataFrame) -> None:
        """Judge the rows of one block, and write them where they belong."""
        aligned = align(block, self.dtypes)
        self.notes.update(dict.fromkeys(aligned.notes))
        self._count_failures(block, aligned)
        why = contract.reasons(aligned.frame, self.row_rules, aligned.failed)
        if why is None:
            self._see_time(aligned.frame)
            self.parts.write(aligned.frame)
            return
        good = why.is_null()
        broken_time = why.str.starts_with(f"{self.time}: ").fill_null(value=False)
        self._see_time(aligned.frame.filter(~broken_time))
        self.parts.write(aligned.frame.filter(good))
        self.set_aside.write(aligned.original.filter(~good), why.filter(~good))

    def _see_time(self, frame: pl.DataFrame) -> None:
        # Rows set aside for another reason count too, or the next intake would meet and count them again.
        if self.time is None or not frame.height:
            return
        latest = frame[self.time].max()
        if latest is not None and (self.latest_time is None or latest > self.latest_time):
            self.latest_time = latest

    def _count_failures(self, block: pl.DataFrame, aligned: Aligned) -> None:
        if aligned.frame is block:
            return
        came = block.schema
        for name, dtype in self.dtypes.items():
            if came[name] not in {dtype, pl.Null()}:
                self._tried[name] = self._tried.get(name, 0) + block.height - block[name].null_count()
        for name, (mask, _) in aligned.failed.items():
            self._failed[name] = self._failed.get(name, 0) + int(mask.sum())

    def refuse_hopeless_columns(self) -> None:
        """Raise when a column failed in every row: then its type changed, and no row is to blame."""
        for name, count in self._failed.items():
            if count == self._tried[name]:
                raise SchemaError(
                    f"Column {name!r} was agreed as {self.dtypes[name]}, and none of its {count} values is one.",
                    hint="cast the column in the dataset function, or look at what the source sends",
                )

    def discard(self) -> None:
        """Remove what was written, after an error."""
        self.parts.discard()
        self.set_aside.discard()
        hidden.discard(self._directory, self.stem)


def take_in(place: Place, batches: Iterator[Batch], rules: IntakeRules) -> DatasetVersion | None:
    """Take all batches in as one commit; see `Table.intake`."""
    before = log.latest_facts(place.directory)
    _refuse_stale(place, before, rules)
    current: _Intake | None = None
    try:
        for block in blocks(batches):
            current = current or _start(place, before, rules, block)
            # Only our own writing is told as a fault of the lake's disk; what the source raises passes untouched.
            with disk_errors(place.directory):
                current.take(block)
        if current is None and before is None and rules.empty is not None:
            current = _start(place, before, rules, rules.empty)
        if current is None:
            return None
        current.refuse_hopeless_columns()
        with disk_errors(place.directory):
            return _commit(place, before, rules, current)
    except BaseException:
        if current is not None and not _is_committed(place, current):
            current.discard()
        raise


def _is_committed(place: Place, current: _Intake) -> bool:
    facts = log.latest_facts(place.directory)
    return facts is not None and any(part.name.startswith(current.stem) for part in facts.parts)


def _refuse_stale(place: Place, before: Facts | None, rules: IntakeRules) -> None:
    found = before.version.version if before else 0
    if found != rules.expected_version:
        raise LeaseLostError(
            f"Dataset {place.dataset!r} is at version {found}, but this intake builds upon {rules.expected_version}.",
            hint="another process took data in; start again from its version",
        )


def _start(place: Place, before: Facts | None, rules: IntakeRules, block: pl.DataFrame) -> _Intake:
    with disk_errors(place.directory):
        place.directory.mkdir(parents=True, exist_ok=True)
    return _Intake(place, before, rules, _schema(before, block, rules))


def _schema(before: Facts | None, block: pl.DataFrame, rules: IntakeRules) -> Schema:
    if before is None:
        return check_schema(block.schema)
    known = before.version.schema
    if not rules.evolve:
        return known
    names = {name for name, _ in known}
    return (*known, *check_schema(pl.Schema({n: d for n, d in block.schema.items() if n not in names})))


def _commit(place: Place, before: Facts | None, rules: IntakeRules, current: _Intake) -> DatasetVersion:
    aside = current.set_aside.finish()
    facts = _facts(place, before, rules, current, aside=aside)
    stored = stored_schema(current.schema)
    with locked(place.directory):
        now = log.latest_facts(place.directory)
        _refuse_stale(place, now, rules)
        if now is not None and before is not None and now.version.delta_version != before.version.delta_version:
            # Compacted meanwhile: the same rows lie in other places, so those to hide are looked up again.
            facts = _facts(place, now, rules, current, aside=aside)
        if rules.fence is not None:
            rules.fence()
        faults.point("intake_before_commit")
        delta_version = log.commit(place.directory, stored, facts, add=facts.parts)
        faults.point("intake_after_commit")
        _settle(place)
    return msgspec.structs.replace(facts.version, delta_version=delta_version)


def _facts(place: Place, before: Facts | None, rules: IntakeRules, current: _Intake, *, aside: Part | None) -> Facts:
    places = _find_hidden(place, before, rules, current)
    return Facts(
        version=_next_version(place, before, rules, current, replaced=places.height),
        parts=tuple(current.parts.parts),
        hidden=hidden.write_hidden(place.directory, before.hidden if before else (), places, current.stem),
        visible_rows=(before.visible_rows if before else 0) + current.parts.rows - places.height,
        quarantine=aside,
        notes=tuple(current.notes),
    )


def _settle(place: Place) -> None:
    # The intake is committed and names its quarantine file; the quarantine's own log may follow with the next one.
    try:
        quarantine.settle(place.directory)
    except (OSError, DeltaError) as error:
        _events.warning("quarantine_log_postponed", table=place.table, error=type(error).__name__)


def _find_hidden(place: Place, before: Facts | None, rules: IntakeRules, current: _Intake) -> pl.DataFrame:
    new = [(part.name, part.rows) for part in current.parts.parts]
    if not rules.key or not new:
        return hidden.read_hidden(place.directory, ())
    old = log.live_parts(place.directory, before.version.delta_version) if before else []
    known = hidden.read_hidden(place.directory, before.hidden if before else ())
    return hidden.find_hidden(place.directory, rules.key, old=_may_meet(old, current, rules.key), new=new, hidden=known)


def _may_meet(old: list[Part], current: _Intake, key: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return the old files whose range of each key column touches that of the new rows."""
    fresh = current.parts.parts
    ranges = []
    for name in key:
        if all(name in part.stats.get("minValues", {}) for part in fresh):
            low = min(part.stats["minValues"][name] for part in fresh)
            high = max(part.stats["maxValues"][name] for part in fresh)
            ranges.append((name, low, high))
    return [(part.name, part.rows) for part in old if all(_touches(part, *bounds) for bounds in ranges)]


def _touches(part: Part, name: str, low: Any, high: Any) -> bool:
    if name not in part.stats.get("minValues", {}):
        return True
    return bool(part.stats["minValues"][name] <= high and part.stats["maxValues"][name] >= low)


def _next_version(
    place: Place, before: Facts | None, rules: IntakeRules, current: _Intake, *, replaced: int
) -> DatasetVersion:
    last = before.version if before else None
    added = current.parts.rows
    digest = last.digest if last else ""
    return DatasetVersion(
        pipeline=place.pipeline,
        dataset=place.dataset,
        version=(last.version if last else 0) + 1,
        # Rows set aside are no content: when nothing else came, what is built upon this version stays valid.
        digest=current.parts.digest.chain(digest) if added or not last else digest,
        table=place.table,
        delta_version=len(log.commit_paths(place.directory)),
        rows=(last.rows if last else 0) + added,
        rows_added=added,
        rows_quarantined=current.set_aside.rows,
        reasons=current.set_aside.reasons,
        replaced=replaced,
        watermark=_watermark(last, rules, current),
        schema=current.schema,
        contract=current.contract,
        taken_at=rules.taken_at,
    )


def _watermark(last: DatasetVersion | None, rules: IntakeRules, current: _Intake) -> Any:
    if rules.cursor is not None:
        return rules.cursor()
    before = since(last) if last and last.contract.get("time") == rules.time else None
    latest = current.latest_time
    candidates = [value for value in (before, latest) if value is not None]
    return encode_time(max(candidates)) if candidates else None
