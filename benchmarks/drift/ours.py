"""Penstock as one of those that judge windows: alarms, power and delay over many streams."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from benchmarks.drift.streams import CHANGES, Change, Kind, Stream, shift

from penstock.monitoring.drift.compare import Budget, Reference, Seen, compare
from penstock.monitoring.profiles.profile import Profile, profile

WINDOWS = 56
LOOKS = 10
# Windows after which the reference is made anew; a monitor does so for each, at many times the cost.
REFRESH = 5
BUDGET = Budget(false_alarms=0.01)


@dataclass
class Counts:
    """What came of some streams of one kind.

    Attributes:
        looks: Unchanged windows that were looked at.
        alarms: Those in which any column alarmed.
        tried: Windows that were looked at with each of the changes.
        found: By change, the windows in which the changed column alarmed.
        delays: By size of shift, windows until the first alarm; None where there was none within those looked at.
        columns: Which columns alarmed falsely, and why.
    """

    looks: int = 0
    alarms: int = 0
    tried: int = 0
    found: dict[str, int] = field(default_factory=dict)
    delays: dict[str, list[int | None]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)

    def add(self, other: "Counts") -> None:
        """Add what came of other streams."""
        self.looks += other.looks
        self.alarms += other.alarms
        self.tried += other.tried
        for name, number in other.found.items():
            self.found[name] = self.found.get(name, 0) + number
        for name, delays in other.delays.items():
            self.delays.setdefault(name, []).extend(delays)
        self.columns += other.columns


def judged(kind: Kind, rows: int, seed: int, *, windows: int = WINDOWS, looks: int = LOOKS) -> Counts:
    """Look at the windows of one stream in turn, as a monitor does: those without alarm join the reference."""
    stream = Stream(kind, rows, seed)
    seen = [_next(stream)[0] for _ in range(windows)]
    reference = Reference(seen)
    counts = Counts()
    for look in range(looks):
        window, frame = _next(stream)
        if look % REFRESH == 0:
            reference = Reference(seen[-windows:])
        if not look:
            counts.add(_with_changes(reference, window, frame, seed))
        found = [one for one in compare(reference, window, budget=BUDGET, subject="") if one.is_alarm]
        alarms = [f"{one.subject[1:]} {one.evidence.get('feature', one.kind)}" for one in found]
        counts.add(Counts(looks=1, alarms=int(bool(found)), columns=alarms))
        if not found:
            seen.append(window)
    return counts


def delayed(kind: Kind, rows: int, seed: int, size: float, *, most: int = 10) -> Counts:
    """Shift one column from some window on and count the windows until it alarms."""
    stream, change = Stream(kind, rows, seed), shift(size)
    seen = [_next(stream)[0] for _ in range(WINDOWS)]
    rng = np.random.default_rng(seed)
    for look in range(1, most + 1):
        window, frame = _next(stream)
        changed = _with(window, frame, change, rng)
        found = compare(Reference(seen[-WINDOWS:]), changed, budget=BUDGET, subject="")
        if any(one.subject == f".{change.column}" for one in found):
            return Counts(delays={change.name: [look]})
        if not any(one.is_alarm for one in found):
            seen.append(changed)
    return Counts(delays={change.name: [None]})


def quartiles(delays: Sequence[int | None]) -> str:
    """Return the median delay in windows, and how many streams alarmed."""
    median = float(np.median([np.inf if one is None else one for one in delays]))
    found = sum(one is not None for one in delays)
    return f"{median:.0f} ({found} of {len(delays)})" if np.isfinite(median) else f"> 10 ({found} of {len(delays)})"


def _next(stream: Stream) -> tuple[Seen, pl.DataFrame]:
    start, frame = stream.start(), stream.rows()
    return Seen(start=start, profile=profile(frame)), frame


def _with_changes(reference: Reference, window: Seen, frame: pl.DataFrame, seed: int) -> Counts:
    """Look at the window once more with each of the changes."""
    counts = Counts(tried=1)
    for change in CHANGES:
        changed = _with(window, frame, change, np.random.default_rng([seed, 1]))
        found = compare(reference, changed, budget=BUDGET, subject="")
        counts.found[change.name] = int(any(one.subject == f".{change.column}" for one in found))
    return counts


def _with(window: Seen, frame: pl.DataFrame, change: Change, rng: np.random.Generator) -> Seen:
    other = change.make(frame[change.column], rng).alias(change.column)
    columns = window.profile.columns | profile(other.to_frame()).columns
    return Seen(start=window.start, profile=Profile(rows=window.profile.rows, columns=columns))
