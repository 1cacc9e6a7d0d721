"""`penstock demo`: from data to served answers, watched."""

import logging
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.table import Table

from penstock.cli.quality import quality_tables
from penstock.core.errors import CheckError, StepError
from penstock.core.records import DatasetVersion
from penstock.engine.events import Event, NodeEnded, UnitEnded
from penstock.project import demo as stage
from penstock.project.planning import PlanReport, plan_graph
from penstock.project.running import RunOptions, RunReport, run_graph
from penstock.project.serving import Address, serve_options
from penstock.project.targets import find_graph
from penstock.project.workspace import Workspace, open_workspace
from penstock.serving.background import start

_SHOWN_TITLES = 3


def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="Directory with ratings and titles (or movies) as parquet or CSV, instead of the sample."),
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Directory of the project; demo-movies by default.")] = None,
) -> None:
    """Run the movies example from data to served answers: plan, run, check, release, serve, ask.

    Example: penstock demo
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console(highlight=False)
    directory = keep if keep is not None else stage.stage_for(data)
    _head(console, "The project")
    found = stage.set_up(directory, data)
    _show_stage(console, found, data)
    with open_workspace(directory) as workspace:
        _demonstrate(console, workspace, directory)


def _demonstrate(console: Console, workspace: Workspace, directory: Path) -> None:
    graph = find_graph(workspace, stage.PIPELINE)
    options = RunOptions(params={}, cause="demo")
    _head(console, "The plan")
    _show_plan(console, plan_graph(graph, workspace, options))
    _head(console, "The run")
    report = run_graph(graph, workspace, options, _Lines(console))
    _refuse_failure(report)
    _head(console, "The quality")
    for table in quality_tables(report):
        console.print(table)
    _head(console, "The release")
    _show_release(console, report, workspace)
    _head(console, "The answers")
    with start(serve_options(stage.PIPELINE, workspace, Address(port=0))) as server:
        console.print(f"  A server answers at {server.url} (it ends with this demo)\n")
        for answer in stage.ask(server.url, stage.viewers(workspace)):
            _show_answer(console, answer)
    _show_next(console, directory)


def _head(console: Console, title: str) -> None:
    console.print(f"\n[bold cyan]{title}[/]")


def _show_stage(console: Console, found: stage.Stage, data: Path | None) -> None:
    made = "made from the movies example" if found.is_new else "left by an earlier demo, used again"
    console.print(f"  {found.directory}/  {made}")
    what = "the built-in sample, from a seed" if data is None else "real data"
    for name, path in found.tables.items():
        console.print(f"  {name}: {path}  [dim]{what}[/]", soft_wrap=True)


def _show_plan(console: Console, plan: PlanReport) -> None:
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    for line in plan.lines:
        style = {"run": "yellow", "reuse": "green"}.get(line.action, "dim")
        table.add_row(f"[{style}]{line.action}[/]", line.node, f"[dim]{line.reason}[/]")
    console.print(table)


class _Lines:
    """One line for each node that reached its end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._wall_s: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case UnitEnded():
                self._wall_s[event.node] = self._wall_s.get(event.node, 0.0) + event.usage.wall_s
            case NodeEnded() if ":" not in event.node:
                took = "" if event.state == "reused" else f"{self._wall_s.get(event.node, 0.0):.1f} s"
                self._console.print(f"  {event.state:<10} {event.node:<26} {took:>8}  {_said(event.dataset)}")
            case _:
                pass


def _said(version: DatasetVersion | None) -> str:
    return "" if version is None else f"{version}: {version.rows:,} rows"


def _refuse_failure(report: RunReport) -> None:
    if report.release is not None:
        return
    for name, failure in report.failures.items():
        raise StepError(f"{failure.traceback}No release was made: {name}: {failure.message}", hint=failure.hint)
    failed = next((check for check in report.checks if not check.passed), None)
    why = "it did not come to its end" if failed is None else f"check {failed.name!r} failed: {failed.message}"
    raise CheckError(f"No release was made: {why}", hint=f"see the evidence: penstock show r{report.run_id}")


def _show_release(console: Console, report: RunReport, workspace: Workspace) -> None:
    news = "new" if report.is_new_release else "nothing changed, so the release stands"
    passed = sum(check.passed for check in report.checks)
    console.print(f"  [bold green]{report.release}[/]  {news}; {passed} of {len(report.checks)} checks passed")
    console.print(f"  [dim]kept in {workspace.home}[/]", soft_wrap=True)


def _show_answer(console: Console, found: stage.Recommended) -> None:
    viewer = found.viewer
    who = f"user {viewer.user_id}, who rated {viewer.rated:,} titles"
    if not viewer.rated:
        who = f"user {viewer.user_id}, whom nobody knows yet"
    by = "the fallback" if found.fallback else found.release
    console.print(f"  [bold]{who}[/]  [dim]{found.prediction_id} by {by}[/]")
    for row in found.answer[:_SHOWN_TITLES]:
        console.print(f"    {row['title']}  [dim]{row['score']:.3f}[/]")


def _show_next(console: Console, directory: Path) -> None:
    _head(console, "Next")
    console.print(f"  cd {directory} && penstock serve movies      keep it serving", soft_wrap=True)
    for command, what in (
        ("penstock plan", "change a function in movies.py first, then see what would run again, and why"),
        ("""penstock predict movies '{"user_id": 7}'""", "one answer without a server"),
        ("penstock show movies@1", "everything the release stands on"),
    ):
        console.print(f"  {command:<42} {what}", soft_wrap=True)
