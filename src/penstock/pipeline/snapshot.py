"""The code snapshot: files of the project under one digest, and how they are laid out for import elsewhere.

Belongs here: reading and laying out. Does not: which files those are (`imports`), where snapshots are kept.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePath

from penstock.core.digest import digest_bytes, digest_value
from penstock.core.errors import DamagedError, DeclarationError
from penstock.pipeline.graph import CodeFile


def read_files(root: Path, files: tuple[CodeFile, ...]) -> dict[str, bytes]:
    """Return the bytes of the files of a snapshot by path.

    Raises:
        DeclarationError: A file changed since it was listed, so what runs would not be what was planned.
    """
    found: dict[str, bytes] = {}
    changed: list[str] = []
    for file in files:
        try:
            data = (root / file.path).read_bytes()
        except OSError as error:
            changed.append(f"{file.path}: cannot be read any more ({error.strerror}).")
            continue
        if digest_bytes(data) != file.digest:
            changed.append(f"{file.path}: changed while the pipeline was being planned.")
        found[file.path] = data
    if changed:
        raise DeclarationError(tuple(changed), hint="save all files and start the command again")
    return found


def tree_digest(files: tuple[CodeFile, ...]) -> str:
    """Return the digest of a snapshot: of the paths and digests of its files."""
    return digest_value({file.path: file.digest for file in files})


def lay_out(files: Mapping[str, bytes], target: Path) -> Path:
    """Write a snapshot as a folder that can be put on the import path; nobody ever sees it half-written.

    Files are read-only. A folder that is there already is checked, and kept if its bytes are right.

    Raises:
        DamagedError: `target` is there and holds other bytes, or a file's path leads out of it.
    """
    for name in files:
        if PurePath(name).is_absolute() or ".." in PurePath(name).parts or "\0" in name:
            raise DamagedError(f"The code snapshot names a file outside itself: {name!r}.", hint="make a new release")
    if target.exists():
        _check(files, target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=f".{target.name[:16]}-", dir=target.parent))
    try:
        for name, data in files.items():
            _write(half / name, data)
        half.chmod(0o755)
        os.rename(half, target)  # noqa: PTH104 - Path.rename returns a path and reads worse; same call
    except OSError:
        shutil.rmtree(half, ignore_errors=True)
        if not target.is_dir():
            raise
        _check(files, target)  # another process laid it out first
    return target


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o444)


def _check(files: Mapping[str, bytes], target: Path) -> None:
    for name, data in files.items():
        path = target / name
        if not path.is_file() or path.read_bytes() != data:
            raise DamagedError(
                f"The code snapshot at {str(target)!r} holds other bytes than it should in {name!r}.",
                hint=f"delete {str(target)!r}; it is a cache and is made again",
            )
