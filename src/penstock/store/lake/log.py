"""The Delta log of one table: the facts of each version ride in its commit, and are read back from there.

The log is the truth; whatever the ledger says about datasets is derived from it. Nothing here knows columns or rules.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl
from deltalake import CommitProperties, DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from penstock.core.errors import DamagedError
from penstock.core.records import DatasetVersion, Record
from penstock.store.lake.disk import sync_file

_COMMIT = re.compile(r"[0-9]{20}\.json")
_KEY = "penstock"
# Facts must stay readable for as long as the table: the log is never cleaned up by age.
_CONFIGURATION = {"delta.enableExpiredLogCleanup": "false", "delta.logRetentionDuration": "interval 36500 days"}


class Part(Record, frozen=True, kw_only=True):
    """One file of a table.

    Attributes:
        name: Path relative to the table's directory.
        stats: Delta's statistics: `numRecords`, `minValues`, `maxValues`, `nullCount`.
    """

    name: str
    rows: int
    size_bytes: int
    digest: str
    stats: dict[str, Any] = msgspec.field(default_factory=dict)


class Facts(Record, frozen=True, kw_only=True):
    """What one commit says.

    Attributes:
        parts: Files this commit added, in order.
        hidden: Files that list the hidden rows of this version, all of them together.
        visible_rows: Rows a reader sees: the newest per key.
        quarantine: File with the rows set aside by this intake.
        notes: What was mended silently otherwise: columns reordered or widened.
    """

    version: DatasetVersion
    kind: Literal["intake", "compaction"] = "intake"
    parts: tuple[Part, ...] = ()
    hidden: tuple[str, ...] = ()
    visible_rows: int = 0
    quarantine: Part | None = None
    notes: tuple[str, ...] = ()


def commit_paths(directory: Path) -> list[Path]:
    """Return the commits of a table, newest first; empty when there is no table."""
    return [directory / "_delta_log" / name for name in _commit_names(directory)]


def _commit_names(directory: Path) -> list[str]:
    # Names and no paths: most look at the newest commit alone, and paths cost twenty times as much to sort.
    try:
        with os.scandir(directory / "_delta_log") as entries:
            return sorted((entry.name for entry in entries if _COMMIT.fullmatch(entry.name)), reverse=True)
    except (FileNotFoundError, NotADirectoryError):
        return []


def facts_newest_first(directory: Path) -> Iterator[Facts]:
    """Yield the facts of each commit that has some, newest first; commits of other tools are passed over."""
    for name in _commit_names(directory):
        facts = _read_facts(directory / "_delta_log" / name)
        if facts is not None:
            yield facts


def _read_facts(path: Path) -> Facts | None:
    try:
        with path.open("rb") as lines:
            found = (json.loads(line).get("commitInfo") for line in lines)
            info: dict[str, Any] = next((info for info in found if info is not None), {})
        return _decode(info[_KEY], int(path.stem)) if _KEY in info else None
    except (ValueError, msgspec.ValidationError) as error:
        raise DamagedError(
            f"The commit {path} cannot be read: {error}.", hint="restore this file from a backup of the lake"
        ) from error


def _decode(text: str, delta_version: int) -> Facts:
    facts = msgspec.json.decode(text, type=Facts)
    return msgspec.structs.replace(facts, version=msgspec.structs.replace(facts.version, delta_version=delta_version))


def latest_facts(directory: Path) -> Facts | None:
    """Return the facts of the newest commit that has some."""
    return next(facts_newest_first(directory), None)


def commit(
    directory: Path,
    schema: pl.Schema,
    facts: Facts | None,
    *,
    add: Sequence[Part],
    remove: Sequence[str] = (),
    changes_data: bool = True,
) -> int:
    """Add and remove files in one commit, and return its Delta version.

    Args:
        directory: The table.
        schema: Columns in stored types, used when this commit makes the table.
        facts: What the commit says; None for tables that say nothing, as the quarantine.
        add: Files already lying in `directory`, synced.
        remove: Names of files that no longer belong to the newest version.
        changes_data: False when the same rows are only laid out anew.
    """
    custom = {} if facts is None else {_KEY: msgspec.json.encode(facts).decode()}
    # No retries: a commit that meets another one was checked against an older state, and must be judged again.
    properties = CommitProperties(custom_metadata=custom, max_commit_retries=0)
    delta_schema = DeltaSchema.from_arrow(
        pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    )
    actions: list[AddAction | RemoveAction] = [_add(part, changes_data=changes_data) for part in add]
    if _commit_names(directory):
        table = DeltaTable(directory)
        known = {field.name for field in table.schema().fields}
        if grown := [field for field in delta_schema.fields if field.name not in known]:
            # A commit of its own that says no facts: columns without rows are no version.
            table.alter.add_columns(grown)
        actions += [RemoveAction(name, changes_data, 0) for name in remove]
        table.create_write_transaction(actions, "append", delta_schema, commit_properties=properties)
    else:
        create_table_with_add_actions(
            str(directory),
            delta_schema,
            [_add(part, changes_data=changes_data) for part in add],
            configuration=_CONFIGURATION,
            commit_properties=properties,
        )
    written = commit_paths(directory)[0]
    sync_file(written)
    sync_file(written.parent)
    return int(written.stem)


def _add(part: Part, *, changes_data: bool) -> AddAction:
    stats = json.dumps({"numRecords": part.rows, **part.stats})
    return AddAction(part.name, part.size_bytes, {}, 0, changes_data, stats)


def live_parts(directory: Path, delta_version: int) -> list[Part]:
    """Return the files of a Delta version in order of arrival, as the log says them."""
    newest_first = facts_newest_first(directory)
    found: list[Part] = []
    for facts in newest_first:
        if facts.version.delta_version > delta_version:
            continue
        found += facts.parts
        if facts.kind == "compaction":
            break
    return sorted(found, key=lambda part: part.name)
