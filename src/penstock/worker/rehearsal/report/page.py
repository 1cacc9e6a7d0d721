"""A report as one file of HTML that needs nothing beside it, and as Markdown: the same lines, tables and pictures."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from penstock.worker.rehearsal.report import pictures, tables
from penstock.worker.rehearsal.report.figures import Figure, figures
from penstock.worker.rehearsal.report.records import Report
from penstock.worker.rehearsal.report.tables import Table
from penstock.worker.rehearsal.report.words import heading, summary

_STYLE = Path(__file__).with_name("page.css")
_LONG = 44
# What each section asks, its pictures, and its tables.
_SECTIONS = (
    ("Did it stay good?", ("quality", "difference", "offline"), ("The arms", "Worst slices")),
    ("Was it fresh?", ("freshness",), ()),
    ("When did it retrain, and why?", ("retrains", "cost"), ("Why",)),
    ("What went wrong?", ("alerts",), ("Planted faults", "Alerts")),
    ("Week by week", (), ("Week by week",)),
)


def write_page(report: Report) -> str:
    """Return the report as a page: its own style, its pictures inside, no script, nothing fetched."""
    shown = {one.name: one for one in figures(report)}
    known = _tables(report)
    sections = [
        (title, [shown[name] for name in names if name in shown], [known[name] for name in own if known[name].rows])
        for title, names, own in _SECTIONS
    ]
    sections = [one for one in sections if one[1] or one[2]]
    links = "".join(f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title, _, _ in sections)
    title = f"Rehearsal of {report.pipeline}"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{escape(title)}</title><meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<style>{_STYLE.read_text(encoding='utf-8')}{pictures.CSS}</style>"
        f"<header><h1>{escape(title)}</h1><p>{escape(heading(report))}</p><nav>{links}</nav></header>"
        f"<main><h2>In short</h2><div class=card>{_summary(report)}</div>"
        + "".join(_section(*one) for one in sections)
        + "</main><footer>Everything here was read from what the rehearsal recorded in its ledger and its lake. "
        "Shaded: faults that were planted. Bands and bars: 95 % intervals.</footer></html>\n"
    )


def write_markdown(report: Report) -> str:
    """Return the report as Markdown that a terminal shows as well; pictures lie beside it as files."""
    parts = [f"# Rehearsal of {report.pipeline}\n", f"{heading(report)}\n"]
    parts.append("\n".join(f"* **{name}**: {_cell(said)}" for name, said in summary(report)) + "\n")
    shown = {one.name: one for one in figures(report)}
    known = _tables(report)
    for title, names, own in _SECTIONS:
        found = [known[name] for name in own if known[name].rows]
        drawn = [shown[name] for name in names if name in shown]
        if found or drawn:
            parts.append(f"## {title}\n")
        parts += [f"![{_cell(one.title)}: {_cell(one.said)}](pictures/{one.name}.svg)\n" for one in drawn]
        parts += [_markdown_table(table) for table in found]
    return "\n".join(parts)


def _tables(report: Report) -> dict[str, Table]:
    makers = (tables.arms, tables.weeks, tables.alerts, tables.planted, tables.reasons, tables.slices)
    return {table.name: table for table in (make(report) for make in makers)}


def _summary(report: Report) -> str:
    rows = "".join(
        f"<dt{f' class={name}' if name in {'kept', 'BROKEN'} else ''}>{escape(name)}</dt><dd>{escape(said)}</dd>"
        for name, said in summary(report)
    )
    return f"<dl>{rows}</dl>"


def _section(title: str, drawn: Sequence[Figure], found: Sequence[Table]) -> str:
    figure = "".join(
        f"<figure><figcaption>{escape(one.title)}</figcaption><p>{escape(one.said)}.</p>{one.svg}</figure>"
        for one in drawn
    )
    tables_of = "".join(
        (f"<h3>{escape(table.name)}</h3>" if table.name != title else "") + _table(table) for table in found
    )
    pictures_of = f"<div class=pictures>{figure}</div>" if figure else ""
    return f'<section id="{_anchor(title)}"><h2>{escape(title)}</h2>{pictures_of}{tables_of}</section>'


def _table(table: Table) -> str:
    head = "".join(f"<th scope=col>{escape(text)}</th>" for text in table.heads)
    long = [max((len(row[n]) for row in table.rows), default=0) > _LONG for n in range(len(table.heads))]
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=text' if is_long else ''}>{escape(cell)}</td>"
            for cell, is_long in zip(row, long, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    label = f'role=region tabindex=0 aria-label="{escape(table.name)}"'
    return f"<div class=wide {label}><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _markdown_table(table: Table) -> str:
    rows = [table.heads, tuple("---" for _ in table.heads), *table.rows]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("[", "\\[").replace("<", "&lt;")


def _anchor(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title.lower()).strip("-")
