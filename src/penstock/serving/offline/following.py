"""Sources of a stream that need no broker: a directory, a dataset, standard input."""

import collections
import os
import select
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from blake3 import blake3

from penstock.core.errors import DataError, InputError
from penstock.core.records import DatasetVersion
from penstock.serving.offline.pieces import Cut, LinesPiece, Piece, file_pieces, is_data_file, see_file, version_pieces
from penstock.serving.offline.streaming import Batch
from penstock.store.lake import Lake

_POLL_S = 0.1
_READ_BYTES = 2**18
_LONGEST_LINE_BYTES = 32 * 2**20
_CUT = Cut(rows=20_000, size_bytes=2**20)


def _next_of(waiting: collections.deque[Batch], take_more: Callable[[], bool], timeout_s: float) -> Batch | None:
    """Return the first of what waits, once there is something; None when nothing has come by then."""
    deadline = time.monotonic() + timeout_s
    while not waiting:
        if take_more():
            continue
        if time.monotonic() >= deadline:
            return None
        time.sleep(_POLL_S)
    return waiting.popleft()


class DirectoryFollowed:
    """The files of a directory, each when it is complete, in the order of their times and names.

    Complete is a file that nobody has written to for `settles_s`. Names that begin with "." or "_" are passed over, and
    so is a file that changes after it was answered.

    Args:
        path: The directory.
        settles_s: How long a file must lie still.
    """

    def __init__(self, path: Path, settles_s: float = 1.0) -> None:
        if not path.is_dir():
            raise InputError(f"{str(path)!r} is not a directory.", hint="name the directory to follow")
        self._path = path.resolve()
        self.name = f"directory {self._path}"
        self.settles_s = settles_s
        self._done: set[str] = set()
        self._waiting: collections.deque[Batch] = collections.deque()

    def open(self, positions: Iterable[Any]) -> None:
        """Begin behind the files that are answered, or behind a piece of the last one."""
        last: Any = None
        self._done.clear()
        self._waiting.clear()
        for position in positions:
            last = position
            self._done.add(position["file"])
        if last is not None and last["piece"] + 1 < last["of"]:
            self._take(self._path / last["file"])
            rest = [batch for batch in self._waiting if batch.position["piece"] > last["piece"]]
            if any(b.position["modified_ns"] != last["modified_ns"] or b.position["of"] != last["of"] for b in rest):
                raise DataError(
                    f"{last['file']!r} changed when a part of it was answered.", hint="put the file back as it was"
                )
            self._waiting = collections.deque(rest)

    def read(self, timeout_s: float) -> Batch | None:
        """Return the next piece of a file."""
        return _next_of(self._waiting, self._take_more, timeout_s)

    def is_at_end(self) -> bool:
        """Return False: more files may come."""
        return False

    def commit(self, position: Any) -> None:
        """Nothing: what is answered is known from the positions that are kept."""

    def close(self) -> None:
        """Nothing is open between two reads."""

    def _take_more(self) -> bool:
        found = self._next_file()
        if found is not None:
            self._take(found)
        return found is not None

    def _next_file(self) -> Path | None:
        oldest_ns = time.time_ns() - int(self.settles_s * 1e9)
        found = []
        for path in self._path.rglob("*"):
            if path.relative_to(self._path).as_posix() not in self._done and is_data_file(path, self._path):
                modified_ns = path.stat().st_mtime_ns
                if modified_ns <= oldest_ns:
                    found.append((modified_ns, path))
        return min(found)[1] if found else None

    def _take(self, path: Path) -> None:
        name = path.relative_to(self._path).as_posix()
        self._done.add(name)
        file = see_file(path)
        pieces: list[Piece] = list(file_pieces(file, _CUT))
        for number, piece in enumerate(pieces):
            position = {"file": name, "piece": number, "of": len(pieces), "modified_ns": file.modified_ns}
            self._waiting.append(Batch(piece=piece, position=position))


class DatasetFollowed:
    """The rows of a dataset as they are now, then what each new version adds.

    Args:
        lake: Where it is.
        pipeline: Whose dataset.
        dataset: Its name.
    """

    settles_s = 0.0

    def __init__(self, lake: Lake, pipeline: str, dataset: str) -> None:
        self.name = f"dataset {pipeline}/{dataset}"
        self._lake = lake
        self._table = lake.table(pipeline, dataset)
        self._version = 0
        self._waiting: collections.deque[Batch] = collections.deque()

    def open(self, positions: Iterable[Any]) -> None:
        """Begin behind the last version that is answered, or behind a piece of it."""
        last: Any = None
        for position in positions:
            last = position
        self._version = 0
        self._waiting.clear()
        if last is not None:
            self._take(self._table.version(last["version"]), added=last["added"])
            self._waiting = collections.deque(b for b in self._waiting if b.position["piece"] > last["piece"])

    def read(self, timeout_s: float) -> Batch | None:
        """Return the next piece of the rows that are new."""
        return _next_of(self._waiting, self._take_more, timeout_s)

    def is_at_end(self) -> bool:
        """Return False: more versions may come."""
        return False

    def commit(self, position: Any) -> None:
        """Nothing: what is answered is known from the positions that are kept."""

    def close(self) -> None:
        """Nothing is open between two reads."""

    def _take_more(self) -> bool:
        newer = self._next_version()
        if newer is not None:
            self._take(newer, added=self._version > 0)
        return newer is not None

    def _next_version(self) -> DatasetVersion | None:
        latest = self._table.latest()
        if latest is None or latest.version <= self._version:
            return None
        return latest if not self._version else self._table.version(self._version + 1)

    def _take(self, version: DatasetVersion, *, added: bool) -> None:
        pieces = list(version_pieces(version, self._lake, _CUT, added=added))
        self._version = version.version
        for number, piece in enumerate(pieces):
            position = {"version": version.version, "added": added, "piece": number, "of": len(pieces)}
            self._waiting.append(Batch(piece=piece, position=position))


class LinesFollowed:
    """JSON objects, one per line, from a pipe: all that have arrived are answered together, without waiting for more.

    Each gets an id made of its number and its bytes, so that the same input given again has the same ids.

    Args:
        descriptor: The open end to read from.
    """

    name = "standard input"
    settles_s = 0.0

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self._number = 0
        self._is_at_end = False

    def open(self, positions: Iterable[Any]) -> None:
        """Begin with what is in the pipe: it cannot be asked for what went through it before."""
        del positions

    def read(self, timeout_s: float) -> Batch | None:
        """Return the lines that have arrived."""
        deadline = time.monotonic() + timeout_s
        while not self._is_at_end:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            lines = self._lines()
            if lines:
                return self._batch(lines)
        return None

    def is_at_end(self) -> bool:
        """Return whether the other end was closed."""
        return self._is_at_end

    def commit(self, position: Any) -> None:
        """Nothing: a pipe forgets what was read."""

    def close(self) -> None:
        """The descriptor is not ours to close."""

    def _lines(self) -> list[bytes]:
        data = os.read(self._descriptor, _READ_BYTES)
        self._is_at_end = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._is_at_end and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        if len(self._rest) > _LONGEST_LINE_BYTES:
            raise DataError(f"A line is longer than {_LONGEST_LINE_BYTES:,} bytes.", hint="send one object per line")
        return [line for line in lines if line.strip()]

    def _batch(self, lines: list[bytes]) -> Batch:
        first = self._number
        self._number += len(lines)
        ids = tuple(f"{first + place}-{blake3(line).hexdigest()[:16]}" for place, line in enumerate(lines))
        return Batch(piece=LinesPiece(lines=tuple(lines), ids=ids), position={"lines": self._number})
