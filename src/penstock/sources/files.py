"""Files as a source: a pattern, and only files that were not there before."""

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from blake3 import blake3

from penstock.core.errors import DataError
from penstock.sources.cursors import own_cursor
from penstock.sources.reading import Format, Reading, format_of, read_file
from penstock.sources.source import Batch


def files(
    pattern: str | Path,
    *,
    format: Format | None = None,  # noqa: A002 - the word a caller expects
    types: Mapping[str, pl.DataType] | None = None,
    nulls: Sequence[str] = ("",),
    changed: Literal["refuse", "again"] = "refuse",
) -> "Files":
    """Read files that match a pattern, in order of their names; each file is taken in once.

    Args:
        pattern: A path, or a pattern with `*`, `?` and `**`.
        format: "parquet", "csv" or "jsonl"; by each file's ending when not given.
        types: Types by column, where what a CSV or JSON file suggests is not right.
        nulls: Unquoted words that mean "no value" in CSV.
        changed: What to do with a file whose bytes changed after it was taken in: refuse, or read it again as a whole
            (with a key, its rows then replace the older ones).

    Example:
        >>> files("data/ratings-*.csv", types={"rating": pl.Int8()}).pattern
        'data/ratings-*.csv'
    """
    return Files(str(pattern), Reading(format, types or {}, tuple(nulls)), changed)


@dataclass(frozen=True, slots=True)
class Files:
    """Files that match a pattern; made by `files`."""

    pattern: str
    reading: Reading
    changed: Literal["refuse", "again"] = "refuse"

    def batches(self, cursor: Any) -> Iterator[tuple[Batch, Any]]:
        """Yield the rows of new files; see `Source.batches`."""
        known: dict[str, list[Any]] = dict(own_cursor(cursor, "files").get("files", {}))
        root, _ = _split(self.pattern)
        for path in self._matches(has_past=bool(known)):
            name = path.relative_to(root).as_posix()
            mark = _mark(path, known.get(name))
            if name in known and known[name][2] == mark[2]:
                known[name] = mark
                continue
            if name in known and self.changed == "refuse":
                raise DataError(
                    f"{path} changed after it was taken in.",
                    hint="write new rows to new files, or pass changed='again' to read such files again as a whole",
                )
            yield from self._read(path, name, mark, known)

    def _read(self, path: Path, name: str, mark: list[Any], known: dict[str, list[Any]]) -> Iterator[tuple[Batch, Any]]:
        before = _cursor(known)
        held: Batch | None = None
        for batch in read_file(path, str(path), self.reading):
            if held is not None:
                yield held, before
            held = batch
        if _mark(path, mark)[2] != mark[2]:
            raise DataError(f"{path} changed while it was read.", hint="write to another name and rename when done")
        known[name] = mark
        if held is not None:
            yield held, _cursor(known)

    def _matches(self, *, has_past: bool) -> list[Path]:
        root, rest = _split(self.pattern)
        found = sorted(path for path in root.glob(rest) if path.is_file())
        if not found and not has_past:
            raise DataError(
                f"No file matches {self.pattern!r}.", hint=f"the pattern is looked up from {Path.cwd()}; check both"
            )
        for path in found:
            format_of(path.name, self.reading)
        return found


def _split(pattern: str) -> tuple[Path, str]:
    """Return the directory before the first wildcard, and the rest; a plain path is split at its name.

    Files are remembered relative to that directory, so that a project may move.
    """
    parts = Path(pattern).parts
    plain = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:plain]), str(Path(*parts[plain:]))


def _cursor(known: dict[str, list[Any]]) -> dict[str, Any]:
    return {"source": "files", "files": dict(known)}


def _mark(path: Path, last: list[Any] | None) -> list[Any]:
    """Return size, time of change and digest; the digest is taken over from `last` when size and time are the same."""
    try:
        status = path.stat()
        if last is not None and last[:2] == [status.st_size, status.st_mtime_ns]:
            return last
        digest = blake3().update_mmap(path).hexdigest() if status.st_size else ""
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", hint="check that this user may read it") from error
    return [status.st_size, status.st_mtime_ns, digest]
