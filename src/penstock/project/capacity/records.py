"""What a load test or a drill came to, as it is kept with the release and shown."""

import math
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from penstock.core.records import Record
from penstock.project.capacity.traffic import Forecast
from penstock.serving.load.knee import Knee
from penstock.serving.load.promise import Promise, Step
from penstock.serving.load.queueing import ServiceTime

T = TypeVar("T")

# Servers are planned to be no fuller than this, so that one of them may be away for a moment.
FILL = 0.8


class Needs(Record, frozen=True, kw_only=True):
    """What a rate takes.

    Attributes:
        workers: Worker processes in all, each filled to `FILL` of its knee at most.
        machines: Machines like the one that measured, a worker per core; each is a replica of the server.
    """

    rate_per_s: float
    workers: int
    machines: int

    @property
    def said(self) -> str:
        """In a few words."""
        workers = f"{self.workers:,} worker{'s' if self.workers > 1 else ''}"
        return workers if self.machines == 1 else f"{workers} on {self.machines:,} machines like this one"


class Load(Record, frozen=True, kw_only=True):
    """A load test: the curve, its knee, and what follows.

    Attributes:
        release: "movies@3".
        workers: Processes that answered.
        cores: Of the machine; the generator ran on the same.
        asked: Where the requests came from, and how many different ones there were.
        steps: In the order in which they were tried.
        service: The model of the queue, fitted to requests asked one at a time and without a pause.
        saturated_per_s: Answers a second to callers who ask without a pause, however late.
        busiest_per_s: Requests a second in the busiest minute of the log; None where nobody asked yet.
        forecast: When that grows above the knee.
        target: What was asked for with `--target`.
        is_whole: False where it was broken off.
    """

    release: str
    at: datetime
    promise: Promise
    workers: int
    cores: int
    asked: str
    steps: tuple[Step, ...]
    knee: Knee
    service: ServiceTime | None = None
    saturated_per_s: float | None = None
    busiest_per_s: float | None = None
    peak_factor: float | None = None
    forecast: Forecast | None = None
    target: Needs | None = None
    is_whole: bool = True

    @property
    def at_knee(self) -> Step | None:
        """The step at the knee."""
        return next((step for step in reversed(self.steps) if step.rate_per_s == self.knee.rate_per_s), None)

    @property
    def headroom(self) -> float | None:
        """How many times the busiest minute fits under the knee; None where one of them is not known."""
        if self.knee.rate_per_s is None or not self.busiest_per_s:
            return None
        return self.knee.rate_per_s / self.busiest_per_s

    @property
    def passed(self) -> bool:
        """Whether the promise is kept at the rates that are asked for: the busiest minute, and the target."""
        asked = max(self.busiest_per_s or 0.0, 0.0 if self.target is None else self.target.rate_per_s)
        return self.is_whole and self.knee.rate_per_s is not None and self.knee.rate_per_s >= asked


def needs_of(rate_per_s: float, *, knee_per_s: float, workers: int, cores: int) -> Needs:
    """Return what a rate takes, where `workers` processes keep the promise up to `knee_per_s`.

    Args:
        rate_per_s: The rate.
        knee_per_s: Of the workers that were measured, together.
        workers: How many those were.
        cores: Of one machine.
    """
    count = max(1, math.ceil(rate_per_s / (FILL * knee_per_s / workers) - 1e-9))
    return Needs(rate_per_s=rate_per_s, workers=count, machines=math.ceil(count / max(cores, workers)))


# The parts that a whole drill has.
PARTS = ("shape", "bad requests", "kill", "slow store", "clock")


class Expectation(Record, frozen=True, kw_only=True):
    """Something that must be so.

    Attributes:
        expected: In words.
        found: What was found, with its figures.
    """

    expected: str
    found: str
    passed: bool


class Part(Record, frozen=True, kw_only=True):
    """One part of a drill."""

    name: str
    did: str
    expectations: tuple[Expectation, ...]

    @property
    def passed(self) -> bool:
        """Whether all that was expected is so."""
        return all(one.passed for one in self.expectations)


class Drill(Record, frozen=True, kw_only=True):
    """A drill of a release.

    Attributes:
        rate_per_s: The steady rate.
        is_whole: False where it was broken off.
    """

    release: str
    at: datetime
    promise: Promise
    workers: int
    rate_per_s: float
    parts: tuple[Part, ...]
    is_whole: bool = True

    @property
    def passed(self) -> bool:
        """Whether every part was done and passed."""
        return self.is_whole and {part.name for part in self.parts} == set(PARTS) and all(p.passed for p in self.parts)


def load_of(figures: dict[str, Any]) -> Load | None:
    """Return a load test from the figures of its evidence; None where another version wrote others."""
    return _read(figures, Load)


def drill_of(figures: dict[str, Any]) -> Drill | None:
    """Return a drill from the figures of its evidence; None where another version wrote others."""
    return _read(figures, Drill)


def _read(figures: dict[str, Any], kind: type[T]) -> T | None:
    try:
        return msgspec.convert(figures, kind)
    except msgspec.ValidationError:
        return None
