"""A batch on disk: what it is (so that only the same one goes on), which parts are there, and the parts made one.

`OUT/_job/` holds the bookkeeping; a part is in `OUT` under its name when it is whole and synced, never before.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import polars as pl

from penstock.core import faults
from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.serving.offline.pieces import Cut, JobInput, what_changed
from penstock.serving.offline.scoring import ERROR, FALLBACK, Asking, Counts
from penstock.serving.offline.tasks import Form, Note, read_note, sync, write_part, write_whole

_FOLDER = "_job"
_JOB, _DONE = "job.json", "done.json"


class Job(Record, frozen=True, kw_only=True):
    """What a batch is; another one does not go on where this one stopped.

    Attributes:
        id: Random, to tell jobs apart.
        release: "movies@3".
        hash: Hash of that release.
        manifest: Digest of its manifest's blob.
        input: What is read, with the digests that tell whether it changed.
        cut: How it is cut into pieces.
        form: Form of the results.
    """

    format: int = 1
    id: str
    release: str
    hash: str
    manifest: str
    asking: Asking
    input: JobInput
    cut: Cut
    form: Form


class Finished(Record, frozen=True, kw_only=True):
    """What a finished batch came to."""

    job: str
    counts: Counts
    parts: int
    failure: str = ""


class Folder:
    """The directory that a batch writes to.

    Args:
        path: Made when it is not there.

    Raises:
        InputError: It is no directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._own = path / _FOLDER
        if path.exists() and not path.is_dir():
            raise InputError(f"{str(path)!r} is not a directory.", hint="name a directory for the results")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from working here; the kernel lets go when this one dies.

        Raises:
            InputError: Another process works here.
        """
        self._own.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._own / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise InputError(
                f"Another process writes to {str(self.path)!r}.", hint="wait for it, or name another directory"
            ) from None
        finally:
            os.close(descriptor)

    def before(self) -> Job | None:
        """Return the job that was begun here; None where there is none."""
        file = self._own / _JOB
        return msgspec.json.decode(file.read_bytes(), type=Job) if file.exists() else None

    def begin(self, job: Job, before: Job | None) -> Job:
        """Begin a job here, or go on with the same one; return what is recorded.

        Raises:
            InputError: Another job was begun here, or other files lie here.
        """
        if before is not None:
            _refuse_other(before, job, self.path)
            for file in self._own.glob("*.tmp"):  # of processes that died: the lock says that no other is alive
                file.unlink()
            return before
        others = [entry.name for entry in self.path.iterdir() if entry.name != _FOLDER]
        if others:
            raise InputError(
                f"{str(self.path)!r} holds other files, as {min(others)!r}.", hint="name an empty directory"
            )
        write_whole(self._own / _JOB, msgspec.json.encode(job))
        return job

    def clear(self) -> None:
        """Remove the parts and the record of the job that was begun here, and nothing else."""
        for file in self.path.glob("part-*"):
            if file.suffix in {".parquet", ".csv", ".jsonl"}:
                file.unlink()
        for entry in self._own.iterdir():
            if entry.name != "lock":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def missing(self, count: int, form: Form) -> list[int]:
        """Return the numbers of the parts that are not there yet."""
        return [n for n in range(count) if not self._part(n).exists() and not self.result(n, form).exists()]

    def result(self, number: int, form: Form) -> Path:
        """Return where a part of the results is when all is done."""
        return self.path / f"part-{number:05d}.{form}"

    def temporary(self, number: int) -> Path:
        """Return where a worker writes a part before it counts."""
        return self._own / f"part-{number:05d}.{os.getpid()}.tmp"

    def keep(self, number: int, form: Form) -> None:
        """Have a part that a worker has written and synced count."""
        faults.point("batch_before_part")
        target = self.result(number, form) if form == "parquet" else self._part(number)
        self.temporary(number).replace(target)
        sync(target.parent)
        faults.point("batch_after_part")

    def finish(self, job: Job, count: int) -> Finished:
        """Give all parts the same columns and the form that was asked for, and record what it came to."""
        sources = [self._source(number, job) for number in range(count)]
        notes = [read_note(path) for path in sources]
        schema, texts = common_schema([pl.read_parquet_schema(path) for path in sources], notes)
        for number in range(count):
            self._settle(number, job, schema, texts)
        total = Counts()
        for note in notes:
            total += note.counts
        failure = next((note.failure for note in notes if note.failure), "")
        return Finished(job=job.id, counts=total, parts=count, failure=failure)

    def record(self, finished: Finished) -> None:
        """Record that the job is done, and remove what was only needed until then."""
        write_whole(self._own / _DONE, msgspec.json.encode(finished))
        for file in self._own.glob("part-*"):
            file.unlink()

    def finished(self) -> Finished | None:
        """Return what a finished job came to; None while it is not."""
        file = self._own / _DONE
        return msgspec.json.decode(file.read_bytes(), type=Finished) if file.exists() else None

    def _part(self, number: int) -> Path:
        return self._own / f"part-{number:05d}.parquet"

    def _source(self, number: int, job: Job) -> Path:
        return self.result(number, "parquet") if job.form == "parquet" else self._part(number)

    def _settle(self, number: int, job: Job, schema: pl.Schema, texts: set[str]) -> None:
        source, target = self._source(number, job), self.result(number, job.form)
        note = read_note(source)
        if job.form == "parquet":
            is_settled = pl.read_parquet_schema(source) == dict(schema) and set(note.json_columns) == texts
        else:
            is_settled = target.exists()
        if is_settled:
            return
        temporary = self.temporary(number)
        frame = aligned(pl.read_parquet(source), schema, texts - set(note.json_columns))
        write_part(frame, temporary, job.form, msgspec.structs.replace(note, json_columns=tuple(sorted(texts))))
        temporary.replace(target)
        sync(target.parent)


def common_schema(schemas: Sequence[dict[str, pl.DataType]], notes: Sequence[Note]) -> tuple[pl.Schema, set[str]]:
    """Return columns and types that hold the rows of all parts, and which columns become JSON text.

    Parts are answered one by one, so what a part does not show (a column that is null there, whole numbers where
    others have fractions) is only known in the end. Types that have nothing in common become JSON text.
    """
    names = dict.fromkeys(name for schema in sorted(schemas, key=len, reverse=True) for name in schema)
    texts = {name for note in notes for name in note.json_columns}
    found: dict[str, pl.DataType] = {}
    for name in names:
        kinds = list(dict.fromkeys(schema[name] for schema in schemas if name in schema))
        dtype = None if name in texts else _common_type(name, kinds)
        if dtype is None:
            texts.add(name)
        found[name] = pl.String() if dtype is None else dtype
    last = [name for name in (FALLBACK, ERROR) if name in found]
    return pl.Schema({name: found[name] for name in [*(n for n in found if n not in last), *last]}), texts


def _common_type(name: str, kinds: Sequence[pl.DataType]) -> pl.DataType | None:
    known = [kind for kind in kinds if kind != pl.Null]
    if len(known) <= 1:
        return known[0] if known else pl.Null()
    is_mixed = any(kind == pl.String for kind in known) or any(kind == pl.Boolean for kind in known)
    if is_mixed:  # polars would turn 1 beside "x" into "1", and true into 1
        return None
    try:
        return pl.concat([pl.DataFrame(schema={name: kind}) for kind in kinds], how="vertical_relaxed").schema[name]
    except pl.exceptions.PolarsError:
        return None


def aligned(frame: pl.DataFrame, schema: pl.Schema, new_texts: set[str]) -> pl.DataFrame:
    """Return rows with the columns of `schema`; those of `new_texts` were values and become JSON text."""
    columns = []
    for name, dtype in schema.items():
        if name not in frame.columns:
            columns.append(pl.Series(name, [None] * frame.height, dtype=dtype))
        elif name in new_texts and frame[name].dtype != pl.Null:
            values = frame[name].to_list()
            texts = [None if value is None else msgspec.json.encode(value).decode() for value in values]
            columns.append(pl.Series(name, texts, dtype=pl.String()))
        else:
            columns.append(frame[name].cast(dtype))
    return pl.DataFrame(columns)


def _refuse_other(before: Job, now: Job, path: Path) -> None:
    differences = []
    if before.hash != now.hash:
        differences.append(f"it was begun with {before.release} ({before.hash[:12]}), not {now.release}")
    if before.asking != now.asking:
        differences.append(_asking_changed(before.asking, now.asking))
    if before.form != now.form:
        differences.append(f"it writes {before.form}, not {now.form}")
    if before.cut != now.cut:
        differences.append(f"it cuts pieces of {before.cut[0]:,} rows or {before.cut[1]:,} bytes")
    changed = what_changed(before.input, now.input)
    if changed is not None:
        differences.append(f"the input is not the same: {changed}")
    if differences:
        raise InputError(
            f"{str(path)!r} holds another job: {'; '.join(differences)}.",
            hint="name another directory, or begin again here with --restart",
        )


def _asking_changed(before: Asking, now: Asking) -> str:
    for name in before.__struct_fields__:
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            return f"its {name.replace('_', ' ')} was {old!r}, not {new!r}"
    return "it asks otherwise"
