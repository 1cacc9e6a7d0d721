"""Upkeep of a table: fewer files, no left-overs, and a look at every byte. Never changes what a version says."""

import secrets
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
from blake3 import blake3

from penstock.core.errors import DamagedError, NotFoundError
from penstock.core.records import DatasetVersion
from penstock.store.lake import hidden, log, quarantine
from penstock.store.lake.disk import disk_errors, locked
from penstock.store.lake.dtypes import from_stored, stored_schema
from penstock.store.lake.files import BLOCK_ROWS, PartWriter, blocks
from penstock.store.lake.intake import Place
from penstock.store.lake.log import Facts, Part


def refuse_missing(directory: Path, parts: Sequence[Part], version: str) -> None:
    """Raise unless every file is there and of the size the log says."""
    for part in parts:
        path = directory / part.name
        if not path.exists():
            raise NotFoundError(
                f"{version} needs the file {path}, which is gone.",
                hint="`vacuum` removes files of versions nothing pins; otherwise restore it from a backup",
            )
        if path.stat().st_size != part.size_bytes:
            raise DamagedError(
                f"{path} has {path.stat().st_size} bytes, but {version} recorded {part.size_bytes}.",
                hint="restore the file from a backup of the lake",
            )


def compact(place: Place) -> DatasetVersion | None:
    """Rewrite the newest version; see `Table.compact`."""
    directory = place.directory
    facts = log.latest_facts(directory)
    if facts is None:
        return None
    old = log.live_parts(directory, facts.version.delta_version)
    if not facts.hidden and len(old) <= -(-facts.visible_rows // BLOCK_ROWS):
        return None
    writer = _writer(directory, facts)
    try:
        with disk_errors(directory):
            _rewrite(directory, facts, old, writer)
            return _commit(directory, facts, old, writer)
    except BaseException:
        writer.discard()
        raise


def _writer(directory: Path, facts: Facts) -> PartWriter:
    # The name sorts after the files it replaces and before those of the next intake.
    stem = f"{facts.version.version:08d}-{secrets.token_hex(4)}"
    described = [*facts.version.contract.get("key", ()), facts.version.contract.get("time")]
    names = tuple(dict.fromkeys(name for name in described if name is not None))
    return PartWriter(directory, stem, facts.version.schema, names)


def _rewrite(directory: Path, facts: Facts, old: Sequence[Part], writer: PartWriter) -> None:
    places = hidden.read_hidden(directory, facts.hidden)
    files = [(part.name, part.rows) for part in old]
    rows = hidden.scan_visible(directory, files, places, stored_schema(facts.version.schema))
    batches = from_stored(rows, facts.version.schema).collect_batches(
        chunk_size=BLOCK_ROWS // 8, maintain_order=True, engine="streaming"
    )
    for block in blocks(iter(batches)):
        writer.write(block)


def _commit(directory: Path, facts: Facts, old: Sequence[Part], writer: PartWriter) -> DatasetVersion | None:
    stored = stored_schema(facts.version.schema)
    with locked(directory):
        now = log.latest_facts(directory)
        if now is None or now.version.delta_version != facts.version.delta_version:
            writer.discard()  # an intake came first; its rows are worth more than tidiness
            return None
        version = msgspec.structs.replace(facts.version, delta_version=facts.version.delta_version + 1)
        compacted = msgspec.structs.replace(
            facts, kind="compaction", version=version, parts=tuple(writer.parts), hidden=()
        )
        names = [part.name for part in old]
        number = log.commit(directory, stored, compacted, add=writer.parts, remove=names, changes_data=False)
    return msgspec.structs.replace(version, delta_version=number)


def vacuum(directory: Path, keep: Collection[int], *, grace_s: float, dry_run: bool) -> list[str]:
    """Delete what no kept version needs; see `Table.vacuum`."""
    # File times come from the file system, so they are compared with the system's clock and no other.
    youngest = time.time() - grace_s
    with locked(directory):
        needed = _needed(directory, keep)
        unneeded = [path for path in _files(directory) if str(path.relative_to(directory)) not in needed]
        gone = [path for path in unneeded if path.stat().st_mtime <= youngest]
        for path in () if dry_run else gone:
            path.unlink()
    return [str(path.relative_to(directory)) for path in gone]


def _files(directory: Path) -> list[Path]:
    folders = (directory, directory / hidden.FOLDER, directory / quarantine.FOLDER)
    return sorted(path for folder in folders if folder.is_dir() for path in folder.glob("*.parquet"))


def _needed(directory: Path, keep: Collection[int] | None) -> set[str]:
    """Return the files kept versions need; all versions when `keep` is None."""
    newest: dict[int, Facts] = {}
    needed = set()
    for facts in log.facts_newest_first(directory):
        newest.setdefault(facts.version.version, facts)
        if facts.quarantine is not None:
            needed.add(f"{quarantine.FOLDER}/{facts.quarantine.name}")
        if keep is None:
            needed.update(part.name for part in facts.parts)
            needed.update(facts.hidden)
    for number in {*keep, max(newest, default=0)} if keep is not None else ():
        if number in newest:
            facts = newest[number]
            needed.update(part.name for part in log.live_parts(directory, facts.version.delta_version))
            needed.update(facts.hidden)
    return needed


def check(directory: Path) -> list[str]:
    """Return one sentence per fault; see `Table.check`."""
    facts = log.latest_facts(directory)
    if facts is None:
        return []
    said = []
    for part in log.live_parts(directory, facts.version.delta_version):
        said += _check_part(directory / part.name, part)
    for fact in log.facts_newest_first(directory):
        if fact.quarantine is not None:
            said += _check_part(directory / quarantine.FOLDER / fact.quarantine.name, fact.quarantine)
    said += [f"{directory / name} is missing." for name in facts.hidden if not (directory / name).exists()]
    known = _needed(directory, None)
    left = [path for path in _files(directory) if str(path.relative_to(directory)) not in known]
    said += [
        f"{path} belongs to no commit; an intake under way or a dead one left it, `vacuum` removes it." for path in left
    ]
    return said


def _check_part(path: Path, part: Part) -> list[str]:
    if not path.exists():
        return [f"{path} is missing; restore it from a backup."]
    found = blake3().update_mmap(path).hexdigest()
    if found != part.digest:
        return [f"{path} is damaged: its digest is {found}, the log says {part.digest}; restore it from a backup."]
    return []
