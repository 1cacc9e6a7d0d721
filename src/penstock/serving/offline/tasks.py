"""What passes between the parent of a job and its workers, and the file a worker writes."""

import os
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl

from penstock.core.errors import ArtifactError, DataError, InputError, NotFoundError, PenstockError, StepError
from penstock.core.records import Record
from penstock.serving.offline.pieces import Piece
from penstock.serving.offline.scoring import Asking, Counts, Scored

Form = Literal["parquet", "csv", "jsonl"]
_NOTE = "penstock"
_KINDS: dict[str, type[PenstockError]] = {
    "input": InputError,
    "request": InputError,
    "not_found": NotFoundError,
    "data": DataError,
    "artifact": ArtifactError,
    "damaged": ArtifactError,
    "unsupported": ArtifactError,
}


class WorkerOptions(Record, frozen=True, kw_only=True):
    """What a worker loads.

    Attributes:
        home: The project's store.
        manifest: Digest of the manifest's blob.
        parent: Pid of the process that it works for.
    """

    home: str
    manifest: str
    asking: Asking
    parent: int


class Task(Record, frozen=True, kw_only=True):
    """A piece to answer.

    Attributes:
        number: Its place among all pieces.
        target: File to write and sync; None to get the answers back as JSON lines.
        form: Form of that file.
    """

    number: int
    piece: Piece
    target: str | None = None
    form: Form = "parquet"


class Note(Record, frozen=True, kw_only=True):
    """What is written beside the rows of a Parquet part.

    Attributes:
        json_columns: Columns of text that hold JSON.
        failure: The first failure of user code, with its frames.
    """

    counts: Counts
    json_columns: tuple[str, ...] = ()
    failure: str = ""


class Done(Record, frozen=True, kw_only=True):
    """What came of a task.

    Attributes:
        number: Of the task; -1 for what a worker says when it has loaded, or cannot load, the release.
        lines: The answers as JSON lines, where no file was asked for.
        error: Code, message and hint of what stood in the way of the whole piece.
    """

    number: int
    note: Note = Note(counts=Counts())
    lines: bytes = b""
    error: tuple[str, str, str] | None = None


def error_of(code: str, message: str, hint: str) -> PenstockError:
    """Return the error that a worker met, to be raised here."""
    return _KINDS.get(code, StepError)(message, hint=hint)


def write_part(frame: pl.DataFrame, path: Path, form: Form, note: Note) -> None:
    """Write the rows of a part and sync them."""
    match form:
        case "parquet":
            metadata = {_NOTE: msgspec.json.encode(note).decode()}
            frame.write_parquet(path, compression="zstd", compression_level=1, metadata=metadata)
        case "csv":
            flat(frame).write_csv(path)
        case "jsonl":
            path.write_bytes(as_lines(frame, note.json_columns))
    sync(path)


def read_note(path: Path) -> Note:
    """Return what is written beside the rows of a Parquet part."""
    return msgspec.json.decode(pl.read_parquet_metadata(path)[_NOTE], type=Note)


def note_of(scored: Scored) -> Note:
    """Return what is worth knowing about answers beside the rows."""
    return Note(counts=scored.counts, json_columns=scored.json_columns, failure=scored.failure)


def as_lines(frame: pl.DataFrame, json_columns: tuple[str, ...]) -> bytes:
    """Return rows as JSON objects, one per line."""
    rows: list[dict[str, Any]] = frame.to_dicts()
    for name in json_columns:
        for row in rows:
            if row[name] is not None:
                row[name] = msgspec.Raw(row[name].encode())
    return _encoder.encode_lines(rows)


_encoder = msgspec.json.Encoder()


def flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame whose nested columns are JSON text, as CSV has no other word for them."""
    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    texts = [
        pl.Series(name, [None if v is None else _encoder.encode(v).decode() for v in frame[name].to_list()], pl.String)
        for name in nested
    ]
    return frame.with_columns(texts)


def sync(path: Path) -> None:
    """Make the bytes or the names of `path`, a file or a directory, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file so that it is there whole or as it was."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(data)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)
