"""Removes what nothing refers to: mark what results, releases and runs stand on, sweep the rest after a grace.

Nothing that a result, a release, a run or a version of a dataset refers to is ever touched.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from penstock.core.errors import StoreError
from penstock.core.records import Record
from penstock.project.references import References, references
from penstock.project.workspace import Workspace


class Swept(Record, frozen=True, kw_only=True):
    """What was removed, or would be.

    Attributes:
        blobs: Digests of blobs.
        files: Half-written things, files of the lake and code laid out, relative to the store.
        size_bytes: All of it together.
    """

    blobs: tuple[str, ...]
    files: tuple[str, ...]
    size_bytes: int
    was_dry_run: bool


def sweep(workspace: Workspace, *, grace_s: float, dry_run: bool = True) -> Swept:
    """Remove what nothing refers to and is older than `grace_s` seconds.

    Args:
        workspace: The project.
        grace_s: Spares what a run under way has written but not yet recorded.
        dry_run: Only say what would go.

    Raises:
        StoreError: Something damaged cannot be followed, so what it refers to is not known.
    """
    refs = references(workspace)
    if refs.unreadable:
        raise StoreError(
            f"Nothing was removed: {len(refs.unreadable)} things cannot be followed. First: {refs.unreadable[0]}",
            hint="penstock doctor says how to mend them",
        )
    loose = [*_loose_files(workspace, refs, grace_s)]
    blobs = workspace.blobs.sweep(refs.blobs.keys(), grace_s=grace_s, dry_run=True)
    size = sum(_size_of(path) for path in [*loose, *(workspace.blobs.path(digest) for digest in blobs)])
    lake = _vacuum(workspace, grace_s, dry_run=True)
    size += sum(_size_of(workspace.lake.root / name) for name in lake)
    if not dry_run:
        workspace.blobs.sweep(refs.blobs.keys(), grace_s=grace_s, dry_run=False)
        _vacuum(workspace, grace_s, dry_run=False)
        for path in {*loose} & {*_loose_files(workspace, refs, grace_s)}:  # what was begun to be used since stays
            _remove(path)
    names = [str(path.relative_to(workspace.home)) for path in loose]
    return Swept(
        blobs=tuple(blobs), files=(*names, *(f"lake/{name}" for name in lake)), size_bytes=size, was_dry_run=dry_run
    )


def _loose_files(workspace: Workspace, refs: References, grace_s: float) -> Iterator[Path]:
    yield from workspace.blobs.stale_temporaries(grace_s)
    limit = workspace.clock.now().timestamp() - grace_s
    for path in sorted((workspace.home / "code").iterdir()):
        if path.name not in refs.code and path.stat().st_mtime < limit:
            yield path


def _vacuum(workspace: Workspace, grace_s: float, *, dry_run: bool) -> list[str]:
    found = []
    for pipeline, dataset in workspace.lake.tables():
        table = workspace.lake.table(pipeline, dataset)
        versions = [version.version for version in table.versions()]
        gone = table.vacuum(keep=versions, grace_s=grace_s, dry_run=dry_run)
        found += [f"{pipeline}/{dataset}/{name}" for name in gone]
    return found


def _size_of(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
