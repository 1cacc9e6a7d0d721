"""Blobs: bytes kept once, under their BLAKE3 digest, in read-only files.

Belongs here: keeping, finding, checking and removing bytes. What the bytes mean is the business of `codecs`.
"""

import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from blake3 import blake3

from penstock.core import faults
from penstock.core.clock import Clock, boot_id
from penstock.core.digest import digest_bytes
from penstock.core.errors import DamagedError
from penstock.core.process import is_running
from penstock.store.sink import Sink, explained

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = re.compile(r"blob-(?P<pid>[0-9]+)-[0-9a-f]+(\..*)?")
_STAMP = "user.penstock.verified"
_MMAP_BYTES = 1 << 16


class Blobs:
    """The blobs of a project, `<root>/ab/cdef...`; half-written ones lie in `tmp/` beside `root`.

    A file counts only after its bytes are on disk and it was renamed into place, so a process killed at any
    moment leaves whole blobs or none. Files that this machine hashed since it booted are trusted until their
    size, modification time or inode changes (see `check`); `verify` always reads every byte.

    Waiting for the disk costs several times what writing a large table does, so files of `sync_below_bytes` and more
    are left to the operating system until `sync` asks for them (a release does). Killed processes lose nothing
    by that; after a power cut a torn file is found by its digest, since nothing is trusted across a boot.

    Args:
        root: Directory of the blobs; made when missing.
        clock: Tells the age of files for `sweep`.
        sync_below_bytes: Smaller files are on the disk before `put` returns; None for all of them.
    """

    def __init__(self, root: Path, clock: Clock | None = None, *, sync_below_bytes: int | None = 1 << 23) -> None:
        self.root = Path(root)
        self.temporary = self.root.parent / "tmp"
        self._clock = clock or Clock()
        self._boot = boot_id()
        self._known: dict[str, str] = {}
        self._sync_below_bytes = float("inf") if sync_below_bytes is None else sync_below_bytes

    def put(self, data: bytes | memoryview) -> str:
        """Keep `data` and return its digest; costs a hash when the same bytes are kept already."""
        digest = digest_bytes(data)
        if self._keep_present(digest):
            return digest
        with self.sink() as sink:
            sink.write(data)
            return self.keep(sink)

    def put_file(self, path: Path) -> str:
        """Take over the file at `path` (renamed when on the same file system, else copied) and return its digest.

        Raises:
            StoreError: The file cannot be read, or the store cannot be written.
        """
        with explained(path):
            if path.is_symlink() or path.stat().st_dev != self._made(self.temporary).stat().st_dev:
                return self._copied_in(path)
            digest = _digest_file(path)
            if self._keep_present(digest):
                path.unlink()
                return digest
            path.chmod(0o600)  # a stamp needs write permission
            descriptor = os.open(path, os.O_RDONLY)
            try:
                self._settle(path, digest, lambda: os.fsync(descriptor))
            finally:
                os.close(descriptor)
        return digest

    @contextmanager
    def sink(self) -> Iterator[Sink]:
        """Open a file in `tmp/` that hashes what is written; hand it to `keep`, or it is removed."""
        path = self._temporary_path()
        with explained(path):
            sink = Sink(path)
        try:
            yield sink
        finally:
            sink.end()
            path.unlink(missing_ok=True)

    def keep(self, sink: Sink) -> str:
        """Give what was written to `sink` its place and return its digest."""
        digest = sink.finish()
        if not self._keep_present(digest):
            with explained(sink.path, needed_bytes=sink.size_bytes):
                self._settle(sink.path, digest, sink.sync)
        return digest

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Give a free path in `tmp/`, for a file or a directory; what still lies there afterwards is removed."""
        path = self._temporary_path()
        try:
            yield path
        finally:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def path(self, digest: str, *, size_bytes: int | None = None) -> Path:
        """Return where the bytes are, without reading them.

        Raises:
            DamagedError: The file is missing, or not of the size given.
        """
        path = self._place(digest)
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            raise DamagedError(f"Blob {digest} is missing.", hint=_REBUILD) from None
        if size_bytes is not None and found != size_bytes:
            raise DamagedError(
                f"Blob {digest} has {found} bytes, {size_bytes} were stored; "
                f"what is there has digest {_digest_file(path)}.",
                hint=_REBUILD,
            )
        return path

    def read(self, digest: str) -> bytes:
        """Return the bytes, verified.

        Raises:
            DamagedError: They are missing, or not the bytes that were stored.
        """
        data = self.path(digest).read_bytes()
        found = digest_bytes(data)
        if found != digest:
            raise _damaged(digest, found)
        return data

    def check(self, digest: str) -> Path:
        """Return where the bytes are after making sure of them; free when nothing changed since the last look.

        Raises:
            DamagedError: They are missing, or not the bytes that were stored.
        """
        path = self.path(digest)
        if not self._is_known(digest, path):
            self.verify(digest)
        return path

    def verify(self, digest: str) -> None:
        """Read and hash every byte.

        Raises:
            DamagedError: They are missing, or not the bytes that were stored; names both digests.
        """
        path = self.path(digest)
        before = self._stamp(path)
        found = _digest_file(path)
        if found != digest:
            self._known.pop(digest, None)
            raise _damaged(digest, found)
        self._known[digest] = before

    def sync(self, digests: Iterable[str]) -> None:
        """Wait until these blobs are on the disk, so that they outlast a power cut.

        Raises:
            DamagedError: One is missing.
            StoreError: The disk refused.
        """
        for digest in digests:
            path = self.path(digest)
            with explained(path):
                _sync_path(path)

    def __contains__(self, digest: str) -> bool:
        return self._place(digest).is_file()

    def digests(self) -> Iterator[str]:
        """Yield the digest of every blob there is, in order."""
        if not self.root.is_dir():
            return
        for shard in sorted(self.root.iterdir()):
            for file in sorted(shard.iterdir()) if shard.is_dir() else ():
                if _DIGEST.fullmatch(shard.name + file.name):
                    yield shard.name + file.name

    def delete(self, digest: str) -> None:
        """Remove the bytes; nothing happens when they are gone already."""
        self._known.pop(digest, None)
        path = self._place(digest)
        with explained(path):
            path.unlink(missing_ok=True)

    def sweep(self, keep: Collection[str], *, grace_s: float, dry_run: bool = True) -> list[str]:
        """Remove every blob not in `keep` that was not put or read within the last `grace_s` seconds.

        Args:
            keep: Digests that something refers to (see `codecs.blobs_of`).
            grace_s: Spares what a running step has put but not yet committed.
            dry_run: Only say what would go.

        Returns:
            The digests removed, or that would be.
        """
        limit = self._clock.now().timestamp() - grace_s
        kept = frozenset(keep)
        gone = [digest for digest in self.digests() if digest not in kept and _last_put_s(self._place(digest)) < limit]
        if not dry_run:
            # Looked at again: somebody may have begun to use it since.
            gone = [digest for digest in gone if _last_put_s(self._place(digest)) < limit]
            for digest in gone:
                self.delete(digest)
        return gone

    def renew(self, digests: Iterable[str]) -> bool:
        """Begin the grace of blobs anew, as if they were put now; False when one is not there."""
        try:
            for digest in digests:
                self._renew(self._place(digest))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def stale_temporaries(self, grace_s: float) -> list[Path]:
        """Return half-written things older than `grace_s` seconds whose process is gone."""
        limit = self._clock.now().timestamp() - grace_s
        if not self.temporary.is_dir():
            return []
        stale = []
        for path in sorted(self.temporary.iterdir()):
            match = _TEMPORARY.fullmatch(path.name)
            if match and path.lstat().st_mtime < limit and not is_running(int(match["pid"])):
                stale.append(path)
        return stale

    def _place(self, digest: str) -> Path:
        if _DIGEST.fullmatch(digest) is None:
            raise DamagedError(f"{digest!r} is not a digest.", hint="a digest is 64 hexadecimal digits")
        return self.root / digest[:2] / digest[2:]

    def _temporary_path(self) -> Path:
        return self._made(self.temporary) / f"blob-{os.getpid()}-{secrets.token_hex(8)}"

    def _made(self, directory: Path) -> Path:
        if not directory.is_dir():
            with explained(directory):
                directory.mkdir(parents=True, exist_ok=True)
                _sync_path(directory.parent)
        return directory

    def _copied_in(self, path: Path) -> str:
        with self.sink() as sink:
            with path.open("rb") as source:
                while chunk := source.read(1 << 24):
                    sink.write(chunk)
            digest = self.keep(sink)
        path.unlink()
        return digest

    def _keep_present(self, digest: str) -> bool:
        """Whether these bytes are kept already and known to be whole; renews their grace."""
        place = self._place(digest)
        try:
            if not self._is_known(digest, place):
                return False
            self._renew(place)
        except (FileNotFoundError, NotADirectoryError):
            return False
        _sync_path(place.parent)
        return True

    def _renew(self, place: Path) -> None:
        # The time of access, not of modification: that one is part of the stamp.
        now_ns = int(self._clock.now().timestamp() * 1e9)
        with suppress(PermissionError):  # another user's file: its age then counts from when they put it
            os.utime(place, ns=(now_ns, place.stat().st_mtime_ns))

    def _settle(self, path: Path, digest: str, sync: Callable[[], None]) -> None:
        stamp = self._stamp(path)
        with suppress(OSError, AttributeError):  # no extended attributes here: other processes hash for themselves
            os.setxattr(path, _STAMP, stamp.encode())
        path.chmod(0o444)
        if path.stat().st_size < self._sync_below_bytes:
            sync()
        faults.point("blob_after_fsync")
        place = self._place(digest)
        self._made(self._made(self.root) / digest[:2])
        path.rename(place)
        _sync_path(place.parent)
        self._known[digest] = stamp

    def _is_known(self, digest: str, path: Path) -> bool:
        stamp = self._stamp(path)
        if self._known.get(digest) == stamp:
            return True
        try:
            trusted = os.getxattr(path, _STAMP).decode() == stamp
        except (OSError, AttributeError):
            return False  # never stamped, or no extended attributes here
        if trusted:
            self._known[digest] = stamp
        return trusted

    def _stamp(self, path: Path) -> str:
        state = path.stat()
        return f"{self._boot}:{state.st_size}:{state.st_mtime_ns}:{state.st_ino}"


_REBUILD = "run the pipeline again to rebuild it, or restore the file from a backup"


def _damaged(digest: str, found: str) -> DamagedError:
    return DamagedError(f"Blob stored with digest {digest} now has digest {found}.", hint=_REBUILD)


def _digest_file(path: Path) -> str:
    if path.stat().st_size < _MMAP_BYTES:
        return digest_bytes(path.read_bytes())
    return str(blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest())


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _last_put_s(path: Path) -> float:
    try:
        state = path.stat()
    except FileNotFoundError:
        return float("inf")  # removed by another sweep meanwhile
    return max(state.st_mtime, state.st_atime)
