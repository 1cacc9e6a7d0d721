"""`penstock experiment`: compare releases on real traffic until it is decided which is better."""

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.options import HERE, AsJson, PipelineName, Project
from penstock.cli.tables import counted, grid, indented, open_console, write_json
from penstock.core.errors import InputError
from penstock.project.experimenting import (
    Planned,
    Standing,
    declared,
    list_experiments,
    look_at_experiment,
    plan_experiment,
    start_experiment,
    stop_experiment,
)
from penstock.project.serving import served_release
from penstock.project.workspace import Workspace, open_workspace
from penstock.releases.experiments.asked import Asked
from penstock.releases.experiments.words import figure, interval

_VERBS = ("plan", "start", "status", "stop", "list")
_STYLES = {"better": "green", "no_worse": "green", "worse": "bold red", "unclear": "yellow"}
_WORDS = {"better": "better", "no_worse": "no worse", "worse": "worse", "unclear": "unclear"}


Name = Annotated[
    str | None, typer.Option("--name", help="Of the experiment; else the newest, or the only one in penstock.toml.")
]
Arms = Annotated[
    str | None, typer.Option("--arms", help="Releases, or fallback, separated by commas; the first is the control.")
]
Share = Annotated[str | None, typer.Option("--share", help="Share of each arm, as 50%,50%; equal parts by default.")]
Outcome = Annotated[str | None, typer.Option("--outcome", help="What decides; needless where there is one outcome.")]
Metrics = Annotated[list[str] | None, typer.Option("--metric", help="Another outcome to report.")]
Guards = Annotated[
    list[str] | None,
    typer.Option(
        "--guard", metavar="NAME[=LOSS]", help="Must not lose more than 10%, or LOSS: an outcome, errors, answer_ms."
    ),
]
Effect = Annotated[str | None, typer.Option("--effect", help="Least difference per key to be found, as 0.01 or 5%.")]
Days = Annotated[float | None, typer.Option("--days", help="How long it may take; 14 without --effect.")]
Span = Annotated[str | None, typer.Option("--span", help="How long each key is measured; 1d by default.")]
Alpha = Annotated[float | None, typer.Option("--alpha", help="Chance of a wrong decision; 0.05 by default.")]
History = Annotated[
    float | None, typer.Option("--history", metavar="DAYS", help="What the plan learns from; 28 by default.")
]


def experiment(
    verb: Annotated[str, typer.Argument(metavar="VERB", help="plan, start, status, stop or list.")],
    pipeline: PipelineName = None,
    *,
    name: Name = None,
    arms: Arms = None,
    share: Share = None,
    outcome: Outcome = None,
    metric: Metrics = None,
    guard: Guards = None,
    effect: Effect = None,
    days: Days = None,
    span: Span = None,
    alpha: Alpha = None,
    history: History = None,
    reason: Annotated[str, typer.Option("--reason", help="Why it is stopped.")] = "",
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Compare releases on real traffic until it is decided which is better.

    plan says what an experiment could find and how long that takes, and keeps nothing; start keeps that plan and begins
    to split; status looks, as often as one likes, and decides once it is sure; stop ends it before. A key (as a user)
    gets the same arm as long as the experiment runs. Who wins is recorded, not put live: that is for penstock promote.

    What [PIPELINE.experiments.NAME] of penstock.toml says need not be said here; options given here win.

    Exit codes: 0 done, 2 no such thing or wrong input, 4 the store failed.

    Example:
        penstock experiment plan movies --name ranking --arms movies@3,movies@4 --effect 5%
        penstock experiment start movies --name ranking --arms movies@3,movies@4 --effect 5%
        penstock experiment start movies --name shelves
        penstock experiment status movies
        penstock experiment stop movies --reason "movies@4 shows the wrong posters"
    """
    if verb not in _VERBS:
        raise InputError(f"{verb!r} is nothing to do with an experiment.", hint=f"write one of {', '.join(_VERBS)}")
    with open_workspace(project) as workspace:
        whose = served_release(pipeline, workspace).pipeline
        if verb in {"plan", "start"}:
            given = {
                "arms": _texts(arms),
                "shares": _texts(share),
                "outcome": outcome,
                "metrics": metric,
                "guards": guard,
                "effect": effect,
                "days": days,
                "span": span,
                "alpha": alpha,
                "history_days": history,
            }
            said = {word: value for word, value in given.items() if value is not None}
            asked = declared(whose, name, said, workspace)
            return _begin(verb, whose, asked, workspace, as_json=as_json)
        return _look(verb, whose, name, workspace, reason=reason, as_json=as_json)


def _begin(verb: str, pipeline: str, asked: Asked, workspace: Workspace, *, as_json: bool) -> int:
    made = (plan_experiment if verb == "plan" else start_experiment)(pipeline, asked, workspace)
    if as_json:
        write_json(made)
    else:
        _print_plan(made, is_started=verb == "start")
    return 0


def _look(verb: str, pipeline: str, name: str | None, workspace: Workspace, *, reason: str, as_json: bool) -> int:
    if verb == "list":
        every = list_experiments(pipeline, workspace)
        if as_json:
            write_json(every)
        else:
            _print_list(every, pipeline)
        return 0
    if verb == "stop":
        found = stop_experiment(pipeline, name, workspace, reason=reason)
    else:
        found = look_at_experiment(pipeline, name, workspace)
    if as_json:
        write_json(found)
    else:
        _print_standing(found)
    return 0


def _print_plan(made: Planned, *, is_started: bool) -> None:
    console = open_console()
    console.print(Text(f"{made.pipeline}/{made.plan.name}", style="bold"))
    for line in made.said:
        console.print(f"  {line}", soft_wrap=True)
    if is_started:
        console.print(f"Started. See how it stands: penstock experiment status {made.pipeline} --name {made.plan.name}")
    else:
        console.print("Nothing is kept; begin it by the same words with start.", style="dim")


def _print_list(found: list[Standing], pipeline: str) -> None:
    console = open_console()
    if not found:
        console.print(f"{pipeline} has no experiment.")
        return
    table = grid("whole", "whole", "whole", "fold")
    for one in found:
        table.add_row(one.name, one.state.value, f"{one.started_at:%Y-%m-%d}", one.said)
    console.print(table)


def _print_standing(found: Standing) -> None:
    console = open_console()
    head = Text(f"{found.pipeline}/{found.name}", style="bold") + Text(f"  {found.state.value}", style="not bold")
    console.print(head)
    console.print(found.said, soft_wrap=True)
    if found.look is not None:
        _print_look(console, found)
    if not found.is_dealt:
        live = found.plan.dealt[-1]
        console.print(f"{live} is no longer live, so no key is dealt: put it live again, or stop.", style="bold yellow")
    if found.days_left is not None:
        console.print(f"It ends in {found.days_left:.1f} d at the latest.", style="dim")
    winner = found.verdict.winner if found.verdict is not None and found.verdict.kind == "wins" else None
    if winner is not None and winner.startswith(f"{found.pipeline}@"):
        console.print(f"Next: penstock promote {winner}")


def _print_look(console: Console, found: Standing) -> None:
    look = found.look
    if look is None:
        return
    table = grid("left", "left", "right", "right", "right")
    table.add_row("", *(Text(head, style="dim") for head in ("arm", "keys", "measured", "share")))
    whole = sum(look.assigned.values()) or 1
    for arm in found.plan.arms:
        keys = look.assigned.get(arm.name, 0)
        table.add_row("", arm.name, f"{keys:,}", f"{look.units.get(arm.name, 0):,}", f"{keys / whole:.1%}")
    console.print(table)
    rows = [
        (f"{one.metric}: {one.arm} over {one.over}", interval(one), figure(one.usual), _found(one.found))
        for one in look.effects
    ]
    console.print(indented(grid("left", "left", "whole", "right", "whole"), rows))
    if look.crossed:
        said = f"{counted(look.crossed, 'key')} met more than one arm and count for the first."
        console.print(said, style="yellow")
    if found.without_key:
        console.print(f"{counted(found.without_key, 'answer')} had no key and count nowhere.", style="yellow")


def _found(word: str) -> Text:
    return Text(_WORDS[word], style=_STYLES[word])


def _texts(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())
