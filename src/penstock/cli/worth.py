"""`penstock worth`: what releases came to offline, online and in money."""

from typing import Annotated

import typer
from rich.text import Text

from penstock.cli.options import HERE, AsJson, PipelineName, Project
from penstock.cli.tables import grid, open_console, write_json
from penstock.project.serving import served_release
from penstock.project.workspace import open_workspace
from penstock.project.worth import Worth, worth_of
from penstock.releases.experiments.words import figure
from penstock.releases.worth import Triple

_STYLES = {"agrees": "green", "unclear": "yellow", "flipped": "bold yellow", "against": "bold red", "unknown": "dim"}


def worth(
    pipeline: PipelineName = None,
    *,
    outcome: Annotated[str | None, typer.Option("--outcome", help="By which outcome; the first by default.")] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Show what each release came to offline, online and in money, and whether the offline metric can be trusted.

    Offline is the main metric of the release's evaluation; online is the outcome per answer; money is that times the
    outcome's value. Where releases that were better offline did worse online, it warns.

    Example:
        penstock worth movies
        penstock worth movies --outcome watched --json
    """
    with open_workspace(project) as workspace:
        found = worth_of(served_release(pipeline, workspace).pipeline, workspace, outcome=outcome)
    if as_json:
        write_json(found)
    else:
        _print(found)
    return 0


def _print(found: Worth) -> None:
    console = open_console()
    table = grid("whole", "whole", "whole", "right", "right", "fold")
    heads = ("release", found.metric or "offline", found.outcome, "answers", "money each", "experiments")
    table.add_row(*(Text(head, style="dim") for head in heads))
    for one in found.triples:
        table.add_row(one.release, *_cells(one))
    console.print(table)
    agreement = found.agreement
    console.print(Text(agreement.said, style=_STYLES[agreement.found]), soft_wrap=True)
    if agreement.matches:
        right = sum(one.is_as_offline for one in agreement.matches)
        console.print(f"In {right} of {len(agreement.matches)} experiments the arm that was better offline won.")


def _cells(one: Triple) -> tuple[str, str, str, str, str]:
    offline, online = "-", "-"
    if one.offline is not None:
        offline = f"{figure(one.offline.mean)} ({figure(one.offline.low)} to {figure(one.offline.high)})"
    if one.online is not None:
        online = f"{figure(one.online)} ({figure(one.online - one.half)} to {figure(one.online + one.half)})"
    told = [*(f"won {name}" for name in one.won), *(f"lost {name}" for name in one.lost)]
    return offline, online, f"{one.answers:,}", "-" if one.money is None else figure(one.money), ", ".join(told)
