"""`penstock stream`: answers to rows as they come."""

import sys
from typing import Annotated

import msgspec
import typer

from penstock.cli.batch import Constants, FormName, Function, Keep, read_columns, read_constants
from penstock.cli.options import HERE, AsJson, Project
from penstock.cli.tables import counted
from penstock.project.following import StreamRequest
from penstock.project.following import stream as follow
from penstock.project.workspace import open_workspace
from penstock.serving.observe.events import log_events

ReleaseName = Annotated[
    str | None,
    typer.Argument(metavar="[PIPELINE]", help="Name, to follow its live release, or one release, as movies@3."),
]


def stream(
    pipeline: ReleaseName = None,
    *,
    source: Annotated[
        str,
        typer.Option("--in", metavar="X", help="Directory, dataset, - (standard input), kafka://… or nats://…."),
    ],
    out: Annotated[str, typer.Option("--out", metavar="Y", help="Directory, - (standard output), or dataset:NAME.")],
    function: Function = None,
    keep: Keep = None,
    field: Constants = None,
    form: Annotated[FormName, typer.Option("--format", help="Form of the files.")] = "jsonl",
    once: Annotated[bool, typer.Option("--once", help="Answer what is there, and end.")] = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Answer rows as they come: new files of a directory, new versions of a dataset, lines of standard input.

    Into a directory or a dataset each row is answered once, whatever is killed; on standard output at least once, with
    a `message_id` that is the same when a row comes again. Ctrl-C finishes what is under way.

    Example:
        penstock stream movies --in inbox --out answers
        tail -f visits.jsonl | penstock stream movies --in - --out -
        penstock stream movies --in visits --out dataset:scores --once
        penstock stream movies --in kafka://localhost:9092/visits --out answers
    """
    log_events(is_terminal=sys.stderr.isatty())
    request = StreamRequest(
        input=source,
        out=out,
        function=function,
        keep=read_columns(keep),
        constants=read_constants(field),
        form=form,
        once=once,
    )
    with open_workspace(project) as workspace:
        found = follow(pipeline, request, workspace)
    counts = found.counts
    said = f"{found.release} {found.function}: {counted(counts.rows, 'row')} answered"
    text = msgspec.json.encode(found).decode() if as_json else said
    # Standard output belongs to the answers where they go there.
    print(text, file=sys.stderr if out == "-" else sys.stdout)
    return 0
