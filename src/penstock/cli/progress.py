"""What a run looks like while it goes on: live lines in a terminal, plain lines in a pipe, nothing when quiet.

The platform's own nodes (built-in checks, summaries, frozen inputs) are counted, and named only when they fail.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from penstock.cli.tables import counted, first_line, grid, seconds, state_text, why
from penstock.core.refs import RunRef
from penstock.engine.events import Event, Listener, NodeEnded, RunStarted, UnitEnded, UnitStarted, Waiting, ignore
from penstock.pipeline.graph import Graph

_NAME = 30


@contextmanager
def watch(graph: Graph, console: Console, *, is_quiet: bool = False, is_verbose: bool = False) -> Iterator[Listener]:
    """Give a listener that shows a run while the block lasts.

    Args:
        graph: The pipeline that runs.
        console: Where to write.
        is_quiet: Show nothing.
        is_verbose: Show the platform's own nodes too.
    """
    if is_quiet:
        yield ignore
        return
    lines = _Lines(graph, console, is_verbose=is_verbose)
    if not console.is_terminal:
        yield lines.tell
        return
    with Live(lines, console=console, transient=True, refresh_per_second=8):
        yield lines.tell


class _Lines:
    """Prints what ended, and draws what runs.

    Args:
        graph: The pipeline that runs.
        console: Where to write.
        is_verbose: Show the platform's own nodes too.
    """

    def __init__(self, graph: Graph, console: Console, *, is_verbose: bool) -> None:
        self._console = console
        self._is_verbose = is_verbose
        self._width = min(_NAME, max((len(n.name) for n in graph.nodes), default=0))
        self._began = time.monotonic()
        self._since: dict[str, float] = {}
        self._running: dict[tuple[str, str], UnitStarted] = {}
        self._waited: set[str] = set()
        self._failures: dict[str, str] = {}
        self._total = 0
        self._ended = 0

    def tell(self, event: Event) -> None:
        """Take in what happened."""
        match event:
            case RunStarted():
                self._total = event.total
                about = f"Run {RunRef(event.run_id)} of {event.pipeline}"
                self._console.print(Text(about, style="bold"))
            case UnitStarted():
                self._start(event)
            case UnitEnded():
                self._running.pop((event.node, event.part), None)
                self._note_failure(event)
            case Waiting():
                if event.node not in self._waited:
                    self._waited.add(event.node)
                    self._line("waiting", event.node, None, "another process is doing this; waiting for its result")
            case NodeEnded():
                self._end(event)

    def _note_failure(self, event: UnitEnded) -> None:
        if event.failure is None:
            return
        said = first_line(event.failure.message)
        if event.will_retry:
            self._line("retrying", event.node, None, said)
            return
        if event.part and event.node not in self._failures:  # its other parts may take hours yet
            self._line("failed", event.node, None, said)
        self._failures.setdefault(event.node, said)

    def _start(self, event: UnitStarted) -> None:
        self._running[event.node, event.part] = event
        is_first = event.node not in self._since
        self._since.setdefault(event.node, time.monotonic())
        if is_first and not self._console.is_terminal and self._is_shown(event.node):
            self._line("running", event.node, None, event.reason)

    def _end(self, event: NodeEnded) -> None:
        self._ended += 1
        if not self._is_shown(event.node) and event.state.value not in {"failed", "cancelled"}:
            return
        began = self._since.get(event.node)
        wall_s = None if began is None else time.monotonic() - began
        self._line(event.state.value, event.node, wall_s, self._failures.get(event.node) or _told(event))

    def _is_shown(self, node: str) -> bool:
        return self._is_verbose or ":" not in node

    def _line(self, state: str, node: str, wall_s: float | None, text: str) -> None:
        table = self._table()
        table.columns[2].width = max(self._width, len(node))  # a name is never broken in two
        table.add_row("", state_text(state, self._console), node, seconds(wall_s), text)
        self._console.print(table)

    def _table(self) -> Table:
        table = grid("left", "whole", "left", "right", "fold")
        table.columns[2].width = self._width
        table.columns[3].width = len("12 min 05 s")
        return table

    def __rich__(self) -> Group:
        table, now = self._table(), time.monotonic()
        for (node, part), event in list(self._running.items()):
            text = f"{part}: {event.reason}" if part else event.reason
            table.add_row("", state_text("running", self._console), node, seconds(now - self._since[node]), text)
        bar = grid("left", "whole", "whole")
        width = max(10, min(40, self._console.width - 36))
        told = f"{self._ended} of {self._total} nodes, {seconds(now - self._began)}"
        bar.add_row("", ProgressBar(total=max(1, self._total), completed=self._ended, width=width), told)
        return Group(table, bar)


def _told(event: NodeEnded) -> str:
    if event.dataset is not None:
        aside = event.dataset.rows_quarantined if event.is_new_version else 0
        added = counted(event.dataset.rows_added, "new row") if event.is_new_version else "no new rows"
        return f"{event.dataset}: {added}" + (f", {aside:,} set aside (see the quarantine)" if aside else "")
    broken = [c.name for c in event.checks if not c.passed]
    if broken:  # what they found is told once, at the end
        return "did not pass" if broken == [event.node] else f"{', '.join(broken)} did not pass"
    parts = f" ({event.units} parts)" if event.units > 1 and event.role != "evaluate" else ""
    return why(event.state.value, event.reason) + parts
