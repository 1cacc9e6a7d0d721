"""`penstock plan`: what a run would do, and why."""

from typing import Annotated

import typer
from rich.text import Text

from penstock.cli.options import HERE, AsJson, Now, Params, PipelineName, Project, read_names, read_params, read_time
from penstock.cli.tables import counted, grid, open_console, state_text, write_json
from penstock.core.records import Record
from penstock.engine.plan import PlanLine
from penstock.project.planning import PlanReport, plan_graph
from penstock.project.running import RunOptions
from penstock.project.targets import find_graph
from penstock.project.workspace import open_workspace


class PlanTold(Record, frozen=True, kw_only=True):
    """What `penstock plan --json` writes."""

    pipeline: str
    goal: str
    nodes: tuple[PlanLine, ...]
    warnings: tuple[str, ...]


def plan(
    pipeline: PipelineName = None,
    param: Params = None,
    now: Now = None,
    force: Annotated[
        list[str] | None, typer.Option("--force", metavar="NODE", help="Plan as if the node had to run.")
    ] = None,
    no_look: Annotated[
        bool,
        typer.Option("--no-look", help="Do not ask the sources for new rows: quicker, and reads only what is kept."),
    ] = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Say for each node whether it would run or be reused, and why. Runs nothing.

    Example:
        penstock plan
        penstock plan movies -p recommender.candidates=200
    """
    options = RunOptions(params=read_params(param), now=read_time(now), force=read_names(force), cause="plan")
    with open_workspace(project) as workspace:
        report = plan_graph(find_graph(workspace, pipeline), workspace, options, look=not no_look)
    if as_json:
        write_json(PlanTold(pipeline=report.pipeline, goal=report.goal, nodes=report.lines, warnings=report.warnings))
    else:
        _print(report)
    return 0


def _print(report: PlanReport) -> None:
    console = open_console()
    goal = f": {report.goal}" if report.goal else ""
    console.print(Text(f"Plan of {report.pipeline}", style="bold").append(goal, style="not bold"), soft_wrap=True)
    table = grid("left", "whole", "left", "whole", "fold")
    for line in report.lines:
        style = "dim" if line.action == "reuse" else ""
        table.add_row(
            "",
            state_text(line.action, console),
            line.node,
            Text(line.role, style="dim"),
            Text(line.reason, style=style),
        )
    console.print(table)
    for warning in report.warnings:
        console.print(Text("Warning: ", style="bold yellow").append(warning, style="not bold default"), soft_wrap=True)
    console.print()
    console.print(_sum(report), style="bold", soft_wrap=True)


def _sum(report: PlanReport) -> str:
    counts = {a: sum(line.action == a for line in report.lines) for a in ("run", "depends", "reuse")}
    if not counts["run"] and not counts["depends"]:
        return "Nothing to do: every result is kept."
    depends = f"{counts['depends']} more may run, depending on those; " if counts["depends"] else ""
    return f"{counted(counts['run'], 'node')} will run; {depends}{counts['reuse']} reused. Do it: penstock run"
