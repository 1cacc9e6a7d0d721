"""A batch: all rows of an input answered by worker processes, each piece once, whatever is killed meanwhile."""

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from penstock.core import faults
from penstock.core.records import Record
from penstock.serving.offline.crew import Crew
from penstock.serving.offline.job import Finished, Folder, Job
from penstock.serving.offline.pieces import Cut, JobInput, Piece, find_input, fitting_cut, pieces_of
from penstock.serving.offline.scoring import Asking, Counts
from penstock.serving.offline.tasks import Form, Task, WorkerOptions
from penstock.store.lake import Lake


class Progress(Record, frozen=True, kw_only=True):
    """How far a batch is.

    Attributes:
        parts: Pieces in all.
        done: Those that are finished, by this process or one before it.
        counts: What became of the rows answered by this process.
    """

    parts: int
    done: int
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """What a batch is to do.

    Attributes:
        home: The project's store.
        folder: What a relative input is relative to.
        pipeline: Name of the pipeline.
        release: "movies@3".
        hash: Hash of that release.
        manifest: Digest of its manifest's blob.
        input: Files or a dataset, as a person names them.
        out: Directory for the results.
        form: Their form.
        workers: Processes that answer.
        cores: Cores that they share.
        cut: How large pieces are; None for what fits the input.
        restart: Forget what was begun in `out`.
        on_progress: Called now and then.
        on_finished: Called once with what it came to, before that is recorded; may be called again after a kill.
    """

    home: Path
    folder: Path
    pipeline: str
    release: str
    hash: str
    manifest: str
    asking: Asking
    input: str
    out: Path
    form: Form = "parquet"
    workers: int = 1
    cores: int = 1
    cut: Cut | None = None
    restart: bool = False
    on_progress: Callable[[Progress], None] | None = None
    on_finished: Callable[[Job, Finished], None] | None = None


def run_batch(options: BatchOptions) -> Finished:
    """Answer every row of the input and return what it came to; goes on where a killed one stopped.

    Raises:
        InputError: Another job was begun in the directory, or the input is not usable or changed meanwhile.
        NotFoundError: There is no such input or function.
        DataError: The input cannot be read.
        StepError: The release cannot be loaded, or a worker died three times on one piece.
        StoreError: The results cannot be written.
    """
    folder = Folder(options.out)
    lake = Lake(options.home / "lake")
    with folder.held():
        if options.restart:
            folder.clear()
        before = folder.before()
        known = None if before is None else before.input
        found = find_input(options.input, options.folder, options.pipeline, lake, before=known)
        # What was begun goes on as it was cut, whatever number of workers goes on with it.
        cut = options.cut or (fitting_cut(found, lake, options.workers) if before is None else before.cut)
        job = folder.begin(_job(options, found, cut), before)
        if (finished := folder.finished()) is not None:
            return finished
        pieces = list(pieces_of(job.input, lake, job.cut))
        _answer_missing(pieces, job, folder, options)
        finished = folder.finish(job, len(pieces))
        if options.on_finished is not None:
            options.on_finished(job, finished)
        faults.point("batch_before_done")
        folder.record(finished)
    return finished


def _job(options: BatchOptions, found: JobInput, cut: Cut) -> Job:
    return Job(
        id=secrets.token_hex(8),
        release=options.release,
        hash=options.hash,
        manifest=options.manifest,
        asking=options.asking,
        input=found,
        cut=cut,
        form=options.form,
    )


def _answer_missing(pieces: list[Piece], job: Job, folder: Folder, options: BatchOptions) -> None:
    missing = folder.missing(len(pieces), job.form)
    progress = Progress(parts=len(pieces), done=len(pieces) - len(missing), counts=Counts())
    _tell(options, progress)
    loading = WorkerOptions(home=os.fspath(options.home), manifest=job.manifest, asking=job.asking, parent=os.getpid())
    crew = Crew(loading, max(1, min(options.workers, len(missing))), options.cores)
    try:
        _submit(crew, tasks := _tasks(missing, pieces, folder))
        while progress.done < len(pieces):
            for done in crew.results():
                folder.keep(done.number, job.form)
                progress = Progress(
                    parts=len(pieces), done=progress.done + 1, counts=progress.counts + done.note.counts
                )
                _tell(options, progress)
            _submit(crew, tasks)
    finally:
        crew.close()


def _tasks(missing: list[int], pieces: list[Piece], folder: Folder) -> Iterator[Task]:
    for number in missing:
        yield Task(number=number, piece=pieces[number], target=os.fspath(folder.temporary(number)))


def _submit(crew: Crew, tasks: Iterator[Task]) -> None:
    while crew.room > 0 and (task := next(tasks, None)) is not None:
        crew.submit(task)


def _tell(options: BatchOptions, progress: Progress) -> None:
    if options.on_progress is not None:
        options.on_progress(progress)
