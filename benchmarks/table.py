"""What a benchmark says: rows of a table, timings taken in turn with the peer's, and the machine they were taken on."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measured thing.

    Attributes:
        ours: What Penstock takes, in `unit`.
        peer: What the bare way takes, in `unit`; None when there is none.
        limit: What `ours`, or the ratio when `is_ratio`, must not exceed; None when nothing was promised.
        note: Where the figure comes from, in a few words.
    """

    what: str
    ours: float
    unit: str
    peer: float | None = None
    against: str = ""
    limit: float | None = None
    is_ratio: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How much longer or larger ours is than the peer's."""
        return None if not self.peer else self.ours / self.peer

    @property
    def is_met(self) -> bool | None:
        """Whether the promise is kept; None when nothing was promised."""
        judged = self.ratio if self.is_ratio else self.ours
        return None if self.limit is None or judged is None else judged <= self.limit

    @property
    def target(self) -> str:
        """The promise in words."""
        if self.limit is None:
            return ""
        return f"<= {self.limit:g}x" if self.is_ratio else f"< {self.limit:g} {self.unit}"


def in_turn(*arms: Callable[[], object], times: int = 5) -> list[float]:
    """Return the median seconds of each arm; they take turns, so that a busy moment falls on all of them."""
    taken: list[list[float]] = [[] for _ in arms]
    for _ in range(times):
        for arm, seconds in zip(arms, taken, strict=True):
            start = time.perf_counter()
            arm()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in taken]


def machine() -> str:
    """Return the machine in one line, with how busy it was."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    processor = models[0] if models else platform.machine()
    return (
        f"{processor}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, load {load:.1f}"
    )


def as_text(rows: Sequence[Row]) -> str:
    """Return the table as Markdown, which reads well in a terminal too."""
    heads = ("what", "ours", "bare", "ratio", "target", "met")
    cells = [heads, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    lines = [
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def as_data(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return the rows as plain data, with what follows from them."""
    return [{**asdict(row), "ratio": row.ratio, "target": row.target, "is_met": row.is_met} for row in rows]


def _cells(row: Row) -> tuple[str, ...]:
    peer = f"{_shown(row.peer)} {row.unit} ({row.against})" if row.peer is not None else ""
    ratio = f"{row.ratio:,.2f}x" if row.ratio is not None else ""
    met = {True: "yes", False: "NO", None: ""}[row.is_met]
    what = f"{row.what}; {row.note}" if row.note else row.what
    return what, f"{_shown(row.ours)} {row.unit}", peer, ratio, row.target, met


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
