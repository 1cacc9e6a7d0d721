"""What a job reads: files or a dataset version, what tells whether they changed, and the pieces they are cut into.

Belongs here: finding inputs and cutting them at rows, by metadata or by looking for line ends. Does not: reading rows.
"""

import csv
import io
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from blake3 import blake3

from penstock.core.errors import DataError, InputError, NotFoundError
from penstock.core.records import DatasetVersion, Record
from penstock.store.lake import Lake

FileKind = Literal["parquet", "csv", "jsonl"]
KINDS: dict[str, FileKind] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
PIECE_ROWS = 50_000
PIECE_BYTES = 2 * 2**20
_LEAST_ROWS, _LEAST_BYTES = 500, 2**15
_PIECES_PER_WORKER = 8
_BLOCK_BYTES = 2**22
_HEAD_BYTES = 2**16
_QUOTE, _NEWLINE = ord('"'), ord("\n")


class Cut(NamedTuple):
    """How large a piece may be: it is what a worker takes at once, and what is done again after a kill."""

    rows: int = PIECE_ROWS
    size_bytes: int = PIECE_BYTES


class FileSeen(Record, frozen=True, kw_only=True):
    """A file as it was when the job began.

    Attributes:
        digest: BLAKE3 of its bytes; looked at again only when size or time differ.
    """

    path: str
    kind: FileKind
    size_bytes: int
    modified_ns: int
    digest: str


class FilePiece(Record, frozen=True, kw_only=True, tag="file"):
    """Rows of a file.

    Attributes:
        start: First row of a Parquet file, first byte of a text.
        stop: Behind the last.
        header: Columns of a CSV.
        modified_ns: Of the file when it was cut.
    """

    path: str
    kind: FileKind
    start: int
    stop: int
    header: tuple[str, ...] = ()
    modified_ns: int = 0


class TablePiece(Record, frozen=True, kw_only=True, tag="table"):
    """Visible rows `start` to `stop` of one file of a dataset version.

    Attributes:
        added: The file is counted among those that this version added.
    """

    pipeline: str
    dataset: str
    version: int
    part: int
    start: int
    stop: int
    added: bool = False


class LinesPiece(Record, frozen=True, kw_only=True, tag="lines"):
    """Rows that came as JSON objects, one per line; each with an id that is the same when it comes again."""

    lines: tuple[bytes, ...]
    ids: tuple[str, ...]


Piece = FilePiece | TablePiece | LinesPiece


class FilesInput(Record, frozen=True, kw_only=True, tag="files"):
    """Files, in the order in which they are read."""

    files: tuple[FileSeen, ...]


class DatasetInput(Record, frozen=True, kw_only=True, tag="dataset"):
    """A version of a dataset."""

    pipeline: str
    dataset: str
    version: int
    digest: str


JobInput = FilesInput | DatasetInput


def find_input(text: str, folder: Path, pipeline: str, lake: Lake, *, before: JobInput | None = None) -> JobInput:
    """Return what a person means: files by path, glob or directory, or a dataset as "ratings" or "ratings@7".

    Args:
        text: As given.
        folder: What a relative path is relative to.
        pipeline: Whose datasets are meant.
        lake: Where they are.
        before: What an earlier look found: a file whose size and time are the same is not read again for its digest.

    Raises:
        NotFoundError: There is no such file or dataset.
        InputError: A file is of a kind that cannot be read, or there are no rows.
    """
    paths = _paths(text, folder)
    if paths:
        known = {file.path: file for file in before.files} if isinstance(before, FilesInput) else {}
        return FilesInput(files=tuple(see_file(path, known) for path in paths))
    name, _, number = text.partition("@")
    there = [dataset for owner, dataset in lake.tables() if owner == pipeline]
    if name not in there:
        raise NotFoundError(
            f"{text!r} is neither a file nor a dataset of {pipeline!r}.",
            hint=f"datasets: {', '.join(there) or 'none'}; files: a path, a directory or a glob in quotes",
        )
    return dataset_input(_version(lake, pipeline, name, number))


def dataset_input(version: DatasetVersion) -> DatasetInput:
    """Return a dataset version as an input."""
    return DatasetInput(
        pipeline=version.pipeline, dataset=version.dataset, version=version.version, digest=version.digest
    )


def _version(lake: Lake, pipeline: str, name: str, number: str) -> DatasetVersion:
    table = lake.table(pipeline, name)
    if number:
        if not number.isdigit():
            raise InputError(f"{number!r} is no version.", hint=f"write it as {name}@7")
        return table.version(int(number))
    latest = table.latest()
    if latest is None:
        raise NotFoundError(f"Dataset {name!r} has no version yet.", hint="take data in: penstock run")
    return latest


def _paths(text: str, folder: Path) -> list[Path]:
    path = folder / text
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if is_data_file(p, path))
        if not found:
            raise NotFoundError(f"{text!r} holds no file to read.", hint=f"files end in {', '.join(KINDS)}")
        return found
    if path.is_file():
        return [path]
    if not any(sign in text for sign in "*?["):
        return []
    base = Path(path.anchor)
    found = sorted(p for p in base.glob(path.relative_to(base).as_posix()) if p.is_file())
    if not found:
        raise NotFoundError(f"No file matches {text!r}.", hint="a relative pattern begins in the current directory")
    return found


def is_data_file(path: Path, root: Path) -> bool:
    """Return whether a file below `root` holds rows; names that begin with "_" or "." are bookkeeping, by custom."""
    names = path.relative_to(root).parts
    return path.suffix in KINDS and not any(name.startswith(("_", ".")) for name in names) and path.is_file()


def kind_of(path: Path) -> FileKind:
    """Return the kind of a file by its name.

    Raises:
        InputError: It is none that can be read.
    """
    kind = KINDS.get(path.suffix)
    if kind is None:
        raise InputError(f"{str(path)!r} is of no kind that can be read.", hint=f"files end in {', '.join(KINDS)}")
    return kind


def see_file(path: Path, known: Mapping[str, FileSeen] | None = None) -> FileSeen:
    """Return a file with its digest; that of one in `known` holds while its size and time do.

    Raises:
        InputError: It is of no kind that can be read.
    """
    kind = kind_of(path)
    stat, whole = path.stat(), os.fspath(path.resolve())
    before = (known or {}).get(whole)
    if before is not None and (before.size_bytes, before.modified_ns) == (stat.st_size, stat.st_mtime_ns):
        return before
    return FileSeen(
        path=whole,
        kind=kind,
        size_bytes=stat.st_size,
        modified_ns=stat.st_mtime_ns,
        digest=_digest(path),
    )


def _digest(path: Path) -> str:
    if path.stat().st_size == 0:
        return str(blake3().hexdigest())
    return str(blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest())


def what_changed(before: JobInput, now: JobInput) -> str | None:
    """Return in words how an input differs from what it was; None when it does not."""
    match before, now:
        case FilesInput(), FilesInput():
            return _files_changed(before, now)
        case DatasetInput(), DatasetInput():
            same = (before.pipeline, before.dataset, before.version, before.digest)
            other = (now.pipeline, now.dataset, now.version, now.digest)
            if same == other:
                return None
            return f"it read {before.dataset}@{before.version}, now {now.dataset}@{now.version} is given"
        case _:
            return "it read files, now a dataset is given" if isinstance(before, FilesInput) else "it read a dataset"


def _files_changed(before: FilesInput, now: FilesInput) -> str | None:
    old, new = {f.path: f for f in before.files}, {f.path: f for f in now.files}
    if gone := sorted(old.keys() - new.keys()):
        return f"{gone[0]!r} is not there any more" + _and_more(gone)
    if more := sorted(new.keys() - old.keys()):
        return f"{more[0]!r} is new" + _and_more(more)
    changed = [path for path, file in old.items() if file.digest != new[path].digest]
    return f"{changed[0]!r} has other bytes" + _and_more(changed) if changed else None


def _and_more(paths: list[str]) -> str:
    return f", and {len(paths) - 1} more" if len(paths) > 1 else ""


def pieces_of(found: JobInput, lake: Lake, cut: Cut) -> Iterator[Piece]:
    """Yield the pieces of an input in order; equal inputs are cut equally.

    Raises:
        DataError: A file is damaged, or not of the kind that its name says.
    """
    if isinstance(found, DatasetInput):
        yield from _table_pieces(found, lake, cut)
        return
    for file in found.files:
        yield from file_pieces(file, cut)


def fitting_cut(found: JobInput, lake: Lake, workers: int) -> Cut:
    """Return how to cut an input so that all workers have work and little is lost with one, without very many parts."""
    shares = workers * _PIECES_PER_WORKER
    size_bytes = min(PIECE_BYTES, max(_LEAST_BYTES, _text_bytes(found) // shares))
    return Cut(min(PIECE_ROWS, max(_LEAST_ROWS, _rows(found, lake) // shares)), size_bytes)


def _rows(found: JobInput, lake: Lake) -> int:
    if isinstance(found, DatasetInput):
        table = lake.table(found.pipeline, found.dataset)
        return table.count(table.version(found.version))
    try:
        return sum(pq.read_metadata(file.path).num_rows for file in found.files if file.kind == "parquet")
    except (OSError, ValueError):  # what is wrong with a file is said when it is cut
        return 0


def _text_bytes(found: JobInput) -> int:
    files = found.files if isinstance(found, FilesInput) else ()
    return sum(file.size_bytes for file in files if file.kind != "parquet")


def file_pieces(file: FileSeen, cut: Cut) -> Iterator[FilePiece]:
    """Yield the pieces of one file.

    Raises:
        DataError: It is damaged, or not of the kind that its name says.
    """
    path = Path(file.path)
    header: tuple[str, ...] = ()
    try:
        match file.kind:
            case "parquet":
                cuts = _row_groups(path, cut.rows)
            case "jsonl":
                cuts = _lines(path, cut.size_bytes)
            case "csv":
                start, header = _csv_header(path)
                cuts = _records(path, start, cut.size_bytes)
        for begin, end in cuts:
            yield FilePiece(
                path=file.path, kind=file.kind, start=begin, stop=end, header=header, modified_ns=file.modified_ns
            )
    except (OSError, ValueError, EOFError) as error:  # pyarrow's errors are ValueError and OSError
        raise DataError(f"{file.path!r} cannot be read as {file.kind}: {error}.", hint="look at the file") from error


def _row_groups(path: Path, rows: int) -> Iterator[tuple[int, int]]:
    """Yield runs of rows: small row groups together, large ones in equal parts, so that few are decoded twice."""
    metadata = pq.read_metadata(path)
    start = held = 0
    for number in range(metadata.num_row_groups):
        count = metadata.row_group(number).num_rows
        if held and held + count > rows:
            yield start, start + held
            start, held = start + held, 0
        held += count
        if held > 2 * rows:
            yield from _equal(start, held, rows)
            start, held = start + held, 0
    if held:
        yield start, start + held


def _equal(start: int, count: int, rows: int) -> Iterator[tuple[int, int]]:
    parts = max(1, -(-count // rows))
    bounds = [start + count * number // parts for number in range(parts + 1)]
    yield from itertools.pairwise(bounds)


def _lines(path: Path, size_bytes: int) -> Iterator[tuple[int, int]]:
    total = path.stat().st_size
    start = 0
    with path.open("rb") as file:
        while start < total:
            file.seek(min(start + size_bytes, total) - 1)
            file.readline()  # to the end of the line that the piece would end in
            stop = file.tell()
            yield start, stop
            start = stop


def _csv_header(path: Path) -> tuple[int, tuple[str, ...]]:
    """Return where the first record begins, and the columns."""
    with path.open("rb") as file:
        stop = next(_record_ends(file, 0, _HEAD_BYTES), 0)
        file.seek(0)
        text = file.read(stop).decode("utf-8-sig")
    names = next(csv.reader(io.StringIO(text)), [])
    if not names or len(set(names)) != len(names):
        raise ValueError("its first line does not name each column once")
    return stop, tuple(names)


def _records(path: Path, start: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield runs of whole CSV records of at least `size_bytes`."""
    begin = start
    total = path.stat().st_size
    with path.open("rb") as file:
        for end in _record_ends(file, start, min(size_bytes, _BLOCK_BYTES)):
            if end - begin >= size_bytes:
                yield begin, end
                begin = end
    if begin < total:
        yield begin, total


def _record_ends(file: IO[bytes], start: int, block_bytes: int) -> Iterator[int]:
    """Yield the places behind the first and the last record that end in each block; within quotes no record ends."""
    file.seek(start)
    place, inside = start, 0
    while block := file.read(block_bytes):
        found = np.frombuffer(block, np.uint8)
        quotes = (np.cumsum(found == _QUOTE) + inside) & 1
        ends = np.flatnonzero((found == _NEWLINE) & (quotes == 0))
        if ends.size:
            yield from sorted({place + int(ends[0]) + 1, place + int(ends[-1]) + 1})
        inside = int(quotes[-1])
        place += len(block)
    if place > start:
        yield place


def _table_pieces(found: DatasetInput, lake: Lake, cut: Cut) -> Iterator[TablePiece]:
    yield from version_pieces(lake.table(found.pipeline, found.dataset).version(found.version), lake, cut)


def version_pieces(version: DatasetVersion, lake: Lake, cut: Cut, *, added: bool = False) -> Iterator[TablePiece]:
    """Yield the pieces of a dataset version, or of what it added, in order of arrival."""
    counts = lake.table(version.pipeline, version.dataset).part_rows(version, added=added)
    for part, count in enumerate(counts):
        for start, stop in _equal(0, count, cut.rows) if count else ():
            yield TablePiece(
                pipeline=version.pipeline,
                dataset=version.dataset,
                version=version.version,
                part=part,
                start=start,
                stop=stop,
                added=added,
            )


def is_changed(piece: Piece) -> bool:
    """Return whether the file of a piece is not as it was when it was cut."""
    return isinstance(piece, FilePiece) and Path(piece.path).stat().st_mtime_ns != piece.modified_ns
