"""How evidence looks: quality with intervals and verdicts, slices, checks, failures with the user's traceback first."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from penstock.cli.tables import counted, grid, indented, state_text, when
from penstock.core.lazy import import_quickly
from penstock.core.records import CheckResult, Failure
from penstock.project.quality import ModelQuality, Quality
from penstock.store.ledger.evidence import Evidence

_VERDICTS = {"better": "green", "worse": "bold red", "unclear": "yellow"}


def print_quality(console: Console, found: Sequence[Quality]) -> None:
    """Print each evaluation: models by metric with intervals, lifts of the candidate, its worst slices."""
    for quality in found:
        for metric in dict.fromkeys(m.metric for m in quality.models):
            models = [m for m in quality.models if m.metric == metric]
            _print_metric(console, quality, metric, models)
        if quality.worst:
            _print_slices(console, quality)


def _print_metric(console: Console, quality: Quality, metric: str, models: Sequence[ModelQuality]) -> None:
    decides = f", {'higher' if quality.higher_is_better else 'lower'} is better" if metric == quality.metric else ""
    count = max((m.n for m in models), default=0)
    console.print()
    title = Text(f"{quality.evaluation}: {metric}", style="bold")
    console.print(title + Text(f"{decides} (mean of {count:,}, 95 % interval)", style="not bold"), soft_wrap=True)
    table = grid("left", "left", "right", "whole", "whole")
    order = {"candidate": 0, "champion": 1, "baseline": 2}
    for model in sorted(models, key=lambda m: order.get(m.role, 3)):
        style = "bold" if model.role == "candidate" else ""
        table.add_row("", Text(model.model, style=style), *_numbers(model.mean, model.low, model.high), model.role)
        for lift in model.lifts:
            verdict = Text(lift.verdict, style=_VERDICTS[lift.verdict])
            table.add_row("", f"  over {lift.over}", *_numbers(lift.mean, lift.low, lift.high, sign="+"), verdict)
    console.print(table)


def _print_slices(console: Console, quality: Quality) -> None:
    console.print()
    console.print(f"Where it is worst ({quality.metric}):", style="bold")
    rows = [(f"{s.column} = {s.value}", *_numbers(s.mean, s.low, s.high), f"n = {s.n:,}") for s in quality.worst]
    console.print(indented(grid("left", "left", "right", "whole", "whole"), rows))


def _numbers(mean: float | None, low: float | None, high: float | None, *, sign: str = "") -> tuple[str, str]:
    if mean is None:
        return "not finite", ""
    if low is None or high is None:
        return f"{mean:{sign}.4g}", "interval unknown"
    return f"{mean:{sign}.4f}", f"{low:{sign}.4f} to {high:{sign}.4f}"


def print_checks(console: Console, checks: Sequence[CheckResult], *, is_long: bool = False) -> None:
    """Print how many checks passed, and those that did not with what they found; all of them when `is_long`."""
    failed = [c for c in checks if not c.passed]
    if not checks:
        return
    console.print()
    passed = f"{len(checks) - len(failed)} of {counted(len(checks), 'check')} passed"
    console.print(Text(passed, style="bold red" if failed else "bold"))
    shown = sorted(checks, key=lambda c: c.passed) if is_long else failed
    rows = [(state_text("passed" if c.passed else "failed", console), c.name, c.message) for c in shown]
    if rows:
        console.print(indented(grid("left", "whole", "left", "fold"), rows))


def print_kept(console: Console, found: Sequence[Evidence], now: datetime) -> None:
    """Print what was measured or shown of a release after it was made, in a line each."""
    rows = []
    for one in found:
        state = Text("") if one.passed is None else state_text("passed" if one.passed else "failed", console)
        rows.append((state, one.kind, _kept_text(one), Text(when(one.at, now), style="dim")))
    if rows:
        console.print()
        console.print("Measured and shown since:", style="bold")
        console.print(indented(grid("left", "whole", "left", "fold", "whole"), rows))


def _kept_text(one: Evidence) -> str:
    if one.kind not in {"load", "drill"}:
        return ""
    words, records = (import_quickly(f"penstock.project.capacity.{name}") for name in ("words", "records"))
    if one.kind == "load":
        load = records.load_of(one.figures)
        return "" if load is None else str(words.knee_said(load))
    drill = records.drill_of(one.figures)
    return "" if drill is None else str(words.drill_said(drill))


def print_failures(console: Console, failures: Mapping[str, Failure]) -> None:
    """Print what failed and is no check: the user's own traceback first, then what it means and what to do."""
    for failure in failures.values():
        if failure.kind == "check":
            continue
        console.print()
        if failure.traceback:
            console.print(failure.traceback.rstrip(), soft_wrap=True)
            console.print()
        console.print(Text("Failed: ", style="bold red") + Text(failure.message, style="not bold"), soft_wrap=True)
        if failure.hint:
            console.print(f"Hint: {failure.hint}", soft_wrap=True)
