"""The last inspection of a file, kept on disk together with all that it depended on.

Belongs here: deciding whether an answer still holds without running user code. Does not: making one (`inspect`).
"""

import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import msgspec

from penstock.core.digest import digest_bytes, digest_value
from penstock.core.records import Record
from penstock.pipeline.graph import Graph

_FORMAT = 1
# A file written this shortly before it was read may be written again without a new time stamp; it is hashed each time.
_UNSURE_NS = 2_000_000_000


class _Seen(Record, frozen=True, kw_only=True):
    """A file as it was: relative path, time, size, digest."""

    path: str
    mtime_ns: int
    size: int
    digest: str


class _Answer(Record, frozen=True, kw_only=True):
    key: str
    seen_at_ns: int
    files: tuple[_Seen, ...]
    folders: dict[str, str]
    packages: dict[str, str]
    graphs: tuple[Graph, ...]


def recall(root: Path, place: Path) -> tuple[Graph, ...] | None:
    """Return the graphs kept at `place` if everything they depend on is as it was; None otherwise."""
    try:
        answer = msgspec.json.decode(place.read_bytes(), type=_Answer)
    except (FileNotFoundError, msgspec.DecodeError):  # none yet, or from another version of Penstock
        return None
    if answer.key != _key(root):
        return None
    if any(_listing(root / folder) != listing for folder, listing in answer.folders.items()):
        return None
    if not all(_is_same(root, seen, answer.seen_at_ns) for seen in answer.files):
        return None
    if any(_version(name) != version for name, version in answer.packages.items()):
        return None
    return answer.graphs


def remember(root: Path, place: Path, graphs: tuple[Graph, ...]) -> None:
    """Keep `graphs`, made from the files as they are now, at `place`."""
    digests = {file.path: file.digest for graph in graphs for file in graph.files}
    files = tuple(_see(root, path, digest) for path, digest in sorted(digests.items()))
    folders = {Path(path).parent for path in digests} | {Path(graph.import_root) for graph in graphs}
    answer = _Answer(
        key=_key(root),
        seen_at_ns=time.time_ns(),
        files=files,
        folders={folder.as_posix(): _listing(root / folder) for folder in sorted(folders)},
        packages={k: v for graph in graphs for node in graph.nodes for k, v in node.code.packages.items()},
        graphs=graphs,
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, half = tempfile.mkstemp(prefix=f".{place.name}-", dir=place.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(answer))
    Path(half).replace(place)


def changed_since(root: Path, graphs: Iterable[Graph], moment_ns: int) -> bool:
    """Say whether a file of the graphs was written after `moment_ns`, so that they may show a mixture."""
    paths = {file.path for graph in graphs for file in graph.files}
    return any((root / path).stat().st_mtime_ns > moment_ns for path in paths if (root / path).exists())


def _key(root: Path) -> str:
    """Return what an answer depends on besides the project: this Python, and this very version of the room."""
    own = sorted(
        (entry.name, entry.stat().st_mtime_ns, entry.stat().st_size)
        for entry in os.scandir(Path(__file__).parent)
        if entry.name.endswith(".py")
    )
    return digest_value([_FORMAT, str(root), sys.executable, platform.python_version(), _version("penstock"), own])


def _see(root: Path, path: str, digest: str) -> _Seen:
    stat = (root / path).stat()
    return _Seen(path=path, mtime_ns=stat.st_mtime_ns, size=stat.st_size, digest=digest)


def _is_same(root: Path, seen: _Seen, seen_at_ns: int) -> bool:
    try:
        stat = (root / seen.path).stat()
        if stat.st_size != seen.size:
            return False
        if stat.st_mtime_ns == seen.mtime_ns and seen.mtime_ns < seen_at_ns - _UNSURE_NS:
            return True
        return digest_bytes((root / seen.path).read_bytes()) == seen.digest
    except FileNotFoundError:
        return False


def _listing(folder: Path) -> str:
    """Return the digest of the names an import could find in `folder`: a new one may shadow a package."""
    if not folder.is_dir():
        return ""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.endswith((".py", ".so")) or entry.is_dir()]
    names = [name for name in names if not name.startswith(".") and name != "__pycache__"]
    return digest_value(sorted(names))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
