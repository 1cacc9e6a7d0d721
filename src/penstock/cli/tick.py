"""`penstock tick`: do once all that is due, and end; for cron, tests and rehearsals."""

import sys
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.options import HERE, AsJson, Project, read_time
from penstock.cli.tables import counted, grid, indented, open_console, state_text, write_json
from penstock.core.clock import Clock
from penstock.project.workspace import open_workspace
from penstock.serving.observe.events import log_events
from penstock.worker.carry import Settled
from penstock.worker.state import Action, Follow, Hold, Quarantine, Queue, Readmit, Skip, Start
from penstock.worker.tick import Looks, TickReport, preview
from penstock.worker.tick import tick as do_tick


def tick(
    *,
    now: Annotated[
        str | None, typer.Option("--now", metavar="TIME", help="Do what is due at this time; the clock stands there.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be decided; do nothing.")] = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Do all that is due now, and end: take in rows, join truth, look at windows, retrain, release.

    Exit codes: 0 done, whatever became of the retrains; 2 wrong input, 4 the store failed, 130 cancelled.

    Example:
        penstock tick
        penstock tick --dry-run
        penstock tick --now 2026-03-01T04:00:00Z --json
    """
    log_events(is_terminal=sys.stderr.isatty())
    moment = read_time(now)
    clock = Clock() if moment is None else Clock(now=lambda: moment)
    with open_workspace(project, clock) as workspace:
        at = clock.now()
        report = preview(workspace, at) if dry_run else do_tick(workspace, at)
    if as_json:
        write_json(report)
    else:
        print_tick(open_console(), report, is_preview=dry_run)
    return 0


def print_tick(console: Console, report: TickReport, *, is_preview: bool = False) -> None:
    """Print what a tick did, or would do."""
    console.print(_heading(report, is_preview=is_preview), soft_wrap=True)
    rows = [[looks.pipeline, said] for looks in report.pipelines for said in _looked(looks)]
    console.print(indented(grid("whole", "whole", "fold"), rows))
    for action in report.actions:
        said = action_text(action)
        if said is not None:
            console.print(Text("  ").append(said), soft_wrap=True)
    for run in report.runs:
        console.print(Text("  ").append(state_text(_STATE[run.outcome], console)).append(_became(run)), soft_wrap=True)


_STATE = {"succeeded": "succeeded", "refused": "skipped", "failed": "failed", "lost": "lost", "cancelled": "cancelled"}


def _heading(report: TickReport, *, is_preview: bool) -> Text:
    done = "Would do" if is_preview else "Did"
    count = counted(len(report.pipelines), "pipeline")
    return Text(f"{done} what is due at {_time(report.now)} for {count}.", style="bold")


def _looked(looks: Looks) -> list[str]:
    if looks.is_elsewhere:
        return ["another worker looks after it now"]
    said = [f"intake {looks.intake}" + _listed(looks.datasets.values())] if looks.intake is not None else []
    said += [f"{counted(looks.compacted, 'prediction')} taken in"] if looks.compacted else []
    said += [f"{counted(looks.joined, 'truth')} joined"] if looks.joined else []
    return [*said, *looks.findings, *(f"problem: {problem}" for problem in looks.problems)] or ["nothing is due"]


def _listed(names: object) -> str:
    found = ", ".join(str(name) for name in names) if hasattr(names, "__iter__") else ""
    return f": {found}" if found else ""


def action_text(action: Action) -> str | None:
    """Return a decision in words; None for what another one says already."""
    match action:
        case Queue():
            return f"{action.pipeline}  due      {action.kind}: {action.reason}"
        case Start():
            return f"{action.cause.pipeline}  retrain  for {action.cause.name}"
        case Hold():
            until = f" until {_time(action.until)}" if action.until is not None else ""
            return f"{action.pipeline}  wait     {action.kind}:{action.key} {action.reason}{until}"
        case Skip():
            return f"{action.pipeline}  skip     {action.kind}:{action.key} {action.reason}"
        case Follow():
            return f"{action.pipeline}  follow   {action.schedule!r} in {action.timezone} from now on"
        case Quarantine():
            return f"{action.pipeline}  ALERT    quarantined: {action.reason}"
        case Readmit():
            return f"{action.pipeline}  readmit  {action.reason}"


def _became(run: Settled) -> str:
    release = f", {run.release} stands" if run.release is not None else ""
    said = f": {run.said}" if run.said else ""
    return f" {run.run} for {run.cause}{release}{said}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
