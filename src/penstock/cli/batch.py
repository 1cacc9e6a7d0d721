"""`penstock batch`: answers to all rows of files or a dataset, as files."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from penstock.cli.options import HERE, AsJson, Project, read_params
from penstock.cli.tables import counted, open_console, write_json
from penstock.project.scoring import BatchReport, BatchRequest
from penstock.project.scoring import batch as answer_all
from penstock.project.workspace import open_workspace
from penstock.serving.offline.batch import Progress

FormName = Literal["parquet", "csv", "jsonl"]
ReleaseName = Annotated[
    str | None,
    typer.Argument(metavar="[PIPELINE]", help="Name, or one release, as movies@3; needless where there is only one."),
]
Function = Annotated[str | None, typer.Option(help="Serve function, where there are several.")]
Keep = Annotated[
    str | None,
    typer.Option(metavar="COLS", help="Columns of the input beside the answers, separated by commas; none for ''."),
]
Constants = Annotated[
    list[str] | None,
    typer.Option("--field", metavar="NAME=VALUE", help="A field that is the same for all rows; may be repeated."),
]


def batch(
    pipeline: ReleaseName = None,
    *,
    source: Annotated[
        str, typer.Option("--in", metavar="X", help="Parquet, CSV or JSON lines (file, directory, glob), or a dataset.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Directory for the results.")],
    function: Function = None,
    keep: Keep = None,
    field: Constants = None,
    form: Annotated[FormName, typer.Option("--format", help="Form of the results.")] = "parquet",
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Processes; as many as cores at first.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Remove what was begun in DIR, and begin again.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Answer every row of files or of a dataset with a release, and write the answers as files.

    A batch that was killed goes on where it stopped when the same command is given again; each row is answered once,
    in the order of the input. A row that does not fit is written with its error.

    Example:
        penstock batch movies --in visitors.parquet --out answers
        penstock batch movies@3 --in 'logs/*.jsonl' --out answers --format jsonl --field k=5
        penstock batch movies --in ratings@7 --out answers --keep user_id,rated_at
    """
    with open_workspace(project) as workspace, _bar(is_shown=not (quiet or as_json)) as tell:
        request = BatchRequest(
            input=source,
            out=out,
            function=function,
            keep=read_columns(keep),
            constants=read_constants(field),
            form=form,
            workers=workers,
            restart=restart,
            on_progress=tell,
        )
        found = answer_all(pipeline, request, workspace)
    if as_json:
        write_json(found)
        return 0
    _print(found)
    return 0


def read_columns(text: str | None) -> tuple[str, ...] | None:
    """Return names that are separated by commas; None where nothing was said."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def read_constants(given: Sequence[str] | None) -> Mapping[str, Any]:
    """Return fields by name; a value that is JSON is read as JSON, any other is text.

    Raises:
        InputError: One has no "=".
    """
    return {name: _json_or_text(str(value)) for name, value in read_params(given).items()}


def _json_or_text(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


@contextmanager
def _bar(*, is_shown: bool) -> Iterator[Callable[[Progress], None] | None]:
    if not is_shown:
        yield None
        return
    columns = (TextColumn("{task.fields[rows]:,} rows"), BarColumn(), MofNCompleteColumn(), TextColumn("parts"))
    console = open_console(is_error=True)
    with Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("batch", rows=0, total=None)

        def tell(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.parts, rows=progress.counts.rows)

        yield tell


def _print(found: BatchReport) -> None:
    counts = found.counts
    answered = counts.rows - counts.refused - counts.failed
    print(f"{found.release} {found.function}: {answered:,} of {counted(counts.rows, 'row')} answered")
    if counts.fallback:
        print(f"  {counts.fallback:,} of them by the fallback")
    if counts.refused:
        print(f"  {counts.refused:,} did not fit the function's fields; the column `error` says why")
    if counts.failed:
        print(f"  {counts.failed:,} failed; the column `error` says with what")
    print(f"  {counted(found.parts, 'part')} in {found.out}")
    if found.failure:
        print(f"The first failure of the function:\n{found.failure}", file=sys.stderr)
