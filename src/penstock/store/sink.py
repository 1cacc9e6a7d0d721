"""A sink: a half-written file in `tmp/` that is hashed while it is written.

Belongs here: writing bytes once, whole, with errors a person can act on. Naming and keeping them is `blobs`.
"""

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from penstock.core import faults
from penstock.core.errors import DiskFullError, StoreError

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Below this a thread costs more than it saves; above, hashing on a second core hides behind the write.
_PARALLEL_BYTES = 1 << 18
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class Sink:
    """A binary file open for writing that knows the digest and size of what went in.

    Args:
        path: Where to write; must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._reserved_bytes = 0
        self._hasher = blake3()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._threads: ThreadPoolExecutor | None = None

    def write(self, data: "Buffer") -> int:
        """Append `data`; returns its size in bytes.

        Raises:
            DiskFullError: There is no space for `data`.
            StoreError: The file system refused.
        """
        view = memoryview(data).cast("B")
        with explained(self.path, needed_bytes=self.size_bytes + view.nbytes):
            if view.nbytes < _PARALLEL_BYTES:
                self._hasher.update(view)
                self._write(view)
            else:
                # Both finish before returning: the caller may reuse its buffer afterwards.
                hashing = self._pool().submit(self._hasher.update, view)
                try:
                    self._write(view)
                finally:
                    hashing.result()
        self.size_bytes += view.nbytes
        return view.nbytes

    def reserve(self, size_bytes: int) -> None:
        """Ask for room for `size_bytes` more; writing into room set aside is a third faster than growing a file.

        Raises:
            DiskFullError: There is not that much space.
        """
        if size_bytes < _PARALLEL_BYTES or not hasattr(os, "posix_fallocate"):
            return
        end = self.size_bytes + size_bytes
        with explained(self.path, needed_bytes=end):
            os.posix_fallocate(self._descriptor, self.size_bytes, size_bytes)
        self._reserved_bytes = max(self._reserved_bytes, end)

    def finish(self) -> str:
        """Give back room that was not used; returns the hex BLAKE3 digest of everything written."""
        if self._reserved_bytes > self.size_bytes:
            with explained(self.path):
                os.ftruncate(self._descriptor, self.size_bytes)
            self._reserved_bytes = 0
        return str(self._hasher.hexdigest())

    def sync(self) -> None:
        """Wait until the bytes are on the disk."""
        with explained(self.path, needed_bytes=self.size_bytes):
            os.fsync(self._descriptor)

    def flush(self) -> None:
        """Do nothing: every write goes to the operating system at once."""

    def close(self) -> None:
        """Do nothing: writers close the files they are given, before the bytes were kept."""

    def end(self) -> None:
        """Close the file; what was written stays in `tmp/`."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._descriptor < 0

    def writable(self) -> bool:
        """Return True; what writers ask of a file object."""
        return True

    def readable(self) -> bool:
        """Return False; a sink is only written."""
        return False

    def seekable(self) -> bool:
        """Return False: bytes that were hashed cannot be changed."""
        return False

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.size_bytes

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, "penstock-hash")
        return self._threads

    def _write(self, view: memoryview) -> None:
        if self.size_bytes == 0 and view.nbytes > 1:
            half = view.nbytes // 2
            self._write_all(view[:half])
            faults.point("blob_mid_write")
            view = view[half:]
        self._write_all(view)

    def _write_all(self, view: memoryview) -> None:
        while view.nbytes:
            view = view[os.write(self._descriptor, view) :]


@contextmanager
def explained(path: Path, *, needed_bytes: int = 0) -> Iterator[None]:
    """Turn what the operating system says about writing `path` into one of our errors.

    Raises:
        DiskFullError: No space or quota is left; names the bytes needed and free.
        StoreError: Anything else: permissions, a read-only file system, an I/O error.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(
                f"No space to write {path.parent}: {needed_bytes} bytes needed, {_free_bytes(path)} free.",
                hint="free some space, or remove what nothing needs with `penstock gc`",
            ) from error
        if error.errno in _REFUSED:
            raise StoreError(
                f"Cannot write in {path.parent}: {error.strerror}.",
                hint="make the directory writable for this user, or keep the store elsewhere",
            ) from error
        raise StoreError(
            f"Writing {path.name} in {path.parent} failed: {error.strerror or error}.",
            hint="look at the disk's health (dmesg, smartctl) and run again",
        ) from error


def _free_bytes(path: Path) -> int:
    try:
        state = os.statvfs(path.parent)
    except OSError:
        return 0  # the directory is gone too; nothing is free there
    return state.f_bavail * state.f_frsize
