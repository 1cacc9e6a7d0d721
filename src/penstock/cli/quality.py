"""What an evaluation found, as tables for a terminal: models against each other, and slice by slice."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from penstock.project.running import RunReport

_SLICES = 5
_DIGITS = 3


def quality_tables(report: RunReport) -> Iterator[Table | str]:
    """Yield, for each evaluation, lines and tables with its means with intervals and lifts, then the slices of its main metric."""
    for node in report.manifest.graph.nodes:
        kept = report.outcome.kept.get(f"evidence:{node.name}", {}).get("") if node.role == "evaluate" else None
        if kept is None or not kept.facts.get("table"):
            continue
        rows: list[dict[str, Any]] = kept.facts["table"]
        yield from _means(node.name, rows)
        metric = str(node.options["metric"])
        sliced = [row for row in kept.facts["metrics"] if row["slice"] and row["metric"] == metric]
        if sliced:
            yield from _slices(sliced, [row["model"] for row in rows if row["metric"] == metric], metric)


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 2))
    for column in columns:
        table.add_column(column, header_style="dim", justify="right" if column == "examples" else "left")
    return table


def _means(name: str, rows: list[dict[str, Any]]) -> Iterator[Table | str]:
    yield f"  {name}, {rows[0]['n']:,} examples: means with their 95 % intervals"
    table = _table("metric", "model", "mean")
    for row in rows:
        is_candidate = row["role"] == "candidate"
        model = row["model"] if is_candidate else f"{row['model']} ({row['role']})"
        table.add_row(row["metric"], model, _interval(row), style="bold" if is_candidate else "")
    yield table
    for row in rows:
        for lift in row["lifts"]:
            yield f"  {row['metric']}: {row['model']} over {lift['over']}, paired: {_lift(lift)}"


def _slices(rows: list[dict[str, Any]], models: list[str], metric: str) -> Iterator[Table | str]:
    yield f"\n  {metric} slice by slice, the largest of each"
    table = _table("slice", "examples", *models)
    for column in dict.fromkeys(row["slice"] for row in rows):
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for row in rows:
            if row["slice"] == column:
                found.setdefault(str(row["value"]), {})[row["model"]] = row
        sizes = {value: max(row["n"] for row in found[value].values()) for value in found}
        largest = sorted(found, key=lambda value: -sizes[value])
        more = f", {len(largest) - _SLICES} more" if len(largest) > _SLICES else ""
        table.add_row(f"[dim]{column}{more}[/]")
        for value in largest[:_SLICES]:
            means = [_interval(found[value][model]) if model in found[value] else "" for model in models]
            table.add_row(f"  {value}", f"{sizes[value]:,}", *means)
    yield table


def _lift(lift: dict[str, Any]) -> str:
    style = "green" if lift["low"] > 0 else "red" if lift["high"] < 0 else "yellow"
    return f"[{style}]{lift['mean']:+.{_DIGITS}f}[/] {_bounds(lift)}"


def _interval(row: dict[str, Any]) -> str:
    return "no value" if row["mean"] is None else f"{row['mean']:.{_DIGITS}f} {_bounds(row)}"


def _bounds(row: dict[str, Any]) -> str:
    if row["low"] is None or row["high"] is None:
        return "(too few)"
    return f"({row['low']:.{_DIGITS}f} to {row['high']:.{_DIGITS}f})"
