"""A release as one file: a ZIP, uncompressed, with the manifest and the blobs that serving needs. No data sets.

Import reads entry by entry into the blob store. It never unpacks: a name is only ever a digest, links and
devices have no meaning, and the bytes of every entry must hash to its name.
"""

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import msgspec

from penstock.core.digest import digest_bytes
from penstock.core.errors import DamagedError, InputError
from penstock.core.records import Artifact
from penstock.core.refs import parse_name
from penstock.releases.manifest import FORMAT, Manifest, decode_manifest
from penstock.store import codecs
from penstock.store.blobs import Blobs

_ENTRY = re.compile(r"blobs/[0-9a-f]{64}")
_MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 64 * 2**20
_ENTRIES_LIMIT = 100_000
_CHUNK = 2**20
_ENCRYPTED = 0x1
_FOREIGN = frozenset("\\:\0")  # separators and drives of other systems
_UPGRADE = "it may be of a newer Penstock: upgrade, or export it again"


def export_release(manifest_digest: str, blobs: Blobs, target: Path) -> Path:
    """Write a release to one file and return its path; half a file is never left behind.

    Raises:
        InputError: The target exists already.
        DamagedError: A blob of the release is damaged or gone.
    """
    if target.exists():
        raise InputError(f"{target} exists already.", hint="give another name with --to")
    data = blobs.read(manifest_digest)
    half = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(half, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(_stamped(_MANIFEST), data)
            for digest in sorted(set(needed(decode_manifest(data), blobs))):
                blobs.verify(digest)
                archive.write(blobs.path(digest), f"blobs/{digest}")
        half.replace(target)
    finally:
        half.unlink(missing_ok=True)
    return target


def import_release(source: Path, blobs: Blobs) -> tuple[Manifest, str]:
    """Read a release file into the blob store; return its manifest and the digest of the manifest.

    Raises:
        InputError: The file is not a release file, or holds an entry that no release file has.
        DamagedError: An entry's bytes are not what its name says, or one is missing.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            return _read(archive, source, blobs)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise InputError(f"{source} is not a release file: {error}.", hint="make one with penstock export") from error


def _read(archive: zipfile.ZipFile, source: Path, blobs: Blobs) -> tuple[Manifest, str]:
    entries = archive.infolist()
    if len(entries) > _ENTRIES_LIMIT:
        raise InputError(f"{source} has {len(entries)} entries; a release has at most {_ENTRIES_LIMIT}.")
    for entry in entries:
        is_lawful = entry.filename == _MANIFEST or _ENTRY.fullmatch(entry.filename)
        is_plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & _ENCRYPTED
        if not is_lawful or not is_plain or entry.file_size != entry.compress_size:
            raise InputError(f"{source} holds an entry that no release file has: {entry.filename!r}.")
    if sum(entry.file_size for entry in entries) > source.stat().st_size:  # entries that overlap multiply its size
        raise InputError(f"{source} says it holds more than its size.")
    data = _manifest_bytes(archive, source)
    manifest = _decoded(data, source)
    for entry in entries:
        if entry.filename != _MANIFEST:
            _take(archive, entry, blobs)
    missing = [digest for digest in needed(manifest, blobs) if digest not in blobs]
    if missing:
        raise DamagedError(f"{source} lacks {len(missing)} of its blobs, {missing[0]} first.")
    return manifest, blobs.put(data)


def _manifest_bytes(archive: zipfile.ZipFile, source: Path) -> bytes:
    if _MANIFEST not in archive.namelist() or archive.getinfo(_MANIFEST).file_size > _MANIFEST_LIMIT:
        raise InputError(f"{source} has no usable manifest.", hint="make the file with penstock export")
    return archive.read(_MANIFEST)


def _decoded(data: bytes, source: Path) -> Manifest:
    """Read the manifest, and refuse one that would lead outside the store once its code is laid out."""
    try:
        manifest = decode_manifest(data)
    except msgspec.MsgspecError as error:
        raise InputError(f"The manifest of {source} is not readable: {error}.", hint=_UPGRADE) from error
    if manifest.format != FORMAT:
        raise InputError(f"{source} has format {manifest.format}; this Penstock reads {FORMAT}.", hint=_UPGRADE)
    parse_name(manifest.pipeline, what="pipeline")
    for path in (manifest.graph.import_root, *(file.path for file in manifest.graph.files)):
        if not _is_inside(path):
            raise InputError(f"The manifest of {source} names a file outside its code: {path!r}.")
    return manifest


def _is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return not path.startswith("/") and ".." not in parts and not _FOREIGN.intersection(path)


def _take(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, blobs: Blobs) -> None:
    expected = entry.filename.removeprefix("blobs/")
    with blobs.sink() as sink:
        with archive.open(entry) as packed:
            while chunk := packed.read(_CHUNK):
                sink.write(chunk)
        # Compared before it is kept: bytes under a false name may be those of another blob that is needed here.
        found = sink.finish()
        if found != expected:
            raise DamagedError(f"Entry {expected} of the release file hashes to {found}: the file is damaged.")
        blobs.keep(sink)


def needed(manifest: Manifest, blobs: Blobs) -> Iterator[str]:
    """Yield the digest of every blob a release needs to be served: its code, models and frozen frames."""
    for file in manifest.graph.files:
        yield file.digest
    for artifact in served_artifacts(manifest):
        yield from codecs.blobs_of(artifact, blobs)


def served_artifacts(manifest: Manifest) -> list[Artifact]:
    """Return the artifacts behind serve and fallback functions, and every model."""
    models = {n.name for n in manifest.graph.nodes if n.role in {"model", "baseline"}}
    kept = [a for name, a in manifest.artifacts.items() if name.split("/")[0] in models]
    return [*(a for given in manifest.serving.values() for a in given.values()), *kept]


def _stamped(name: str) -> zipfile.ZipInfo:
    # A fixed time keeps the same release the same file.
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))


def digest_of(manifest_bytes: bytes) -> str:
    """Return the hash that names a release, from the bytes of its manifest."""
    return digest_bytes(manifest_bytes)
