"""`penstock load`: how much a release can take, measured on a server of its own."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from penstock.cli.app import CANCELLED
from penstock.cli.options import HERE, AsJson, Project, Quiet
from penstock.cli.tables import counted, grid, indented, open_console, write_json
from penstock.core.settings import parse_duration
from penstock.project.capacity.keeping import keep
from penstock.project.capacity.ladder import Rung, ladder
from penstock.project.capacity.measure import LoadOptions, Told, measure_load
from penstock.project.capacity.promises import promise_of
from penstock.project.capacity.records import Load
from penstock.project.capacity.words import curve_rows, summary
from penstock.project.serving import served_release
from penstock.project.workspace import open_workspace
from penstock.serving.load.promise import Step
from penstock.serving.observe.events import log_events

ReleaseName = Annotated[
    str | None, typer.Argument(metavar="[PIPELINE]", help="Name, as movies, or one release, as movies@3.")
]
Slo = Annotated[
    str | None, typer.Option(metavar="PROMISE", help="As p99=50ms; what penstock.toml promises when left out.")
]
_VERDICTS = {"holds": "green", "breaks": "bold red", "unsure": "yellow", "generator": "yellow"}


def load(
    pipeline: ReleaseName = None,
    *,
    slo: Slo = None,
    failed: Annotated[
        float | None, typer.Option(min=0.0001, max=0.5, help="Share that may fail, be refused or get the fallback.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that answer.")] = 1,
    target: Annotated[
        float | None, typer.Option(min=0.001, metavar="RATE", help="Requests a second that you want to answer.")
    ] = None,
    ladder_: Annotated[
        bool, typer.Option("--ladder", help="Say what 1, 100, 10,000 and a million users take.")
    ] = False,
    per_user: Annotated[float, typer.Option(min=0.001, help="Requests of one user a day, for --ladder.")] = 10.0,
    function: Annotated[str | None, typer.Option(help="Only this serve function.")] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="A server on this machine that runs already.")] = None,
    step: Annotated[str, typer.Option(help="How long each rate is held at least.")] = "4s",
    most: Annotated[float | None, typer.Option(min=0.001, help="Try no rate above this.")] = None,
    generators: Annotated[int, typer.Option(min=1, max=64, help="Processes that ask.")] = 1,
    quiet: Quiet = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Find the highest rate at which a release keeps its promise, and keep it as evidence of the release.

    Requests leave at set times whether or not earlier ones were answered, and latency counts from when each was due. A
    server of its own answers them: recorded requests where there are some, else the release's examples. Its
    predictions, counters and tables go when it ends. Ctrl-C keeps what was measured.

    Exit codes: 0 the promise holds at what is asked for, 2 wrong input, 3 it does not, 130 broken off.

    Example:
        penstock load movies --slo p99=50ms
        penstock load movies@3 --slo p99=50ms --workers 2 --target 2000
        penstock load movies --ladder --per-user 20
    """
    log_events(is_terminal=sys.stderr.isatty())
    console = open_console(is_error=as_json)
    with open_workspace(project) as workspace:
        release = served_release(pipeline, workspace)
        promise = promise_of(workspace.settings.policy(release.pipeline), slo, failed=failed)
        options = LoadOptions(
            promise=promise, workers=workers, generators=generators, step_s=parse_duration(step), most_per_s=most,
            target_per_s=target, function=function, url=url,
        )  # fmt: skip
        with _watching(console, is_quiet=quiet) as tell:
            found = measure_load(release, workspace, options, tell)
        if found.steps and url is None:
            keep("load", found, release.pipeline, workspace)
        rungs = ladder(found, per_user=per_user) if ladder_ else ()
    if as_json:
        write_json({"load": found, "ladder": rungs} if ladder_ else found)
    else:
        print_load(console, found)
        print_ladder(console, rungs)
    if not found.is_whole:
        return CANCELLED
    return 0 if found.passed else 3


def print_load(console: Console, found: Load) -> None:
    """Print the curve and what it means."""
    if found.steps:
        console.print(_curve(found.steps))
        console.print()
    for line in summary(found):
        console.print(line, soft_wrap=True)


def print_ladder(console: Console, rungs: tuple[Rung, ...]) -> None:
    """Print what rising numbers of users take."""
    if rungs:
        console.print()
        rows = [(counted(rung.users, "user"), f"{rung.rate_per_s:,.4g}/s", rung.said) for rung in rungs]
        console.print(indented(grid("left", "right", "right", "fold"), rows))


def _curve(steps: tuple[Step, ...]) -> Table:
    table = grid("right", "right", "right", "right", "right", "right", "right", "right", "left")
    heads = ("asked/s", "answered/s", "p50", "p95", "p99", "failed", "fallbacks", "CPU each", "")
    table.add_row(*(Text(head, style="dim") for head in heads))
    for row, step in zip(curve_rows(steps), sorted(steps, key=lambda one: one.rate_per_s), strict=True):
        table.add_row(*row[:-1], Text(row[-1], style=_VERDICTS[step.verdict]))
    return table


@contextmanager
def _watching(console: Console, *, is_quiet: bool) -> Iterator["_Tell"]:
    if is_quiet or not console.is_terminal:
        yield _Tell(None if is_quiet else console, None)
        return
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        yield _Tell(console, live)


class _Tell:
    """Draws the curve as it grows, or prints a line for each thing done."""

    def __init__(self, console: Console | None, live: Live | None) -> None:
        self._console, self._live = console, live

    def __call__(self, told: Told) -> None:
        """Take in how far it has got."""
        if self._live is not None:
            shown = _curve(told.steps) if told.steps else grid("left")
            shown.caption = f"{told.now} ..."
            shown.caption_justify = "left"
            self._live.update(shown)
        elif self._console is not None:
            self._console.print(told.now, soft_wrap=True)
