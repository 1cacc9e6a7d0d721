"""`penstock alerts`, `penstock why` and `penstock dispose`: what is wrong, where it comes from, and whether it was."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.options import HERE, AsJson, Project
from penstock.cli.tables import counted, grid, indented, open_console, when, write_json
from penstock.core.errors import InputError
from penstock.project.alerting.judging import FACTS
from penstock.project.alerting.listing import DeadMessage, Listed, Precision, Shown, list_alerts, list_dead, retry
from penstock.project.alerting.listing import dispose as record
from penstock.project.alerting.why import Why, encode, example_commands
from penstock.project.alerting.why import why as walk_back
from penstock.project.workspace import open_workspace

_LONG = 300
_DRAWN = frozenset({"shape", "moved"})  # for pictures, and said above; with --json they are there
Alert = Annotated[str, typer.Argument(metavar="ALERT", help="As a7; `penstock alerts` lists them.")]


def alerts(
    pipeline: Annotated[str | None, typer.Argument(metavar="[PIPELINE]", help="Only those of this one.")] = None,
    *,
    is_all: Annotated[bool, typer.Option("--all", help="Those that are resolved too.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")] = 50,
    dead: Annotated[bool, typer.Option("--dead", help="List messages that could not be delivered.")] = False,
    again: Annotated[
        str | None,
        typer.Option("--retry", metavar="ID", help="Try such messages again: a7/opened/webhook, a7 or all."),
    ] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """List what is wrong: one alert per cause, with what, since when, how sure, what was done, and what to do next.

    Under them stands how many alerts of each monitor were real, as people said by `penstock dispose`. The exit code is
    3 while an alert is open.

    Example:
        penstock alerts
        penstock alerts movies --all --json
        penstock alerts --dead
        penstock alerts --retry a7/opened/webhook
    """
    if again is not None or dead:
        return _messages(again, as_json=as_json, project=project)
    with open_workspace(project, to_look=True) as workspace:
        found = list_alerts(workspace, pipeline=pipeline, is_all=is_all, limit=limit)
        now = workspace.clock.now()
    if as_json:
        write_json(found)
    else:
        _print_alerts(open_console(), found, now)
    return 3 if any(one.state == "open" for one in found.alerts) else 0


def why(alert: Alert, *, as_json: AsJson = False, project: Project = HERE) -> int:
    """Walk back from an alert: to its columns and windows, the rows that came, the release and its code, the answers.

    Example:
        penstock why a7
        penstock why a7 --json
    """
    with open_workspace(project, to_look=True) as workspace:
        found = walk_back(workspace, alert)
        now = workspace.clock.now()
    if as_json:
        write_json(encode(found))
    else:
        _print_why(open_console(), found, now)
    return 0


def dispose(
    alert: Alert,
    *,
    real: Annotated[bool, typer.Option("--real", help="It was worth hearing of.")] = False,
    noise: Annotated[bool, typer.Option("--noise", help="It was not.")] = False,
    note: Annotated[str, typer.Option("--note", help="Why; kept with your name in the audit trail.")] = "",
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Say whether an alert was worth hearing of: that measures the precision that `penstock alerts` shows.

    Example:
        penstock dispose a7 --real
        penstock dispose a8 --noise --note "holiday"
    """
    if real == noise:
        raise InputError("Say one of the two.", hint=f"penstock dispose {alert} --real, or --noise")
    with open_workspace(project) as workspace:
        found = record(workspace, alert, "real" if real else "noise", note)
    if as_json:
        write_json(found)
    else:
        print(f"{found.alert} is {found.disposition}, says {found.disposed_by}.")
    return 0


def _messages(again: str | None, *, as_json: bool, project: Project) -> int:
    with open_workspace(project, to_look=again is None) as workspace:
        found = list_dead(workspace) if again is None else retry(workspace, again)
    if as_json:
        write_json(found)
    else:
        _print_messages(open_console(), found, is_again=again is not None)
    return 0


def _print_messages(console: Console, found: Sequence[DeadMessage], *, is_again: bool) -> None:
    if not found:
        console.print("Every message was delivered, or is still tried.")
        return
    said = "Tried again with the next tick:" if is_again else "Not delivered, and not tried any more:"
    console.print(said, style="bold")
    rows = [[one.message, counted(one.tries, "try") if one.tries == 1 else f"{one.tries} tries"] for one in found]
    errors = [one.error for one in found]
    table = grid("whole", "whole", "right", "fold")
    console.print(indented(table, [[*row, error] for row, error in zip(rows, errors, strict=True)]))
    if not is_again:
        console.print("Try them again: penstock alerts --retry all")


def _print_alerts(console: Console, found: Listed, now: datetime) -> None:
    if not found.alerts:
        console.print("No alert is open.")
    for one in found.alerts:
        _print_alert(console, one, now)
        console.print()
    if found.precision and found.overall is not None:
        console.print("Of the alerts that people disposed of, real were", style="bold")
        rows = [[f"{one.kind} {one.monitor}", _share(one)] for one in found.precision]
        rows += [["all together", _share(found.overall)]] if len(rows) > 1 else []
        console.print(indented(grid("left", "whole", "fold"), rows))
    if found.dead:
        console.print(
            Text(f"{counted(found.dead, 'message')} could not be delivered: penstock alerts --dead", style="yellow")
        )


def _print_alert(console: Console, one: Shown, now: datetime) -> None:
    style = "bold red" if one.state == "open" else "bold"
    console.print(Text(f"{one.alert}  ", style="bold").append(one.title, style=style), soft_wrap=True)
    console.print(indented(grid("left", "whole", "fold"), [(Text(a, style="dim"), b) for a, b in _rows(one, now)]))


def _rows(one: Shown, now: datetime) -> list[tuple[str, str]]:
    times = counted(one.windows, "time" if one.kind in FACTS else "window")
    sure = [f"p = {one.p:.2g} over all that was looked at"] if one.p is not None else []
    sure += [f"at most {one.budget:g} false alarms per window"] if one.budget is not None else []
    ended = None if one.resolved_at is None else when(datetime.fromisoformat(one.resolved_at), now)
    judged = None if one.disposition is None else f"{one.disposition}, says {one.disposed_by}"
    rows = [
        ("what", one.what),
        ("since", f"{when(datetime.fromisoformat(one.since), now)}, {times}{f'; resolved {ended}' if ended else ''}"),
        ("how sure", "; ".join(sure)),
        ("release", one.release or ""),
        *(("rows", said) for said in one.rows),
        *(("also", said) for said in one.moved[1:4]),
        *(("also seen", said) for said in one.also_seen),
        *(("done", said) for said in one.done[1:]),
        *(("unheard", said) for said in one.unheard),
        ("judged", judged or ""),
        ("next", one.next),
    ]
    return [(name, text) for name, text in rows if text]


def _share(one: Precision) -> str:
    return f"{one.real} of {one.disposed}: {one.share:.0%} ({one.low:.0%} to {one.high:.0%})"


def _print_why(console: Console, found: Why, now: datetime) -> None:
    _print_alert(console, found.alert, now)
    looked = [
        (f"{w.start:%Y-%m-%d %H:%M}", f"{w.rows:,} rows, {w.release or 'no release'}", *w.said[:1])
        for w in found.windows
    ]
    came = [(c.dataset, f"{when(c.taken_at, now)}: {c.rows_added:,} rows", _of_rows(c)) for c in found.data]
    went = [(w.release, when(w.at, now), "; ".join(w.changes) or "nothing differs") for w in found.releases]
    _section(console, "May be the reason", [(said,) for said in found.suspects])
    _section(
        console, "Found", [(name, _short(value)) for name, value in found.worst.evidence.items() if name not in _DRAWN]
    )
    _section(console, "In these windows", looked)
    _section(console, "Rows that came", came)
    _section(console, "Releases that went live", went)
    _section(console, "Other alerts of that time", [(said,) for said in found.beside])
    _section(console, "Answers to look at", [(said,) for said in example_commands(found)])


def _of_rows(came: Any) -> str:
    said = [*came.changes]
    said += [f"{came.rows_quarantined:,} set aside"] if came.rows_quarantined else []
    return "; ".join(said)


def _section(console: Console, title: str, rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    console.print(f"\n{title}", style="bold")
    widest = max(len(row) for row in rows)
    table = grid("left", *(["whole"] * (widest - 1)), "fold")
    console.print(indented(table, [[*row, *[""] * (widest - len(row))] for row in rows]))


def _short(value: object, depth: int = 0) -> str:
    match value:
        case float():
            text = f"{value:.4g}"
        case dict():
            text = ", ".join(f"{name} {_short(item, depth + 1)}" for name, item in value.items())
            text = f"({text})" if depth else text
        case list() | tuple():
            text = "; ".join(_short(item, depth + 1) for item in value)
        case None:
            text = "none"
        case _:
            text = str(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
