"""`penstock rehearse`: months of a pipeline's life in minutes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from penstock.cli.options import HERE, AsJson, Params, Project, Quiet, read_params, read_time
from penstock.cli.tables import grid, indented, open_console, write_json
from penstock.core.errors import InputError
from penstock.core.settings import parse_duration
from penstock.project.targets import find_graph
from penstock.project.workspace import open_workspace
from penstock.worker.rehearsal.driver import Place
from penstock.worker.rehearsal.driver import Progress as Told
from penstock.worker.rehearsal.driver import rehearse as do_rehearse
from penstock.worker.rehearsal.faults.plans import parse_faults
from penstock.worker.rehearsal.records import OTHERS, ArmName, Plan
from penstock.worker.rehearsal.report.records import Report
from penstock.worker.rehearsal.report.tell import tell as tell_report
from penstock.worker.rehearsal.report.words import heading, summary
from penstock.worker.rehearsal.report.write import write_report
from penstock.worker.rehearsal.source import data_params

_WEEK_S = 7 * 86_400.0


def rehearse(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Name of the pipeline.", show_default=False)],
    start: Annotated[str, typer.Option("--from", metavar="DATE", help="The first release knows what was there then.")],
    *,
    weeks: Annotated[int, typer.Option(min=1, help="How long.")] = 26,
    step: Annotated[str, typer.Option(help="How often what is due is done.")] = "1d",
    data: Annotated[
        Path | None, typer.Option(help="Directory with a file for each dataset.", exists=True, file_okay=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where it is kept and goes on; rehearsal-PIPELINE by default.")
    ] = None,
    param: Params = None,
    against: Annotated[
        str, typer.Option(help="What is compared with: never, daily; empty for nothing.")
    ] = "never,daily",
    asks: Annotated[int, typer.Option(min=1, help="Requests per step.")] = 60,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    plant: Annotated[
        str | None, typer.Option(help="Faults to plant: feed,genre,burst,schema,bad_release, or some.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Replay a dataset through a clock that is set: rows land, people ask, truth comes late, the loop does the rest.

    Nothing of the project's own store is touched. Broken off, the same command goes on where it was, and ends with the
    same record.

    Exit codes: 0 done, 2 wrong input, 3 the first release was refused, 4 the store failed, 130 cancelled.

    Example:
        penstock rehearse movies --from 2025-03-15 --weeks 8
        penstock rehearse movies --from 2013-05-01 --data movietweetings -p recommender.weeks=3
        penstock rehearse churn --from 2025-01-01 --step 6h --against never --json
        penstock rehearse movies --from 2025-03-15 --weeks 12 --plant feed,burst,schema
    """
    begin = read_time(start, option="--from")
    if begin is None:
        raise ValueError("an option that must be given was not")
    params = dict(read_params(param))
    with open_workspace(project, to_look=True) as workspace:
        root = workspace.settings.root
        if data is not None:
            params = {**data_params(find_graph(workspace, pipeline), data), **params}
    plan = Plan(
        pipeline=pipeline, start=begin, steps=_steps(step, weeks), step_s=parse_duration(step), asks=asks, seed=seed,
        params=params, others=_others(against), plant=() if plant is None else parse_faults(plant),
    )  # fmt: skip
    folder = (out or root / f"rehearsal-{pipeline}").resolve()
    console = open_console(is_error=as_json)
    with _watching(console, plan, is_quiet=quiet) as tell:
        found = do_rehearse(plan, Place(root=root, folder=folder), tell)
    write_report(report := tell_report(folder, root=root), folder)
    write_json(found) if as_json else print_rehearsal(console, report, folder)
    return 0


def _steps(step: str, weeks: int) -> int:
    step_s = parse_duration(step)
    steps = int(weeks * _WEEK_S // step_s) if step_s > 0 else 0
    if not steps:
        raise InputError(f"--step {step!r} is longer than the rehearsal.", hint="say a shorter one, as 1d or 6h")
    return steps


def _others(text: str) -> tuple[ArmName, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in OTHERS]
    if unknown:
        raise InputError(f"There is no arm {unknown[0]!r}.", hint=f"compare with {' or '.join(OTHERS)}, or both")
    return tuple(name for name in OTHERS if name in names)


@contextmanager
def _watching(console: Console, plan: Plan, *, is_quiet: bool) -> Iterator["_Tell | None"]:
    if is_quiet:
        yield None
    elif console.is_terminal:
        columns = (TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bars:
            yield _Tell(plan, console, bars)
    else:
        yield _Tell(plan, console, None)


class _Tell:
    """Draws a bar for each arm, or prints a line for each week."""

    def __init__(self, plan: Plan, console: Console, bars: Progress | None) -> None:
        self._plan, self._console, self._bars = plan, console, bars
        self._tasks = {} if bars is None else {name: bars.add_task(name, total=plan.steps) for name in plan.arms}
        self._week = 0

    def __call__(self, told: Told) -> None:
        """Take in how far it has got."""
        if self._bars is not None:
            for name, done in told.done.items():
                self._bars.update(self._tasks[name], completed=done)
            return
        week = int(told.done.get("policy", 0) * self._plan.step_s // _WEEK_S)
        if week > self._week and told.newest is not None:
            self._week = week
            others = "".join(f", {name} {done}/{told.steps}" for name, done in told.done.items() if name != "policy")
            said = f"week {week}: {told.newest.at:%Y-%m-%d}, {told.newest.live} is live{others}"
            self._console.print(Text(said), soft_wrap=True)


def print_rehearsal(console: Console, report: Report, folder: Path) -> None:
    """Print what a rehearsal came to."""
    console.print(Text(f"{heading(report)} No command was given.", style="bold"), soft_wrap=True)
    console.print(indented(grid("whole", "fold"), [list(line) for line in summary(report)]))
    console.print(Text(f"The report is in {folder}/report.html (and report.md, report.json)."), soft_wrap=True)
