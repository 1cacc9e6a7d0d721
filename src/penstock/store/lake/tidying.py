"""Keeps a table that grows by many small intakes in shape: rows that are too old go, small files become large ones.

Unlike compaction this is a version of its own: what is read from the table may change. Its older versions can be read
until `vacuum` removes their files.
"""

import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl

from penstock.core import faults
from penstock.core.digest import digest_bytes
from penstock.core.records import DatasetVersion
from penstock.store.lake import hidden, log
from penstock.store.lake.disk import disk_errors, locked
from penstock.store.lake.dtypes import from_stored, stored_schema
from penstock.store.lake.files import BLOCK_ROWS, PartWriter
from penstock.store.lake.log import Facts, Part
from penstock.store.lake.rules import encode_time

MANY_PARTS = 32
# A merged file is larger than a small one by far, or it would be merged again and again.
_SMALL_BYTES = 4 * 2**20
_SMALL_ROWS = BLOCK_ROWS // 4
# Rows in memory at once; a table like this is tidied beside whatever else a machine does.
_PIECE_BYTES = 64 * 2**20


class _Plan(NamedTuple):
    keep: list[Part]
    rewrite: list[Part]
    drop: list[Part]


def tidy(directory: Path, *, before: datetime | None, taken_at: datetime | None = None) -> DatasetVersion | None:
    """Drop rows older than `before` by the table's time column, and merge small files when there are many.

    Args:
        directory: The table.
        before: Rows of an earlier time go; None keeps all.
        taken_at: When, in UTC, for people.

    Returns:
        The new version, or None when there was nothing to do.

    Raises:
        StoreError: The disk is full or cannot be written.
    """
    facts = log.latest_facts(directory)
    if facts is None:
        return None
    plan = _plan(facts, log.live_parts(directory, facts.version.delta_version), before)
    if not plan.drop and not plan.rewrite:
        return None
    writer = _writer(directory, facts)
    try:
        with disk_errors(directory):
            _rewrite(directory, facts, plan, before, writer=writer)
            return _commit(directory, facts, plan, writer, taken_at=taken_at)
    except BaseException:
        writer.discard()
        raise


def _plan(facts: Facts, parts: Sequence[Part], before: datetime | None) -> _Plan:
    time = facts.version.contract.get("time")
    limit = None if before is None else encode_time(before)
    drop = [part for part in parts if limit is not None and _bound(part, "maxValues", time) < limit]
    rest = [part for part in parts if part not in drop]
    old = [part for part in rest if limit is not None and _bound(part, "minValues", time) < limit]
    small = [p for p in rest if p.rows < _SMALL_ROWS and p.size_bytes < _SMALL_BYTES and p not in old]
    rewrite = [*old, *(small if len(small) >= MANY_PARTS else ())]
    return _Plan([part for part in rest if part not in rewrite], rewrite, drop)


def _bound(part: Part, which: str, time: str | None) -> str:
    # Times are written in UTC and alike, so their text sorts as they do. Without one a file is never too old.
    found = part.stats.get(which, {}).get(time)
    return "9999" if found is None else str(found)


def _writer(directory: Path, facts: Facts) -> PartWriter:
    stem = f"{facts.version.version + 1:08d}-{secrets.token_hex(4)}"
    described = [*facts.version.contract.get("key", ()), facts.version.contract.get("time")]
    names = tuple(dict.fromkeys(name for name in described if name is not None))
    return PartWriter(directory, stem, facts.version.schema, names)


def _rewrite(directory: Path, facts: Facts, plan: _Plan, before: datetime | None, *, writer: PartWriter) -> None:
    files = [(part.name, part.rows) for part in plan.rewrite]
    if not files:
        return
    places = hidden.read_hidden(directory, facts.hidden)
    rows = hidden.scan_visible(directory, files, places, stored_schema(facts.version.schema))
    kept = from_stored(rows, facts.version.schema)
    time = facts.version.contract.get("time")
    if before is not None and time is not None:
        kept = kept.filter(pl.col(time) >= before)
    for piece in _pieces(kept.collect_batches(chunk_size=BLOCK_ROWS // 64, maintain_order=True, engine="streaming")):
        writer.write(piece)


def _pieces(batches: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    pending: list[pl.DataFrame] = []
    size_bytes = 0
    for batch in batches:
        pending.append(batch)
        size_bytes += int(batch.estimated_size())
        if size_bytes >= _PIECE_BYTES:
            yield pl.concat(pending, rechunk=True)
            pending, size_bytes = [], 0
    if pending:
        yield pl.concat(pending, rechunk=True)


def _commit(
    directory: Path, facts: Facts, plan: _Plan, writer: PartWriter, *, taken_at: datetime | None
) -> DatasetVersion | None:
    with locked(directory):
        now = log.latest_facts(directory)
        if now is None or now.version.delta_version != facts.version.delta_version:
            writer.discard()  # an intake came first; its rows are worth more than tidiness
            return None
        tidied = _facts(directory, facts, plan, writer, taken_at=taken_at)
        names = [part.name for part in (*plan.drop, *plan.rewrite)]
        faults.point("tidy_before_commit")
        number = log.commit(
            directory, stored_schema(facts.version.schema), tidied, add=writer.parts, remove=names, changes_data=True
        )
        faults.point("tidy_after_commit")
    return msgspec.structs.replace(tidied.version, delta_version=number)


def _facts(directory: Path, facts: Facts, plan: _Plan, writer: PartWriter, *, taken_at: datetime | None) -> Facts:
    places = hidden.read_hidden(directory, facts.hidden)
    kept_names = [part.name for part in plan.keep]
    still = places.filter(pl.col("file").is_in(kept_names))
    parts = (*plan.keep, *writer.parts)
    rows = sum(part.rows for part in parts)
    stem = writer.parts[0].name.rpartition("-")[0] if writer.parts else f"{facts.version.version + 1:08d}-tidy"
    version = msgspec.structs.replace(
        facts.version,
        version=facts.version.version + 1,
        delta_version=facts.version.delta_version + 1,
        # Rows went, so it is no longer what the chain of intakes says.
        digest=digest_bytes(f"{facts.version.digest} tidied {rows - still.height}".encode()),
        rows=rows,
        rows_added=0,
        rows_quarantined=0,
        reasons={},
        replaced=0,
        taken_at=taken_at or facts.version.taken_at,
    )
    return Facts(
        version=version,
        kind="compaction",
        parts=parts,
        hidden=hidden.write_hidden(directory, (), still, stem),
        visible_rows=rows - still.height,
    )
