"""`penstock demo`: from data to served answers, watched."""

import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.options import AsJson
from penstock.cli.progress import watch
from penstock.cli.run import exit_code, print_report, told
from penstock.cli.tables import grid, indented, open_console, state_text, write_json
from penstock.core.records import CheckResult, Failure, Record
from penstock.project import demo as staging
from penstock.project.planning import PlanReport, plan_graph
from penstock.project.quality import Quality
from penstock.project.running import RunOptions, RunReport, run_graph
from penstock.project.serving import Address, serve_options
from penstock.project.targets import find_graph
from penstock.project.workspace import Workspace, open_workspace
from penstock.serving.processes.background import start

_SHOWN_TITLES = 3


class DemoTold(Record, frozen=True, kw_only=True):
    """What `penstock demo --json` writes.

    Attributes:
        directory: The project.
        state: "succeeded" or "failed".
        release: The release that stands after the run, or None.
        answers: What the server answered, one for each viewer; empty without a release.
    """

    directory: str
    run: str
    state: str
    release: str | None
    is_new_release: bool
    quality: tuple[Quality, ...]
    checks: tuple[CheckResult, ...]
    failures: dict[str, Failure]
    answers: tuple[staging.Recommended, ...]


def demo(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Directory with ratings and titles (or movies), parquet or CSV, instead of the sample.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Directory of the project; demo-movies by default.")] = None,
    as_json: AsJson = False,
) -> int:
    """Run the movies example from data to served answers: plan, run, check, release, serve, ask.

    The project stays; a second demo in it reuses what has not changed. With --json it is watched on standard error.

    Example:
        penstock demo
        penstock demo --data ratings/
    """
    # What the server says about itself is for logs; here only what went wrong matters.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    console = open_console(is_error=as_json)
    directory = keep if keep is not None else staging.directory_for(data)
    _head(console, "1  The project")
    stage = staging.set_up(directory, data)
    _show_stage(console, stage, data)
    with open_workspace(directory) as workspace:
        report, duration_s = _run(console, workspace)
        answers = [] if report.release is None else _answers(console, workspace)
    if report.release is not None:
        _show_next(console, directory, report.release)
    if as_json:
        write_json(_told(stage, report, duration_s, answers))
    return exit_code(report)


def _run(console: Console, workspace: Workspace) -> tuple[RunReport, float]:
    began = workspace.clock.monotonic_s()
    graph = find_graph(workspace, staging.PIPELINE)
    options = RunOptions(params={}, cause="demo")
    _head(console, "2  The plan")
    _show_plan(console, plan_graph(graph, workspace, options))
    _head(console, "3  The run")
    with watch(graph, console) as listener:
        report = run_graph(graph, workspace, options, listener)
    duration_s = workspace.clock.monotonic_s() - began
    _head(console, "4  What it came to")
    print_report(console, report, duration_s)
    return report, duration_s


def _answers(console: Console, workspace: Workspace) -> list[staging.Recommended]:
    _head(console, "5  Answers over HTTP")
    with start(serve_options(staging.PIPELINE, workspace, Address(port=0))) as server:
        _say(console, f"A server answers at {server.url} until the end of this demo.")
        found = staging.ask(server.url, staging.viewers(workspace))
        for answer in found:
            _show_answer(console, answer)
    return found


def _told(
    stage: staging.Stage, report: RunReport, duration_s: float, answers: Sequence[staging.Recommended]
) -> DemoTold:
    run = told(report, duration_s)
    return DemoTold(
        directory=stage.directory,
        run=run.run,
        state=run.state,
        release=run.release,
        is_new_release=run.is_new_release,
        quality=run.quality,
        checks=run.checks,
        failures=run.failures,
        answers=tuple(answers),
    )


def _head(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, style="bold cyan"))


def _say(console: Console, text: str) -> None:
    console.print(f"  {text}", soft_wrap=True)


def _show_stage(console: Console, stage: staging.Stage, data: Path | None) -> None:
    made = "made from the movies example" if stage.is_new else "left by an earlier demo: what has not changed is reused"
    _say(console, f"{stage.directory}/  {made}")
    what = "a sample, generated from a seed" if data is None else "your data"
    for name, path in stage.tables.items():
        _say(console, f"{name}: {path}  ({what})")


def _show_plan(console: Console, plan: PlanReport) -> None:
    rows = [(state_text(line.action, console), line.node, line.reason) for line in plan.lines]
    console.print(indented(grid("left", "whole", "whole", "fold"), rows))


def _show_answer(console: Console, found: staging.Recommended) -> None:
    viewer = found.viewer
    who = f"User {viewer.user_id}, who rated {viewer.rated:,} titles"
    if not viewer.rated:
        who = f"User {viewer.user_id}, whom nobody knows yet"
    by = f"the fallback of {found.release}" if found.fallback else found.release
    console.print()
    console.print(Text(f"  {who}", style="bold").append(f"  {by}, {found.prediction_id}", style="not bold dim"))
    for row in found.answer[:_SHOWN_TITLES]:
        _say(console, f"  {row['title']}")


def _show_next(console: Console, directory: Path, release: str) -> None:
    penstock = _command(directory)
    _head(console, "Keep it serving")
    _say(console, f"cd {directory} && {penstock} serve movies")
    _head(console, "Then try, there")
    rows = [
        (f"{penstock} plan", "after changing a function in movies.py: what would run again, and why"),
        (f"""{penstock} predict movies '{{"user_id": 7}}'""", "one answer, without a server"),
        (f"{penstock} show {release}", "everything the release stands on"),
        (f"{penstock} run als", "a plain factorisation: the platform refuses to release it"),
    ]
    console.print(indented(grid("left", "whole", "fold"), rows))


def _command(directory: Path) -> str:
    """Return how to call this program in `directory`: its path, where the shell would not find it by name."""
    beside = Path(sys.executable).with_name("penstock")
    if shutil.which("penstock") is not None or not beside.exists():
        return "penstock"
    return os.path.relpath(beside, directory.resolve())
