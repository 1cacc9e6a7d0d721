"""Carries a release elsewhere as one file, and takes one in."""

import os
import sys
from pathlib import Path

from penstock.core.errors import CheckError, InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.refs import ReleaseRef, RunRef, parse_name, parse_ref
from penstock.project.contracts import refuse_breaking
from penstock.project.workspace import Workspace
from penstock.releases.archive import export_release, import_release
from penstock.releases.manifest import Manifest
from penstock.store.ledger import events, releases


class Exported(Record, frozen=True, kw_only=True):
    """A release written to a file."""

    release: str
    hash: str
    path: str
    size_bytes: int


class Imported(Record, frozen=True, kw_only=True):
    """A release taken in.

    Attributes:
        release: Its reference here; numbers are given by each ledger, the hash is the same everywhere.
        is_new: False when this ledger had it already.
        is_live: Whether it is what `penstock serve` answers with now.
        live: The reference of the live release.
    """

    release: str
    hash: str
    is_new: bool
    is_live: bool
    live: str


def find_release(text: str, workspace: Workspace) -> releases.Release:
    """Return the release meant: "movies@3", or "movies" for the live one.

    Raises:
        InputError: The text is no reference of a release.
        NotFoundError: There is no such release.
    """
    if "@" not in text:
        name = parse_name(text, what="pipeline")
        with workspace.ledger.read() as conn:
            found = releases.live(conn, name)
        if found is None:
            raise NotFoundError(f"Pipeline {name!r} has no release.", hint=f"make one: penstock run {name}")
        return found
    ref = parse_ref(text)
    if isinstance(ref, RunRef):
        raise InputError(f"{text!r} is a run, not a release.", hint="write a release as movies@12")
    with workspace.ledger.read() as conn:
        return releases.get(conn, ref)


def export_to(release: str, workspace: Workspace, *, target: Path | None = None) -> Exported:
    """Write a release to one file: code, models, what serving needs, and the manifest; no data sets.

    Args:
        release: "movies@3", or "movies" for the live one.
        workspace: The project.
        target: The file; `movies-3.penstock` in the current directory by default.

    Raises:
        InputError: The file exists already.
        NotFoundError: There is no such release.
        DamagedError: A blob of the release is damaged or gone.
    """
    found = find_release(release, workspace)
    path = target if target is not None else Path(f"{found.pipeline}-{found.version}.penstock")
    export_release(found.manifest_digest, workspace.blobs, path)
    return Exported(release=str(found.ref), hash=found.hash, path=str(path), size_bytes=path.stat().st_size)


def import_from(
    source: Path, workspace: Workspace, *, live: bool = False, wanted: ReleaseRef | None = None
) -> Imported:
    """Take in a release file; the same file again changes nothing.

    Args:
        source: What `export_to` wrote.
        workspace: The project.
        live: Serve it from now on. A pipeline without a live release serves it in any case.
        wanted: The reference that it must get, as where it came from; None for the next number here.

    Raises:
        InputError: It is not a release file, was written by a newer Penstock, or cannot have the reference.
        DamagedError: Its bytes are not what they should be.
        CheckError: A check of it did not pass, or it would be live and breaks an application.
    """
    manifest, manifest_digest = import_release(source, workspace.blobs)
    _refuse_failed(manifest, source)
    name = manifest.pipeline
    if wanted is not None and wanted.pipeline != name:
        raise InputError(f"{source} holds a release of {name!r}, not {wanted}.", hint=f"give its number as {name}@12")
    if live:
        refuse_breaking(workspace, manifest, f"The release in {source}")
    with workspace.ledger.write() as conn:
        made = releases.create(
            conn,
            name,
            release_hash=manifest_digest,
            manifest_digest=manifest_digest,
            run_id=None,
            version=None if wanted is None else wanted.version,
        )
        before = releases.live(conn, name)
        if made.is_new:
            details = {"hash": made.hash, "file": source.name}
            events.append(conn, actor=person(), action="release.imported", target=str(made.ref), details=details)
        now_live = before
        if before is None or (live and before.version != made.version):
            releases.set_endpoint(conn, name, made.ref, by=person())
            now_live = made
    live_ref = made.ref if now_live is None else now_live.ref
    return Imported(
        release=str(made.ref), hash=made.hash, is_new=made.is_new, is_live=live_ref == made.ref, live=str(live_ref)
    )


def _refuse_failed(manifest: Manifest, source: Path) -> None:
    failed = [check.name for check in manifest.checks if not check.passed]
    if failed:
        raise CheckError(
            f"{source} holds a release whose checks {failed!r} did not pass.",
            hint="only the release of a run whose checks all passed can be taken in",
        )


def person() -> str:
    """Name who does this, for the audit trail; the account, because there are no other names yet."""
    if sys.platform == "win32":
        return os.getlogin()
    # Only POSIX has it.
    import pwd  # noqa: PLC0415  # see above

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container without an entry for this number
        return f"uid {os.getuid()}"
