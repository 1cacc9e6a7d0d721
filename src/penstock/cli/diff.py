"""`penstock diff`: what differs between two runs or releases."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.options import HERE, AsJson, Project
from penstock.cli.replay import print_replay
from penstock.cli.tables import counted, grid, open_console, write_json
from penstock.core.records import Interval
from penstock.project.comparing import diff as find_difference
from penstock.project.workspace import open_workspace
from penstock.releases.compare import Difference, FileChange, MetricChange, ValueChange
from penstock.releases.rows import PredictionChange

_EXAMPLES = 5
_LONGEST = 100
_DIFF_STYLES = {"+": "green", "-": "red", "@": "cyan"}
Reference = Annotated[str | None, typer.Argument(help="As r41 or movies@3.", show_default=False)]


def diff(
    before: Reference = None,
    after: Reference = None,
    *,
    no_replay: Annotated[bool, typer.Option("--no-replay", help="Ask two releases no recorded requests.")] = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Compare two runs or releases: code, data, parameters, policy, environment, checks, metrics, predictions.

    Without arguments the last two runs; with one, that one and the one before it. Two releases are asked up to 500
    recorded requests too; `penstock replay` asks more, and says for whom answers change.

    Example:
        penstock diff
        penstock diff movies@2 movies@3
        penstock diff r40 r41 --json
    """
    with open_workspace(project, to_look=True) as workspace:
        found = find_difference(workspace, before, after, is_replayed=not no_replay)
    if as_json:
        write_json(found)
    else:
        _print(open_console(), found)
    return 0


def _print(console: Console, found: Difference) -> None:
    console.print(Text(f"{found.before} -> {found.after}", style="bold"))
    if found.is_empty:
        console.print("Nothing differs.")
        return
    _print_code(console, found.code)
    groups = {
        "Data": found.data,
        "Parameters": found.params,
        "Policy": found.policy,
        "Environment": found.environment,
        "Outputs": found.artifacts,
        "Checks": found.checks,
    }
    for title, changes in groups.items():
        _print_values(console, title, changes)
    if found.breaches:
        _title(console, "Breaks for consumers")
        for breach in found.breaches:
            console.print(Text(f"  {breach}", style="red"), soft_wrap=True)
    _print_metrics(console, [m for m in found.metrics if m.before != m.after])
    _print_predictions(console, found.predictions)
    _print_replay(console, found)


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _print_code(console: Console, changes: Sequence[FileChange]) -> None:
    if not changes:
        return
    _title(console, f"Code: {counted(len(changes), 'file')}")
    for change in changes:
        console.print(f"  {change.change}: {change.path}")
        for line in change.diff.splitlines():
            console.print(Text(f"    {line}", style=_DIFF_STYLES.get(line[:1], "")), soft_wrap=True)


def _print_values(console: Console, title: str, changes: Sequence[ValueChange]) -> None:
    if not changes:
        return
    _title(console, title)
    table = grid("left", "left", "fold")
    for change in changes:
        table.add_row("", change.name, f"{_short(change.before)} -> {_short(change.after)}")
    console.print(table)


def _print_metrics(console: Console, changes: Sequence[MetricChange]) -> None:
    if not changes:
        return
    _title(console, "Metrics, each on its own evaluation rows")
    table = grid("left", "left", "fold")
    for change in changes:
        name = f"{change.evaluation} {change.model}: {change.metric}"
        table.add_row("", name, f"{_interval(change.before)} -> {_interval(change.after)}")
    console.print(table)


def _print_predictions(console: Console, changes: Sequence[PredictionChange]) -> None:
    moved = [c for c in changes if c.changed]
    if not changes:
        return
    _title(console, "Predictions")
    for change in changes:
        told = f"{change.changed:,} of {change.common:,} changed" if change.common else "nothing in common to compare"
        if change.better or change.worse:
            told += f" ({change.better:,} better, {change.worse:,} worse)"
        console.print(f"  {change.subject}: {told}{f'; {change.note}' if change.note else ''}", soft_wrap=True)
        for example in change.examples[:_EXAMPLES] if change in moved else ():
            console.print(Text(f"    {_short(example['key'])}", style="dim"), soft_wrap=True)
            console.print(Text(f"      - {_short(example['before'])}", style="red"), soft_wrap=True)
            console.print(Text(f"      + {_short(example['after'])}", style="green"), soft_wrap=True)


def _print_replay(console: Console, found: Difference) -> None:
    if found.replay is not None:
        _title(console, "Recorded requests, asked of both")
        print_replay(console, found.replay)
    elif found.not_replayed:
        _title(console, "Recorded requests")
        console.print(f"  not asked: {found.not_replayed}", soft_wrap=True)


def _interval(found: Interval | None) -> str:
    return "none" if found is None else f"{found.mean:.4f} ({found.low:.4f} to {found.high:.4f})"


def _short(value: Any) -> str:
    match value:
        case None:
            text = "none"
        case float():
            text = f"{value:.4g}"
        case dict():
            text = ", ".join(f"{name}={_short(item)}" for name, item in value.items())
        case list() | tuple():
            text = f"[{'; '.join(_short(item) for item in value)}]"
        case _:
            text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
