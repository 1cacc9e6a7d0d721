"""Reports as a person reads them in a console or notebook: text, and HTML of the same.

Belongs here: plain rendering of what a report holds. Does not: deciding anything, colours of a terminal (`cli`).
"""

from collections.abc import Sequence
from html import escape

from penstock.core.records import CheckResult, Failure
from penstock.engine.plan import PlanLine

Row = tuple[str, ...]


def table_text(rows: Sequence[Row]) -> str:
    """Return rows as aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def table_html(caption: str, heads: Row, rows: Sequence[Row]) -> str:
    """Return rows as an HTML table; every cell is escaped."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def plan_rows(lines: Sequence[PlanLine]) -> list[Row]:
    """Return one row per node: what would happen, to what, and why."""
    return [(line.action, line.node, line.reason) for line in lines]


def node_rows(states: dict[str, str], failures: dict[str, Failure]) -> list[Row]:
    """Return one row per node: what became of it, and of what it failed."""
    return [
        (state, node, failures[node].message.partition("\n")[0] if node in failures else "")
        for node, state in states.items()
    ]


def check_rows(checks: Sequence[CheckResult]) -> list[Row]:
    """Return one row per check."""
    return [("passed" if check.passed else "FAILED", check.name, check.message) for check in checks]
