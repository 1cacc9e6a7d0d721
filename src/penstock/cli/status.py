"""`penstock status`: the six questions about a pipeline, each with a word to grasp and lines that lead to evidence."""

import logging
import sys
import textwrap
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.options import HERE, AsJson, Project, read_time
from penstock.cli.tables import grid, open_console, write_json
from penstock.core.clock import Clock
from penstock.core.errors import CheckError
from penstock.project.status import Answer, Line, Status, Verdict, known_pipelines
from penstock.project.workspace import open_workspace
from penstock.serving.observe.events import log_events
from penstock.worker.standing import status_of

_WORDS: dict[Verdict, tuple[str, str]] = {
    "fine": ("fine", "green"),
    "look": ("LOOK", "bold red"),
    "unknown": ("unknown", "yellow"),
    "said": ("", ""),
}
_SIGNS: dict[Verdict, tuple[str, str]] = {"fine": ("+", "green"), "look": ("!", "bold red"), "unknown": ("?", "yellow")}
_SHORT = {
    "fresh": "fresh",
    "works": "works",
    "load": "load",
    "healthy": "healthy",
    "changed": "changed",
    "pays": "pays",
}
_WIDTH = 80
_INDENT = 10


def status(
    pipeline: Annotated[
        str | None, typer.Argument(metavar="[PIPELINE]", help="Which; a line for each when left out.")
    ] = None,
    *,
    now: Annotated[
        str | None, typer.Option("--now", metavar="TIME", help="Tell ages and what is due as of this time.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="End with 3 where something asks for a look.")] = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Tell how a pipeline stands: fresh, working for everyone, holding the load, healthy, changed by whom, paying.

    Each question gets one word: fine, LOOK (somebody should) or unknown (there is no evidence yet, and how to get it);
    a line that asks for a look begins with "!". What stands after ">" shows the evidence.

    Exit codes: 0 told; with --check 3 where a pipeline asks for a look; 2 no such pipeline, 4 the store failed.

    Example:
        penstock status
        penstock status movies
        penstock status movies --json
        penstock status --check || notify-the-team
    """
    log_events(is_terminal=sys.stderr.isatty(), level=logging.ERROR)
    moment = read_time(now)
    clock = Clock() if moment is None else Clock(now=lambda: moment)
    with open_workspace(project, clock, to_look=True) as workspace:
        at = clock.now()
        names = known_pipelines(workspace) if pipeline is None else [pipeline]
        found = [status_of(workspace, name, at) for name in names]
    if as_json:
        write_json(found if pipeline is None else found[0])
    elif pipeline is None:
        _print_all(open_console(), found)
    else:
        print_status(open_console(), found[0])
    return CheckError.exit_code if check and any(one.verdict == "look" for one in found) else 0


def print_status(console: Console, found: Status) -> None:
    """Print the six answers; in a terminal with colours, in a pipe without."""
    console.width = min(console.width, _WIDTH) if console.is_terminal else _WIDTH
    console.print(_heading(found))
    for number, one in enumerate(found.answers, start=1):
        console.print()
        word, style = _WORDS[one.verdict]
        console.print(Text(f"{word:<8}", style=style).append(f"{number} {one.question}", style="bold default"))
        for line in one.lines:
            _print_line(console, line)


def _heading(found: Status) -> Text:
    release = found.release or "no release"
    asks = [one.name for one in found.answers if one.verdict == "look"]
    said = f"LOOK: {', '.join(asks)}" if asks else {"fine": "all that is known is fine"}.get(found.verdict, "unknown")
    style = _WORDS[found.verdict][1]
    heading = Text(f"{found.pipeline}  ", style="bold").append(f"{release}  ", style="not bold default")
    return heading.append(said, style=style).append(f"  ({found.now:%Y-%m-%d %H:%M} UTC)", style="not bold dim default")


def _print_line(console: Console, line: Line) -> None:
    sign, style = _SIGNS.get(line.verdict, (" ", ""))
    words = textwrap.wrap(line.said, console.width - _INDENT - 2, break_on_hyphens=False)
    command = f"> {line.leads_to}" if line.leads_to else ""
    if command and _INDENT + 2 + len(words[-1]) + 2 + len(command) <= console.width:
        words[-1] += f"  {command}"
    elif command:
        words.append(command)  # on a line of its own, so that it can be copied whole
    text = Text(" " * (_INDENT - 2) + sign + " ", style=style)
    text.append(f"\n{' ' * _INDENT}".join(words), style="dim" if line.verdict == "unknown" else "not bold default")
    if command:
        text.stylize("cyan", len(text) - len(command))
    console.print(text, soft_wrap=True)


def _print_all(console: Console, found: Sequence[Status]) -> None:
    if not found:
        console.print("No pipelines. Make one: penstock new")
        return
    table = grid(*["whole"] * 8)
    table.add_row(*(Text(head, style="dim") for head in ("pipeline", "release", *_SHORT.values())))
    for one in found:
        words = [Text(*_WORDS[answer.verdict]) for answer in one.answers]
        table.add_row(one.pipeline, one.release or "none", *words)
    console.print(table)
    asks = [(one.pipeline, answer) for one in found for answer in one.answers if answer.verdict == "look"]
    for name, answer in asks:
        console.print(_first(name, answer), soft_wrap=True)


def _first(name: str, found: Answer) -> Text:
    line = found.lines[0]
    text = Text("! ", style="bold red").append(f"{name}, {found.name}: {line.said}", style="not bold default")
    return text.append(f"  > {line.leads_to}", style="cyan") if line.leads_to else text
