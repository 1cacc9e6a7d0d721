"""`penstock replay`: recorded requests answered by a candidate, and every answer that changes."""

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from penstock.cli.options import HERE, AsJson, Project, read_time
from penstock.cli.tables import grid, indented, open_console, write_json
from penstock.core.errors import CheckError
from penstock.core.settings import parse_duration
from penstock.project.replaying.replay import ReplayOptions
from penstock.project.replaying.replay import replay as replay_requests
from penstock.project.workspace import open_workspace
from penstock.releases.replay.records import Example, Replay, SideShown, Size
from penstock.releases.replay.verdict import judge_replay

_LONG = 160
_EXAMPLES = 5
_KINDS = {
    "number": "numbers",
    "items": "other items",
    "order": "the order of items",
    "category": "another category or text",
    "shape": "another shape",
    "lost": "no answer any more",
    "gained": "an answer where there was none",
}
_SPREADS = {
    "absolute": "difference",
    "relative": "relative difference",
    "items": "share of items not in both",
    "moved": "largest move in ranks",
}


def replay(
    candidate: Annotated[
        str,
        typer.Argument(metavar="CANDIDATE", help="As movies@5 or r41; movies for its newest release that is not live."),
    ],
    *,
    against: Annotated[
        str | None, typer.Option("--against", metavar="RELEASE", help="What it is compared with; the live release.")
    ] = None,
    requests: Annotated[int, typer.Option("--requests", "-n", min=1, help="How many requests at most.")] = 2000,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only those asked since then.")] = None,
    budget: Annotated[str, typer.Option("--budget", metavar="TIME", help="How long each release may take.")] = "2m",
    fail_on_change: Annotated[
        float | None,
        typer.Option("--fail-on-change", metavar="SHARE", min=0, max=1, help="End with 3 where more answers change."),
    ] = None,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Ask a candidate what users asked, and say which answers change: for whom, by how much, with examples.

    Both releases answer the same recorded requests anew; nothing is logged. The exit code is 3 where the candidate
    fails on requests that the other release answers, or changes more than it may.

    Example:
        penstock replay movies@5
        penstock replay movies --since 2026-03-01 --requests 10000
        penstock replay movies@5 --against movies@3 --fail-on-change 0.05 --json
    """
    options = ReplayOptions(
        requests=requests, since=read_time(since, option="--since"), budget_s=parse_duration(budget)
    )
    with open_workspace(project) as workspace:
        found = replay_requests(candidate, against, workspace, options)
    check = judge_replay(found, most_changed=fail_on_change)
    if as_json:
        write_json(found)
    else:
        console = open_console()
        print_replay(console, found)
        if not check.passed:
            console.print()
            console.print(Text(f"FAILED: {check.message}.", style="bold red"), soft_wrap=True)
    return 0 if check.passed else CheckError.exit_code


def print_replay(console: Console, found: Replay) -> None:
    """Print a replay: the headline, both sides, where changes concentrate, their sizes, examples."""
    console.print(Text(f"{found.candidate} against {found.against}: {found.headline}", style="bold"), soft_wrap=True)
    for line in _about(found):
        console.print(f"  {line}", style="dim", soft_wrap=True)
    _print_sides(console, found)
    if not found.changed and not found.lost:
        return
    if found.changed:
        _print_sizes(console, found)
    _print_slices(console, found)
    _print_examples(console, found)


def _about(found: Replay) -> Iterator[str]:
    span = ""
    if found.since is not None and found.until is not None:
        span = f", asked {found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC"
    is_whole = found.sampled + sum(found.left_out.values()) == found.recorded
    chosen = "all that can be asked again" if is_whole else f"{found.sampled:,} chosen by chance"
    yield f"{found.recorded:,} recorded requests{span}; {chosen}"
    if found.compared < found.sampled:
        yield f"the time was up after {found.compared:,}, which are a sample by chance too"
    for reason, count in found.left_out.items():
        yield f"{count:,} cannot be asked again: {reason}"
    if found.unknown_fields:
        yield f"{found.unknown_fields:,} were asked without fields that {found.candidate} does not know: the defaults"
    if found.no_longer:
        yield f"{found.no_longer:,} of {found.own:,} answers that {found.against} gave are not what it gives now"
    for side in found.sides:
        if side.differing:
            yield f"{side.release} was made with other versions: {', '.join(side.differing)}"


def _print_sides(console: Console, found: Replay) -> None:
    table = grid("left", "left", "right", "right")
    table.add_row("", "", *(Text(side.release, style="dim") for side in found.sides))
    for name, values in _side_rows(*found.sides):
        is_worse = name not in {"answers", "median", "99 % within"} and values[0] != values[1]
        table.add_row("", Text(name, style="yellow" if is_worse else "dim"), *values)
    console.print()
    console.print(table)


def _side_rows(one: SideShown, other: SideShown) -> Iterator[tuple[str, tuple[str, str]]]:
    counts = {
        "answers": "answered",
        "answers of the fallback": "fallback",
        "failures": "failed",
        "refusals": "refused",
        "given up": "late",
        "NaN or infinity": "not_finite",
        "slower than the deadline": "over_deadline",
    }
    for name, field in counts.items():
        values = getattr(one, field), getattr(other, field)
        if any(values) or field == "answered":
            yield name, (f"{values[0]:,}", f"{values[1]:,}")
    for name in dict.fromkeys([*one.errors, *other.errors]):
        yield f"  {name}", (f"{one.errors.get(name, 0):,}", f"{other.errors.get(name, 0):,}")
    yield "median", (_took(one.median_us), _took(other.median_us))
    yield "99 % within", (_took(one.p99_us), _took(other.p99_us))


def _took(value_us: float | None) -> str:
    return "" if value_us is None else f"{value_us / 1000:.3f} ms"


def _print_sizes(console: Console, found: Replay) -> None:
    console.print("\nwhat changes, and by how much", style="bold")
    kinds = [(f"{count:,}", _KINDS.get(kind, kind)) for kind, count in found.kinds.items()]
    console.print(indented(grid("left", "right", "fold"), kinds))
    spreads = [
        (_SPREADS[name], f"median {one.median:.3g}", f"90 % within {one.p90:.3g}", f"largest {one.largest:.3g}")
        for name, one in found.spreads.items()
        if one.largest
    ]
    if spreads:
        console.print(indented(grid("left", "left", "whole", "whole", "whole"), spreads))
    bands = ", ".join(f"{count:,} {name}" for name, count in found.bands.items())
    console.print(f"  {bands}", soft_wrap=True)


def _print_slices(console: Console, found: Replay) -> None:
    if len(found.changed_serves) > 1:
        console.print("\nby serve function", style="bold")
        rows = [(name, f"{changed:,} of {count:,}") for name, (changed, count) in found.changed_serves.items()]
        console.print(indented(grid("left", "left", "right"), rows))
    if not found.slices:
        return
    sure = any(one.is_sure for one in found.slices)
    title = "where changes concentrate" if sure else "where changes are (they concentrate nowhere surely)"
    console.print(f"\n{title}", style="bold")
    table = grid("left", "left", "right", "right", "right", "whole")
    for one in found.slices:
        style = "bold" if one.is_sure else "dim"
        share = f"{100 * one.share:.1f} %"
        cells = one.name, f"{one.changed:,} of {one.n:,}", share, f"{one.lift:.1f} times", f"p {one.p:.1g}"
        table.add_row("", *(Text(cell, style=style) for cell in cells))
    console.print(table)


def _print_examples(console: Console, found: Replay) -> None:
    console.print("\nthe largest changes", style="bold")
    for example in found.examples[:_EXAMPLES]:
        console.print(f"  {example.prediction_id}  {_size_text(example.size)}", soft_wrap=True)
        if example.fields is None:
            continue
        console.print(Text(f"    {example.serve}({_short(example.fields)})", style="dim"), soft_wrap=True)
        console.print(Text(f"    - {_answer_text(example, is_after=False)}", style="red"), soft_wrap=True)
        console.print(Text(f"    + {_answer_text(example, is_after=True)}", style="green"), soft_wrap=True)


def _size_text(size: Size) -> str:
    parts = [_KINDS.get(size.kind, size.kind)]
    if size.kind in {"number", "category", "shape"} and size.where[:1] not in {(), ("answer",)}:
        parts[0] += f" at {size.where[0]}{' and elsewhere' if len(size.where) > 1 else ''}"
    if size.items:
        parts.append(f"{100 * size.items:.0f} % not in both")
    if size.moved:
        parts.append(f"moved by {size.moved} ranks")
    if size.absolute is not None and size.relative is not None:
        parts.append(f"by {size.absolute:.3g} ({100 * size.relative:.3g} %)")
    return ", ".join(parts)


def _answer_text(example: Example, *, is_after: bool) -> str:
    outcome, answer = (example.after, example.answer_after) if is_after else (example.before, example.answer_before)
    match outcome:
        case "answered":
            return _short(answer)
        case "fallback":
            return f"{_short(answer)}  by the fallback: {_last_line(example.said)}"
        case _:
            return f"{outcome}: {_last_line(example.said)}"


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].strip()


def _short(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
