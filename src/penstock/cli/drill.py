"""`penstock drill`: a release put through what goes wrong."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.app import CANCELLED
from penstock.cli.load import ReleaseName, Slo
from penstock.cli.options import HERE, AsJson, Project, Quiet
from penstock.cli.tables import grid, indented, open_console, state_text, write_json
from penstock.core.errors import InputError
from penstock.core.settings import parse_duration
from penstock.project.capacity.drill import DrillOptions
from penstock.project.capacity.drill import drill as do_drill
from penstock.project.capacity.keeping import keep
from penstock.project.capacity.promises import promise_of
from penstock.project.capacity.promises import said as promise_said
from penstock.project.capacity.records import PARTS, Drill
from penstock.project.capacity.words import drill_said
from penstock.project.serving import served_release
from penstock.project.workspace import open_workspace
from penstock.serving.observe.events import log_events


def drill(
    pipeline: ReleaseName = None,
    *,
    slo: Slo = None,
    workers: Annotated[int, typer.Option(min=2, max=256, help="Processes that answer; one of them is killed.")] = 2,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Requests a second; that of the busiest minute when left out.")
    ] = None,
    seconds: Annotated[str, typer.Option("--for", metavar="TIME", help="How long each stretch of load lasts.")] = "5s",
    function: Annotated[str | None, typer.Option(help="Only this serve function.")] = None,
    part: Annotated[str | None, typer.Option(help=f"Only these, separated by commas: {', '.join(PARTS)}.")] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Put a release through a burst, a killed worker, a slow disk, bad requests and a clock that jumps.

    A server of its own answers, with recorded requests where there are some. What was found is kept as evidence of the
    release; `require = ["drill"]` in penstock.toml asks for it before a release is promoted.

    Exit codes: 0 all that is expected was found, 2 wrong input, 3 it was not, 130 broken off.

    Example:
        penstock drill movies --slo p99=50ms
        penstock drill movies@3 --for 10s --json
    """
    log_events(is_terminal=sys.stderr.isatty())
    console = open_console(is_error=as_json)
    with open_workspace(project) as workspace:
        release = served_release(pipeline, workspace)
        promise = promise_of(workspace.settings.policy(release.pipeline), slo)
        options = DrillOptions(
            promise=promise, workers=workers, seconds=parse_duration(seconds), rate_per_s=rate, function=function,
            parts=_parts(part),
        )  # fmt: skip

        def tell(now: str) -> None:
            if not quiet:
                console.print(now, soft_wrap=True)

        found = do_drill(release, workspace, options, tell)
        if found.parts:
            keep("drill", found, release.pipeline, workspace)
    if as_json:
        write_json(found)
    else:
        print_drill(console, found)
    if not found.is_whole:
        return CANCELLED
    return 0 if found.passed else 3


def _parts(text: str | None) -> tuple[str, ...]:
    names = list(PARTS) if text is None else [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PARTS]
    if unknown or not names:
        raise InputError(f"There is no part {', '.join(unknown)!r} of a drill.", hint=f"say some of {', '.join(PARTS)}")
    return tuple(name for name in PARTS if name in names)


def print_drill(console: Console, found: Drill) -> None:
    """Print each part with what was expected and found."""
    for part in found.parts:
        console.print()
        state = state_text("passed" if part.passed else "failed", console)
        console.print(state.append(f"{part.name}  ", style="bold").append(part.did, style="not bold default"))
        rows = [
            (state_text("passed" if one.passed else "failed", console), one.expected, one.found)
            for one in part.expectations
        ]
        console.print(indented(grid("left", "whole", "fold", "fold"), rows))
    console.print()
    said = drill_said(found)
    about = f" at {found.rate_per_s:,.4g} requests a second, {found.workers} workers, {promise_said(found.promise)}."
    console.print(Text(said, style="bold").append(about, style="not bold"), soft_wrap=True)
