"""Looks a store over and says what is wrong and how to mend it; mends what can be mended without a guess.

Belongs here: putting together what each room says about itself. Does not: removing what nothing needs (`garbage`).
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

from penstock.core.digest import digest_bytes
from penstock.core.errors import ArtifactError, NotFoundError, PenstockError
from penstock.core.records import Record
from penstock.pipeline.graph import CodeFile
from penstock.pipeline.snapshot import tree_digest
from penstock.project.agreement import disagreement, way_out
from penstock.project.references import Need, References, references
from penstock.project.workspace import Workspace
from penstock.store.ledger import artifacts, datasets, doctor, leases, recovery
from penstock.store.ledger.errors import backups_of

SETTLED_S = 3600.0  # what a dead process left is younger than this only while it may still be looked into
_LEAST_FREE_BYTES = 2**30
_SHORT = 12


class Finding(Record, frozen=True, kw_only=True):
    """Something found.

    Attributes:
        room: "ledger", "blobs", "lake", "releases", "code" or "disk".
        message: What is the case, in one sentence.
        mend: The next action; "" when the message says it.
    """

    room: str
    message: str
    mend: str = ""


class Examination(Record, frozen=True, kw_only=True):
    """What was found in a store.

    Attributes:
        faults: What is wrong.
        notes: What is worth knowing, but not wrong.
        looked: What was looked at, in words.
        mended: What was done about it.
    """

    faults: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    looked: tuple[str, ...]
    mended: tuple[str, ...] = ()

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


@dataclass(slots=True)
class Survey:
    """What an examination gathers.

    Attributes:
        broken: Blobs that are damaged (True) or missing (False), by digest.
        stale_code: Names of code snapshots with other bytes than they should have.
    """

    refs: References
    is_deep: bool
    faults: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    broken: dict[str, bool] = field(default_factory=dict)
    stale_code: list[str] = field(default_factory=list)

    def fault(self, room: str, message: str, mend: str = "") -> None:
        """Add something that is wrong."""
        self.faults.append(Finding(room=room, message=message, mend=mend))

    def note(self, room: str, message: str, mend: str = "") -> None:
        """Add something worth knowing."""
        self.notes.append(Finding(room=room, message=message, mend=mend))

    def done(self, mended: tuple[str, ...] = ()) -> Examination:
        """Return the record of it."""
        return Examination(faults=tuple(self.faults), notes=tuple(self.notes), looked=tuple(self.looked), mended=mended)


def survey(workspace: Workspace, *, deep: bool = False) -> Survey:
    """Look at every room; change nothing."""
    found = Survey(references(workspace), deep)
    _look_at_ledger(workspace, found)
    _look_at_blobs(workspace, found)
    _look_at_lake(workspace, found)
    _look_at_code(workspace, found)
    _look_at_disk(workspace, found)
    return found


def _look_at_ledger(workspace: Workspace, found: Survey) -> None:
    ledger = workspace.ledger
    with ledger.read() as conn:
        lost = recovery.find_lost(conn)
        dead = [lease.name for lease in leases.held(conn) if leases.is_free(conn, lease)]
    for sentence in doctor.check_ledger(ledger):
        is_mendable = bool(lost or dead) and ("marked running" in sentence or sentence.startswith("The lease"))
        found.fault("ledger", sentence, "penstock doctor --repair" if is_mendable else "")
    for sentence in found.refs.unreadable:
        found.note("ledger", sentence, "the blob behind it is listed as damaged or missing")
    found.looked.append(f"the ledger {ledger.url.render_as_string(hide_password=True)}: schema, integrity, audit chain")
    if ledger.path is not None:
        backups = backups_of(ledger.path)
        if not backups:
            found.note("ledger", "There is no backup of the ledger yet.", "penstock doctor --repair makes one")
        else:
            found.looked.append(f"its newest backup is {backups[-1].name}")


def _look_at_blobs(workspace: Workspace, found: Survey) -> None:
    blobs = workspace.blobs
    count = size = 0
    for digest, need in sorted(found.refs.blobs.items()):
        count += 1
        try:
            size += blobs.path(digest).stat().st_size
            if found.is_deep:
                blobs.verify(digest)
            else:
                blobs.check(digest)
        except ArtifactError as error:
            found.broken[digest] = digest in blobs
            _tell_broken(digest, need, error, found=found, workspace=workspace)
    how = "read and hashed" if found.is_deep else "there, and unchanged since they were last hashed"
    found.looked.append(f"{counted(count, 'blob')} ({in_units(size)}) that results, releases or runs need: {how}")
    orphans = [digest for digest in blobs.digests() if digest not in found.refs.blobs]
    if orphans:
        lying = sum(blobs.path(digest).stat().st_size for digest in orphans)
        _note_left_over(found, "blobs", f"{counted(len(orphans), 'blob')} ({in_units(lying)}) that nothing refers to")
    stale = blobs.stale_temporaries(SETTLED_S)
    if stale:
        _note_left_over(found, "blobs", f"{counted(len(stale), 'half-written thing')} of processes that died")


def _note_left_over(found: Survey, room: str, what: str) -> None:
    found.note(room, f"Left over: {what}.", "penstock gc shows and removes what nothing needs")


def _tell_broken(digest: str, need: Need, error: ArtifactError, *, found: Survey, workspace: Workspace) -> None:
    what = _named(digest, need, workspace)
    needed_by = ", ".join([*sorted(need.releases), *sorted(need.results)])
    said = f"{what}: {error.message}"
    if not needed_by:
        shown = ", ".join(sorted(need.others)[:3])
        found.note("blobs", f"{said} Only what {shown} shows of it is lost.", "restore it from a backup if you need it")
        return
    room = "releases" if need.releases else "blobs"
    found.fault(room, f"{said} Needed by {needed_by}.", _how_to_mend(need))


def _named(digest: str, need: Need, workspace: Workspace) -> str:
    makers = []
    with workspace.ledger.read() as conn:
        for artifact in sorted(need.artifacts):
            try:
                kept = artifacts.get(conn, artifact)
            except NotFoundError:  # of an imported release: this ledger has not seen it being made
                continue
            makers.append(f"{kept.made_by} made ({kept.artifact.codec}, {in_units(kept.artifact.size_bytes)})")
    if makers:
        return f"What {makers[0]}"
    if need.artifacts:
        return f"Artifact {digest[:_SHORT]} of an imported release"
    return f"Code, graph or manifest {digest[:_SHORT]}"


def _how_to_mend(need: Need) -> str:
    pipelines = sorted({name.partition("/")[0] for name in need.results})
    if pipelines:
        return f"penstock doctor --repair, then penstock run {pipelines[0]}: it is made again"
    release = min(need.releases)
    return (
        f"import {release} again (penstock import FILE), or restore the blob from a backup; "
        f"a new release replaces it: penstock run {release.partition('@')[0]}"
    )


def _look_at_lake(workspace: Workspace, found: Survey) -> None:
    with workspace.ledger.read() as conn:
        known = datasets.names(conn)
    tables = sorted({*workspace.lake.tables(), *known})
    for pipeline, dataset in tables:
        table = workspace.lake.table(pipeline, dataset)
        try:
            for sentence in table.check() if found.is_deep else ():
                is_left = "belongs to no commit" in sentence
                (found.note if is_left else found.fault)("lake", sentence)
            latest = table.latest()
            if latest is not None:
                table.scan(latest)
            differs = disagreement(pipeline, dataset, workspace)
        except PenstockError as error:
            found.fault("lake", f"{pipeline}/{dataset}: {error.message}", error.hint)
            continue
        if differs is not None:
            found.fault("lake", differs, way_out(pipeline, dataset, workspace))
    if tables:
        how = "every file read and hashed" if found.is_deep else "every file there, of the size it should have"
        found.looked.append(f"{counted(len(tables), 'table')} of the lake: {how}")


def _look_at_code(workspace: Workspace, found: Survey) -> None:
    folder = workspace.home / "code"
    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    for name in sorted(names):
        if tree_digest(tuple(_laid_out(workspace, name))) != name:
            found.stale_code.append(name)
            found.fault(
                "code",
                f"The code laid out in {folder / name} is not what was snapshotted.",
                "penstock doctor --repair removes it; it is laid out again from the blobs",
            )
    found.looked.append(counted(len(names), "code snapshot"))


def _laid_out(workspace: Workspace, name: str) -> Iterator[CodeFile]:
    root = workspace.home / "code" / name
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield CodeFile(path=path.relative_to(root).as_posix(), digest=digest_bytes(path.read_bytes()))


def _look_at_disk(workspace: Workspace, found: Survey) -> None:
    free = shutil.disk_usage(workspace.home).free
    if free < _LEAST_FREE_BYTES:
        found.fault(
            "disk",
            f"Only {in_units(free)} are free where {workspace.home} is.",
            "make room; `penstock gc` shows what nothing needs",
        )
    found.looked.append(f"the disk: {in_units(free)} free")


def in_units(size_bytes: int) -> str:
    """Return a size for people: "12.3 MB"."""
    size = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def counted(count: int, thing: str) -> str:
    """Return "1 blob", "2,000 blobs"."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
