"""Files under a table: durable writes, one lock, and what the operating system says in our words."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.core.errors import DiskFullError, StoreError


def sync_file(path: Path) -> None:
    """Make the bytes of `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the table's lock; the kernel gives it back when the process dies."""
    descriptor = os.open(directory / "_lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turn what the operating system or a writer says about the disk into our errors."""
    try:
        yield
    except OSError as error:
        raise _translate(error, directory) from error
    except Exception as error:
        # Polars and delta-rs report some failed writes as their own errors, with the system's words inside.
        if "No space left on device" in str(error) or "os error 28" in str(error):
            raise _full(directory) from error
        raise


def _translate(error: OSError, directory: Path) -> StoreError:
    text = str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT} or "No space left on device" in text or "os error 28" in text:
        return _full(directory)
    if error.errno in {errno.EACCES, errno.EROFS, errno.EPERM} or isinstance(error, PermissionError):
        return StoreError(f"{directory} cannot be written: {text}.", hint="give this user the right to write there")
    return StoreError(f"Writing under {directory} failed: {text}.", hint="check the disk, then take the data in again")


def _full(directory: Path) -> DiskFullError:
    return DiskFullError(
        f"No space is left under {directory}; nothing of this intake was kept.",
        hint="free space, then take the data in again",
    )
