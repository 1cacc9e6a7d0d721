"""`penstock predictions` and `penstock trace`: what was answered, and one answer explained."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
import polars as pl
import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.options import HERE, AsJson, Project, read_time
from penstock.cli.tables import grid, indented, open_console, size, when, write_json
from penstock.core.errors import InputError, NotFoundError
from penstock.project.tracing import (
    Recomputed,
    Traced,
    TruthShown,
    pipelines_with_predictions,
    recent_predictions,
)
from penstock.project.tracing import trace as explain
from penstock.project.workspace import Workspace, open_workspace
from penstock.serving.predictions.records import Prediction

_SHORT = 60
_LONG = 400
_SHOWN = 20
_VERDICTS = {
    "equal": ("the same", "green"),
    "close": ("the same but for the last digits", "green"),
    "different": ("DIFFERENT", "bold red"),
    "failed": ("it fails now", "bold red"),
    "not recomputed": ("not recomputed", "yellow"),
}


def predictions(
    pipeline: Annotated[
        str | None, typer.Argument(metavar="[PIPELINE]", help="Whose; needless where there is only one.")
    ] = None,
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")] = 20,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only those asked since then.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Only those routed by this, as a user id.")] = None,
    consumer: Annotated[str | None, typer.Option("--consumer", help="Only those this application asked.")] = None,
    release: Annotated[str | None, typer.Option("--release", help="Only those it answered, as movies@3.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed or fell back.")] = False,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """List what was answered, the newest first, or search it.

    Example:
        penstock predictions movies --key 7
        penstock predictions --failed --since 2026-03-01
    """
    wanted = {"key": key, "consumer": consumer, "release": release}
    where = [pl.col(name) == value for name, value in wanted.items() if value is not None]
    where += [pl.col("fallback") | pl.col("error").is_not_null()] if failed else []
    with open_workspace(project, to_look=True) as workspace:
        whose = _one(pipeline, workspace)
        if whose is not None:
            after = read_time(since, option="--since")
            found = recent_predictions(
                whose, workspace, where=pl.all_horizontal(where) if where else None, since=after, limit=limit
            )
        else:
            found = []
        now = workspace.clock.now()
    if as_json:
        write_json(found)
        return 0
    _print_list(found, now)
    return 0


def trace(
    prediction: Annotated[str, typer.Argument(metavar="PREDICTION", help="Its id, as callers get it.")],
    *,
    pipeline: Annotated[str | None, typer.Option("--pipeline", help="Whose it is; else all are searched.")] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Explain one prediction: what was asked, what the function was given, what it said, and what it says now.

    It is asked again offline, of the release that answered, with the models as they were released. The exit code is 3
    when the answer differs.

    Example:
        penstock trace p018f312b4c00a2b44d1f2ab0c4d5e6f7
    """
    with open_workspace(project) as workspace:
        found = explain(prediction, workspace, pipeline=pipeline)
        now = workspace.clock.now()
    if as_json:
        write_json(found)
    else:
        _print_trace(open_console(), found, now)
    return 3 if found.recomputed.verdict in {"different", "failed"} else 0


def _one(pipeline: str | None, workspace: Workspace) -> str | None:
    known = pipelines_with_predictions(workspace)
    if pipeline is not None:
        if pipeline not in known:
            raise NotFoundError(
                f"Nothing was answered by a pipeline {pipeline!r}.",
                hint=f"there are {', '.join(known)}" if known else "serve it: penstock serve",
            )
        return pipeline
    if len(known) > 1:
        raise InputError(f"{len(known)} pipelines have answered.", hint=f"say which: {', '.join(known)}")
    return known[0] if known else None


def _print_list(found: list[Prediction], now: datetime) -> None:
    console = open_console()
    if not found:
        console.print("No such predictions.")
        return
    table = grid("whole", "whole", "whole", "fold")
    for one in found:
        said = Text(f"{one.serve}({_short(one.fields, _SHORT)}) = {_short(one.answer, _SHORT)}")
        if one.error is not None or one.fallback:
            said.append(f"  {'fallback' if one.fallback else 'failed'}: {one.error}", style="yellow")
        table.add_row(one.id, when(one.at, now), one.release, said)
    console.print(table)


def _print_trace(console: Console, found: Traced, now: datetime) -> None:
    one = found.prediction
    heading = Text(f"{one.id}  ", style="bold").append(f"{one.release} answered {when(one.at, now)}", style="not bold")
    console.print(heading, soft_wrap=True)
    sections = (
        ("asked", list(_asked(one))),
        ("function", list(_function(found, now))),
        ("given", list(_given(found, now))),
        ("took", [(name.removesuffix("_us"), f"{value / 1000:.3f} ms") for name, value in one.timings.items()]),
    )
    for title, rows in sections:
        if rows:
            console.print(f"\n{title}", style="bold")
            console.print(indented(grid("left", "whole", "fold"), [(Text(a, style="dim"), b) for a, b in rows]))
    console.print("\nanswered", style="bold")
    _print_answers(console, one, found.recomputed)
    if found.truth:
        console.print("\nwhat became of it", style="bold")
        said = [(Text(one.name, style="dim"), _told(one)) for one in found.truth]
        console.print(indented(grid("left", "whole", "fold"), said))


def _told(one: TruthShown) -> str:
    is_open = one.source == "outcome" and isinstance(one.detail, dict) and not one.detail.get("whole")
    said = _short(one.detail if one.value is None else one.value, _SHORT)
    return f"{said}{' so far' if is_open else ''} ({one.source})"


def _asked(one: Prediction) -> Iterator[tuple[str, str]]:
    if isinstance(one.fields, dict):
        for name, value in one.fields.items():
            yield name, _short(value, _LONG)
    for name in one.redacted:
        yield name, "redacted by policy"
    about = {"protocol": one.protocol, "consumer": one.consumer, "key": one.key, "variant": one.variant}
    yield "by", ", ".join(f"{name} {value}" for name, value in about.items() if value)


def _function(found: Traced, now: datetime) -> Iterator[tuple[str, str]]:
    yield "code", found.function
    made = f" by {found.run}" if found.run else ""
    if found.released_at is not None:
        yield "release", f"{found.prediction.release}, made {when(found.released_at, now)}{made}"


def _given(found: Traced, now: datetime) -> Iterator[tuple[str, str]]:
    for one in found.arguments:
        what = f"{one.rows:,} rows" if one.rows is not None else one.type
        made = f", made by {one.made_by} {when(one.made_at, now)}" if one.made_at is not None else ""
        stood_in = f", answered by its equivalent ({one.stand_in})" if one.stand_in else ""
        source = f"{one.source}: " if one.source != one.argument else ""
        yield one.argument, f"{source}{what}, {size(one.size_bytes)}, {one.digest[:12]}{made}{stood_in}"


def _print_answers(console: Console, one: Prediction, again: Recomputed) -> None:
    how = "by the fallback, since the function failed" if one.fallback else ""
    rows = [("served", f"{_short(one.answer, _LONG)}  {how}".rstrip())]
    if one.error is not None:
        rows.append(("failure", one.error))
    if again.verdict not in {"failed", "not recomputed"}:
        rows.append(("recomputed", _short(again.answer, _LONG)))
    if again.instead is not None:
        rows.append(("function now", _short(again.instead, _LONG)))
    console.print(indented(grid("left", "whole", "fold"), [(Text(a, style="dim"), b) for a, b in rows]))
    word, style = _VERDICTS[again.verdict]
    largest = f" (at most {again.largest:.1e} relative)" if again.verdict == "close" else ""
    why = f": {again.why}" if again.why and again.verdict != "equal" else ""
    console.print(Text(f"  {word}{largest}{why}", style=style), soft_wrap=True)
    for name in again.differing:
        console.print(f"  made with another version of {name}", style="yellow", soft_wrap=True)
    if again.verdict == "different":
        table = grid("left", "whole", "left", "left")
        table.add_row("", *(Text(head, style="dim") for head in ("where", "served", "recomputed")))
        for place in again.differences[:_SHOWN]:
            table.add_row("", place.path, _short(place.served, _SHORT), _short(place.recomputed, _SHORT))
        console.print(table)


def _short(value: Any, limit: int) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
