"""Where the answers of a stream go: a directory, a dataset, or standard output."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from penstock.core import faults
from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.serving.offline.job import Folder
from penstock.serving.offline.scoring import Asking, Counts
from penstock.serving.offline.streaming import Batch
from penstock.serving.offline.tasks import Form, Note, sync
from penstock.store.lake import IntakeRules, Lake

_LOG = "stream.jsonl"


class StreamRecord(Record, frozen=True, kw_only=True):
    """What a stream is: the first line of its log. Another one does not go on where this one stopped."""

    format: int = 1
    pipeline: str
    source: str
    asking: Asking
    form: Form


class Kept(Record, frozen=True, kw_only=True):
    """One batch that is answered: each further line of the log. From then on it counts, whatever happens."""

    number: int
    position: Any
    release: str
    counts: Counts


class DirectorySink:
    """Numbered files in a directory; each and its position count from one synced line of a log on.

    The answers are written and synced under a temporary name, then the line, then they get their name: whoever is
    killed in between finds at the next start either a line without a name, and gives it, or no line, and forgets them.

    Args:
        path: The directory.
        record: What the stream is.
        release: Returns the reference of the release that answers.

    Raises:
        InputError: Another stream was begun in the directory, or a process writes to it.
    """

    def __init__(self, path: Path, record: StreamRecord, release: Callable[[], str]) -> None:
        self.form: Form = record.form
        self._path, self._own = path, path / "_job"
        self._release = release
        self._log = self._own / _LOG
        self._positions: list[Any] = []
        with contextlib.ExitStack() as stack:
            stack.enter_context(Folder(path).held())
            self._begin(record)
            self._held = stack.pop_all()

    def positions(self) -> Iterable[Any]:
        """Return the positions of all batches that are kept."""
        return iter(self._positions)

    def temporary(self) -> Path:
        """Return the file that the next answers are to be written to."""
        return self._own / f"part-{len(self._positions):08d}.{self.form}.tmp"

    def keep(self, batch: Batch, note: Note, lines: bytes) -> None:
        """Keep the answers that lie in the temporary file, with their position."""
        del lines
        number = len(self._positions)
        line = Kept(number=number, position=batch.position, release=self._release(), counts=note.counts)
        temporary = self.temporary()
        faults.point("stream_before_commit")
        with self._log.open("ab") as log:
            log.write(msgspec.json.encode(line) + b"\n")
            log.flush()
            os.fsync(log.fileno())
        faults.point("stream_after_commit")
        self._positions.append(batch.position)
        self._name(number, temporary)

    def close(self) -> None:
        """Let others write here."""
        self._held.close()

    def _begin(self, record: StreamRecord) -> None:
        lines = self._whole_lines()
        if not lines:
            others = [entry.name for entry in self._path.iterdir() if entry.name != self._own.name]
            if others:
                message = f"{str(self._path)!r} holds other files, as {min(others)!r}."
                raise InputError(message, hint="name an empty directory")
            self._log.write_bytes(msgspec.json.encode(record) + b"\n")
            sync(self._log)
            sync(self._own)
            return
        before = msgspec.json.decode(lines[0], type=StreamRecord)
        if before != record:
            changed = next(n for n in record.__struct_fields__ if getattr(before, n) != getattr(record, n))
            raise InputError(
                f"{str(self._path)!r} holds another stream: its {changed} was {getattr(before, changed)!r}.",
                hint="name another directory",
            )
        kept = [msgspec.json.decode(line, type=Kept) for line in lines[1:]]
        self._positions = [line.position for line in kept]
        if kept:
            last = self._own / f"part-{kept[-1].number:08d}.{self.form}.tmp"
            if last.exists():
                self._name(kept[-1].number, last)
        for left_over in self._own.glob("*.tmp"):
            left_over.unlink()

    def _whole_lines(self) -> list[bytes]:
        """Return the lines of the log; one that a power cut tore in two never counted, and goes."""
        if not self._log.exists():
            return []
        data = self._log.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with self._log.open("r+b") as log:
                log.truncate(whole)
                os.fsync(log.fileno())
        return data[:whole].splitlines()

    def _name(self, number: int, temporary: Path) -> None:
        temporary.replace(self._path / f"part-{number:08d}.{self.form}")
        sync(self._path)


class DatasetSink:
    """A dataset that grows by one version per batch; the position is the version's watermark, one commit for both.

    Args:
        lake: Where it lies.
        pipeline: Whose dataset.
        dataset: Its name.
        own: Directory for what is not committed yet.
        source: Name of what is followed; a dataset that something else writes to is refused.

    Raises:
        InputError: The dataset is not this stream's.
    """

    form: Form = "parquet"

    def __init__(self, lake: Lake, pipeline: str, dataset: str, *, own: Path, source: str) -> None:
        self._table = lake.table(pipeline, dataset)
        self._own = own
        self._source = source
        own.mkdir(parents=True, exist_ok=True)
        others = [v for v in self._table.versions() if not _is_own(v.watermark, source)]
        if others:
            raise InputError(
                f"Dataset {dataset!r} was not written by a stream of {source}.", hint="name another dataset"
            )

    def positions(self) -> Iterable[Any]:
        """Return the positions of all batches that are kept."""
        return (version.watermark["position"] for version in self._table.versions())

    def temporary(self) -> Path:
        """Return the file that the next answers are to be written to."""
        return self._own / f"stream-{os.getpid()}.parquet"

    def keep(self, batch: Batch, note: Note, lines: bytes) -> None:
        """Take the answers in as one version, with the position."""
        del note, lines
        before = self._table.latest()
        watermark = {"stream": self._source, "position": batch.position}
        rules = IntakeRules(
            expected_version=0 if before is None else before.version, cursor=lambda: watermark, evolve=True
        )
        faults.point("stream_before_commit")
        self._table.intake(self._rows(), rules)
        faults.point("stream_after_commit")
        self.temporary().unlink()

    def close(self) -> None:
        """Remove what was not committed."""
        self.temporary().unlink(missing_ok=True)

    def _rows(self) -> Iterator[pl.DataFrame]:
        frame = pl.read_parquet(self.temporary())
        # A column that is null in the first batch must be able to hold an answer later.
        yield frame.with_columns(pl.col(pl.Null).cast(pl.String))


class LinesSink:
    """JSON lines to a pipe, flushed after each batch; nothing is known of what was kept there.

    Args:
        descriptor: The open end to write to.
    """

    form: Form = "jsonl"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def positions(self) -> Iterable[Any]:
        """Return nothing: a pipe does not tell what went through it."""
        return ()

    def temporary(self) -> None:
        """Return None: the answers are taken as lines."""

    def keep(self, batch: Batch, note: Note, lines: bytes) -> None:
        """Write the answers."""
        del batch, note
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def close(self) -> None:
        """The descriptor is not ours to close."""


def _is_own(watermark: Any, source: str) -> bool:
    return isinstance(watermark, dict) and watermark.get("stream") == source
