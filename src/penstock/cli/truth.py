"""`penstock outcomes` and `penstock feedback`: the truth about predictions, joined or told."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from penstock.cli.options import HERE, AsJson, Project, read_time
from penstock.cli.tables import counted, grid, open_console, write_json
from penstock.core.errors import InputError
from penstock.project.feedback import TakenFeedback, read_feedback_file, take_feedback
from penstock.project.outcomes import join_outcomes
from penstock.project.serving import served_release
from penstock.project.workspace import open_workspace

_SHOWN = 20


def outcomes(
    pipeline: Annotated[
        str | None,
        typer.Argument(metavar="[PIPELINE]", help="Name, or one release, as movies@3; needless where there is one."),
    ] = None,
    *,
    now: Annotated[
        str | None, typer.Option("--now", metavar="TIME", help="Join predictions asked before this time.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="Only this outcome.")] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Join the truth to the predictions whose truth may have come, by the pipeline's outcome functions.

    Done again it asks about new predictions and those about which more may come; the rest is final.

    Example:
        penstock outcomes movies
        penstock outcomes movies --now 2026-03-01
    """
    with open_workspace(project) as workspace:
        found = join_outcomes(pipeline, workspace, now=read_time(now), names=only or ())
    if as_json:
        write_json(found)
        return 0
    console = open_console()
    table = grid("whole", "right", "right", "right", "whole")
    table.add_row(*(Text(head, style="dim") for head in ("outcome", "asked", "found", "written", "known until")))
    for one in found.outcomes:
        counts = (f"{one.asked:,}", f"{one.found:,}", f"{one.written:,}")
        table.add_row(one.name, *counts, f"{one.as_of:%Y-%m-%d %H:%M} UTC")
    console.print(table)
    whole = sum(one.whole for one in found.outcomes)
    console.print(f"{whole:,} of them are final; about the others more may come.", style="dim")
    return 0


def feedback(
    prediction: Annotated[
        str | None, typer.Argument(metavar="[PREDICTION]", help="Id of a prediction; needless with --file.")
    ] = None,
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="What is said: a number, true, false, or text.")
    ] = None,
    *,
    file: Annotated[
        Path | None, typer.Option("--file", help="Many at once: .json, .jsonl, .csv or .parquet.", dir_okay=False)
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What it is about.")] = "feedback",
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="When it was true.")] = None,
    pipeline: Annotated[
        str | None, typer.Option("--pipeline", help="Whose prediction, where there are several.")
    ] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Say what became of predictions: one by hand, or all in a file.

    A file has prediction_id and value, and may have name and at. The same again changes nothing; another value for the
    same prediction and name corrects what was said before.

    Example:
        penstock feedback p018f312b4c00a2b44d1f2ab0c4d5e6f7 true
        penstock feedback --file returned.csv
    """
    said = _said(prediction, value, file, name=name, at=at)
    with open_workspace(project) as workspace:
        whose = served_release(pipeline, workspace).pipeline
        found = take_feedback(whose, said, workspace)
    if as_json:
        write_json(found)
    else:
        _print_taken(found)
    return 0 if found.accepted or not found.refused else 2


def _said(prediction: str | None, value: str | None, file: Path | None, *, name: str, at: str | None) -> list[object]:
    if file is not None and prediction is None:
        return read_feedback_file(file)
    if file is not None or prediction is None or value is None:
        raise InputError(
            "It is not clear what is said.", hint="give a prediction id and a value, or --file with many of them"
        )
    said: dict[str, object] = {"prediction_id": prediction, "value": _plain(value), "name": name}
    moment = read_time(at, option="--at")
    return [said if moment is None else said | {"at": moment}]


def _plain(value: str) -> object:
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _print_taken(found: TakenFeedback) -> None:
    console = open_console()
    console.print(f"{counted(found.accepted, 'piece')} of feedback on {found.pipeline} taken in.")
    if found.unknown:
        console.print(f"  {counted(found.unknown, 'prediction')} among them {_are(found.unknown)} not kept here")
    for one in found.refused[:_SHOWN]:
        console.print(f"  {one.line}: {one.message}", style="yellow", soft_wrap=True)
    if len(found.refused) > _SHOWN:
        console.print(f"  and {len(found.refused) - _SHOWN} more were refused", style="yellow")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
