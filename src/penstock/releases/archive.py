"""A release as one file: a ZIP, uncompressed, with the manifest and the blobs that serving needs. No data sets.

Import reads entry by entry into the blob store. It never unpacks: a name is only ever a digest, links and
devices have no meaning, and the bytes of every entry must hash to its name.
"""

import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3

from penstock.core.errors import DamagedError, InputError
from penstock.core.records import Artifact
from penstock.releases.manifest import Manifest, decode_manifest
from penstock.releases.untrusted import read_untrusted
from penstock.store import codecs
from penstock.store.blobs import Blobs
from penstock.store.sink import explained

_ENTRY = re.compile(r"blobs/[0-9a-f]{64}")
_MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 64 * 2**20
_ENTRIES_LIMIT = 100_000
_CHUNK = 2**20
_ENCRYPTED = 0x1
_EXPORT = "make the file again with penstock export"
# What `zipfile` raises on hostile bytes, found by flipping every byte of a release file.
_UNREADABLE = (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, OverflowError, RuntimeError, ValueError)


def export_release(manifest_digest: str, blobs: Blobs, target: Path) -> Path:
    """Write a release to one file and return its path; the same release gives the same bytes.

    `target` appears whole or not at all. A process killed meanwhile leaves a hidden file beside it, which the next
    export to the same name removes.

    Raises:
        InputError: The target exists already.
        DamagedError: A blob of the release is damaged or gone.
        StoreError: The file cannot be written.
    """
    if target.exists():
        raise _taken(target)
    data = blobs.read(manifest_digest)
    digests = sorted(set(needed(decode_manifest(data), blobs)))
    size = sum(blobs.path(digest).stat().st_size for digest in digests)
    with explained(target, needed_bytes=size):
        _clear(target)
        half = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with half.open("xb") as file:
                _write(file, data, digests, blobs)
                file.flush()
                os.fsync(file.fileno())
            _publish(half, target)
        finally:
            half.unlink(missing_ok=True)
    return target


def _publish(half: Path, target: Path) -> None:
    """Give a finished file its name, unless something has that name by now."""
    try:
        os.link(half, target)  # unlike a rename, it never replaces
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError:  # a file system without links: the name is taken first, and filled a moment later
        try:
            target.open("xb").close()
        except FileExistsError as error:
            raise _taken(target) from error
        half.replace(target)


def _taken(target: Path) -> InputError:
    return InputError(f"{target} exists already.", hint="give another name with --to")


def _clear(target: Path) -> None:
    """Remove what exports to the same name left when they were killed."""
    for path in target.parent.glob(f".{_literal(target.name)}.*.part"):
        pid = path.name.split(".")[-2]
        if pid.isdigit() and not _is_running(int(pid)):
            path.unlink(missing_ok=True)


def _literal(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def _write(file: BinaryIO, manifest: bytes, digests: list[str], blobs: Blobs) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_stamped(_MANIFEST), manifest)
        for digest in digests:
            _pack(archive, digest, blobs)


def _pack(archive: zipfile.ZipFile, digest: str, blobs: Blobs) -> None:
    path = blobs.path(digest)
    entry = _stamped(f"blobs/{digest}")
    entry.file_size = path.stat().st_size  # decides whether it needs the fields of a large file
    hasher = blake3()
    with path.open("rb") as source, archive.open(entry, "w") as packed:
        while chunk := source.read(_CHUNK):
            hasher.update(chunk)
            packed.write(chunk)
    found = hasher.hexdigest()
    if found != digest:
        raise DamagedError(
            f"Blob stored with digest {digest} now has digest {found}.", hint="see what is wrong: penstock doctor"
        )


def _stamped(name: str) -> zipfile.ZipInfo:
    # A fixed time keeps the same release the same file.
    return zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))


def import_release(source: Path, blobs: Blobs) -> tuple[Manifest, str]:
    """Read a release file into the blob store; return its manifest and its digest, which is the release's hash.

    Nothing is written but whole blobs whose bytes are what their name says.

    Raises:
        InputError: The file is not a release file, is of a newer format, or holds what no release file does.
        DamagedError: An entry's bytes are not what its name says, or one is missing.
    """
    with _opened(source) as archive:
        entries = _entries(archive, source)
        data = _manifest_bytes(archive, entries, source)
        manifest = read_untrusted(data, source)
        _take_all(archive, entries, manifest, blobs)
    return manifest, blobs.put(data)


@contextmanager
def _opened(source: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(source)
    except FileNotFoundError as error:
        raise InputError(
            f"There is no file {str(source)!r}.", hint="give the path of what penstock export wrote"
        ) from error
    except (*_UNREADABLE, struct.error) as error:
        raise InputError(f"{source} is not a release file: {error}.", hint=_EXPORT) from error
    with archive:
        yield archive


def _entries(archive: zipfile.ZipFile, source: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name, once every one of them is of a kind that a release file has."""
    listed = archive.infolist()
    if len(listed) > _ENTRIES_LIMIT:
        raise InputError(f"{source} has {len(listed)} entries; a release has at most {_ENTRIES_LIMIT}.")
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in listed:
        # The raw name: `zipfile` cuts at NUL and turns separators of this system, so that two names may read the same.
        name = entry.orig_filename
        is_lawful = name == entry.filename and (name == _MANIFEST or _ENTRY.fullmatch(name) is not None)
        if not is_lawful or not _is_plain(entry):
            raise InputError(f"{source} holds an entry that no release file has: {name!r}.", hint=_EXPORT)
        if name in entries:
            raise InputError(f"{source} holds {name!r} twice.", hint=_EXPORT)
        entries[name] = entry
    if sum(entry.file_size for entry in listed) > source.stat().st_size:  # entries that overlap multiply its size
        raise InputError(f"{source} says it holds more than its size.", hint=_EXPORT)
    return entries


def _is_plain(entry: zipfile.ZipInfo) -> bool:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    is_stored = entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size
    return is_stored and kind in {0, stat.S_IFREG} and not entry.flag_bits & _ENCRYPTED


def _manifest_bytes(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], source: Path) -> bytes:
    entry = entries.get(_MANIFEST)
    if entry is None:
        raise InputError(f"{source} is not a release file: it has no {_MANIFEST}.", hint=_EXPORT)
    if entry.file_size > _MANIFEST_LIMIT:
        raise InputError(f"The manifest of {source} has {entry.file_size} bytes; {_MANIFEST_LIMIT} at most are read.")
    with _reading(_MANIFEST):
        return archive.read(entry)


def _take_all(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], manifest: Manifest, blobs: Blobs) -> None:
    """Take in what the manifest leads to, blob by blob, and refuse what it does not."""
    taken = {_MANIFEST}
    # `needed` names a listing before it reads it, so it is in the store by the time its parts are asked for.
    for digest in needed(manifest, blobs):
        name = f"blobs/{digest}"
        if name in taken:
            continue
        if name not in entries:
            raise DamagedError(f"The release file lacks blob {digest}, which it needs.", hint=_EXPORT)
        _take(archive, entries[name], blobs)
        taken.add(name)
    unknown = sorted(entries.keys() - taken)
    if unknown:
        raise InputError(f"The release file holds {unknown[0]!r}, which its manifest does not lead to.", hint=_EXPORT)


def _take(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, blobs: Blobs) -> None:
    expected = entry.filename.removeprefix("blobs/")
    with blobs.sink() as sink:
        for chunk in _chunks(archive, entry):
            sink.write(chunk)
        # Compared before it is kept: bytes under a false name may be those of another blob that is needed here.
        found = sink.finish()
        if found != expected:
            raise DamagedError(f"Entry {expected} of the release file hashes to {found}.", hint=_EXPORT)
        blobs.keep(sink)


def _chunks(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    with _reading(entry.filename):
        packed = archive.open(entry)
    with packed:
        while True:
            with _reading(entry.filename):
                chunk = packed.read(_CHUNK)
            if not chunk:
                return
            yield chunk


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except (*_UNREADABLE, struct.error) as error:
        raise DamagedError(f"Entry {name} of the release file cannot be read: {error}.", hint=_EXPORT) from error


def needed(manifest: Manifest, blobs: Blobs) -> Iterator[str]:
    """Yield the digest of every blob a release needs to be served: its code, models and frozen frames.

    A digest comes before its blob is read, and may come several times.
    """
    for file in manifest.graph.files:
        yield file.digest
    for artifact in served_artifacts(manifest):
        yield from codecs.follow(artifact, blobs)


def served_artifacts(manifest: Manifest) -> list[Artifact]:
    """Return the artifacts behind serve and fallback functions, every model, and what stands in for models."""
    models = {n.name for n in manifest.graph.nodes if n.role in {"model", "baseline"}}
    kept = [a for name, a in manifest.artifacts.items() if name.split("/")[0] in models]
    return [*(a for given in manifest.serving.values() for a in given.values()), *kept, *stand_in_artifacts(manifest)]


def stand_in_artifacts(manifest: Manifest) -> list[Artifact]:
    """Return what the faster equivalents of models consist of."""
    found = [one for proofs in manifest.stand_ins.values() for one in proofs.values()]
    return [part for one in found for part in (one.artifact, one.sample) if part is not None]
