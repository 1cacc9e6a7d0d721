"""How things look in a terminal: times, sizes and numbers for people; states by sign, word and colour.

Belongs here: shapes that several commands print. A colour or a sign never says a thing alone.
"""

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

# Sign, sign where the terminal has only ASCII, word, style.
_STATES = {
    "succeeded": ("✓", "+", "done", "green"),
    "passed": ("✓", "+", "passed", "green"),
    "reused": ("=", "=", "reused", "dim"),
    "reuse": ("=", "=", "reuse", "dim"),
    "run": ("▶", ">", "run", "bold cyan"),
    "depends": ("?", "?", "depends", "yellow"),
    "failed": ("✗", "x", "FAILED", "bold red"),
    "skipped": ("-", "-", "skipped", "yellow"),
    "cancelled": ("!", "!", "cancelled", "yellow"),
    "lost": ("!", "!", "lost", "bold red"),
    "running": ("▶", ">", "running", "cyan"),
    "done": ("✓", "+", "done", "green"),
    "rolled_back": ("✗", "x", "taken back", "bold red"),
    "replaced": ("-", "-", "replaced", "dim"),
    "paused": ("=", "=", "paused", "yellow"),
    "waiting": ("…", ".", "waiting", "yellow"),
    "retrying": ("!", "!", "retrying", "yellow"),
    "killed": ("✗", "x", "killed", "bold red"),
    "timed_out": ("✗", "x", "too long", "bold red"),
    "not reached": ("-", "-", "not reached", "dim"),
}
_PIPE_WIDTH = 120
_ORDINARY = 1 / 1.3, 1.3  # within these factors nobody needs to be told
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def open_console(*, is_error: bool = False) -> Console:
    """Return the console of this process; in a pipe it is wider, so that fewer lines of a log are broken."""
    stream = sys.stderr if is_error else sys.stdout
    console = Console(stderr=is_error, highlight=False, markup=False, emoji=False)
    if not stream.isatty():
        console.width = max(_PIPE_WIDTH, console.width)
    console.push_render_hook(_NoPadding())
    return console


class _NoPadding(RenderHook):
    """Ends the lines of tables at their last word: what pads a column is noise to a pipe, a diff, a copy."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Trimmed(found) if isinstance(found, Table) else found for found in renderables]


class _Trimmed:
    def __init__(self, table: Table) -> None:
        self._table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self._table, options, pad=False):
            while line and not line[-1].text.strip():
                line.pop()
            if line:
                last = line.pop()
                yield from line
                yield Segment(last.text.rstrip(), last.style)
            yield Segment.line()


def write_json(value: object) -> None:
    """Write one JSON document to standard output."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def state_text(state: str, console: Console) -> Text:
    """Return a state as sign and word, the same width for all that stand in one column."""
    sign, plain, word, style = _STATES.get(state, ("?", "?", state, ""))
    return Text(f"{sign if console.encoding.startswith('utf') else plain} {word:<8}", style=style)


def grid(*columns: str) -> Table:
    """Return a table without lines; a column is "left", "right", "whole" (never wrapped) or "fold" (takes the rest)."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for kind in columns:
        match kind:
            case "right":
                table.add_column(justify="right", no_wrap=True)
            case "fold":
                table.add_column(overflow="fold", ratio=1)
            case "whole":
                table.add_column(no_wrap=True)
            case _:
                table.add_column(overflow="fold")
    return table


def indented(table: Table, rows: Iterable[Sequence[str | Text]]) -> Table:
    """Fill a table whose first column is an indent."""
    for row in rows:
        table.add_row("", *row)
    return table


def seconds(value: float | None) -> str:
    """Return "0.03 s", "12 s", "2 min 05 s", "1 h 03 min"; "" for None."""
    if value is None:
        return ""
    if value < 10:
        return f"{value:.1f} s" if value >= 1 else f"{value:.2f} s"
    whole = round(value)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02} min"


def size(value: int | None) -> str:
    """Return "812 KB", "1.4 GB"; "" for None."""
    if not value:
        return ""
    amount, unit = float(value), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if amount < 1000:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"


def when(moment: datetime, now: datetime) -> str:
    """Return "3 min ago" for what is less than a day old, the local date and time for the rest."""
    age = (now - moment).total_seconds()
    if age < _MINUTE:
        return "just now"
    if age < _HOUR:
        return f"{age // _MINUTE:.0f} min ago"
    if age < _DAY:
        return f"{age // _HOUR:.0f} h ago"
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def against_usual(factor: float | None, usual_s: float | None) -> str:
    """Return "1.8x the usual 9.4 s CPU" for work that took clearly more or less than it does; "" for the rest."""
    if factor is None or usual_s is None or _ORDINARY[0] < factor < _ORDINARY[1]:
        return ""
    usual = f"{usual_s * 1000:.3g} ms" if usual_s < 0.1 else seconds(usual_s)
    return f"{factor:.1f}x the usual {usual} CPU"


def counted(count: int, noun: str) -> str:
    """Return "1 check", "3 checks"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def why(state: str, reason: str) -> str:
    """Return the reason for a node's state; a skipped one has none of its own."""
    return reason or ("something it needs did not succeed" if state == "skipped" else "")


def first_line(text: str) -> str:
    """Return the first line of a message."""
    return text.partition("\n")[0]
