"""What a rehearsal is told and what it leaves: plain records, the same for the same arguments.

Everything here derives from the data, the simulated time and the seed. What depends on the machine (CPU seconds) is in
`Measured` and nowhere else.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.worker.rehearsal.faults.plans import FaultName

ArmName = Literal["policy", "never", "daily"]
ARMS: tuple[ArmName, ...] = ("policy", "never", "daily")
# What is compared with: "policy" is the pipeline as its engineer wants it kept.
OTHERS: tuple[ArmName, ...] = ("never", "daily")
FORMAT = 1


class Plan(Record, frozen=True, kw_only=True):
    """The arguments of a rehearsal; the same plan in the same folder is the same rehearsal.

    Attributes:
        start: The first release is made of what was known then, UTC.
        steps: How many steps of time.
        step_s: Length of a step in seconds: once per step the clock is set and what is due is done.
        asks: Requests per step, as far as the rows of the step have people to ask.
        seed: Of everything drawn.
        params: Run parameters, "step.name" to value, over those of the policy.
        others: Arms beside the policy's own, in their order.
        plant: Faults that are planted in what is replayed.
    """

    pipeline: str
    start: datetime
    steps: int
    step_s: float = 86_400.0
    asks: int = 60
    seed: int = 0
    params: dict[str, Any] = {}
    others: tuple[ArmName, ...] = OTHERS
    plant: tuple[FaultName, ...] = ()

    @property
    def end(self) -> datetime:
        """When the last step ends."""
        return self.at(self.steps)

    @property
    def arms(self) -> tuple[ArmName, ...]:
        """All arms."""
        return ("policy", *self.others)

    def at(self, step: int) -> datetime:
        """Return when a step begins; the one before ends then."""
        return self.start + timedelta(seconds=self.step_s * step)


class Retrained(Record, frozen=True, kw_only=True):
    """A retrain of an arm.

    Attributes:
        cause: "new_data:ratings@8".
        outcome: "succeeded", "refused" by a check, or "failed".
        release: The release that stands after it, None when it made none.
        is_new: It made that release.
        said: What refused it, or why it failed.
    """

    cause: str
    outcome: str
    release: str | None = None
    is_new: bool = False
    said: str = ""


class Skipped(Record, frozen=True, kw_only=True):
    """A retrain that was not made, and why not."""

    cause: str
    reason: str


class Day(Record, frozen=True, kw_only=True):
    """What a step of an arm came to.

    Attributes:
        step: Its number from 0.
        at: When it ended: the time of its tick.
        answered_by: The release that answered during it.
        live: The release that was live after its tick.
        rows: Rows of each dataset after it, where it was looked for.
        quarantined: Rows of each dataset that its intake set aside, where there were any.
        retrains: What was trained.
        skipped: What was not trained.
        problems: What went wrong while it was looked after.
    """

    step: int
    at: datetime
    answered_by: str
    live: str
    rows: dict[str, int] = {}
    quarantined: dict[str, int] = {}
    retrains: tuple[Retrained, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    problems: tuple[str, ...] = ()


class Quality(Record, frozen=True, kw_only=True):
    """The mean outcome of predictions whose truth is whole, with its 95 % interval; None where n is too small.

    Attributes:
        n: Predictions.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


class Asked(Record, frozen=True, kw_only=True):
    """What became of the requests of one step.

    Attributes:
        step: Its number.
        asked: Requests.
        fallbacks: Those that the fallback answered.
        failed: Those that got no answer.
        quality: Mean outcome, by outcome function.
    """

    step: int
    asked: int
    fallbacks: int = 0
    failed: int = 0
    quality: dict[str, Quality] = {}


class Made(Record, frozen=True, kw_only=True):
    """A release of an arm.

    Attributes:
        release: "movies@3".
        at: When it went live.
        offline: Mean of the evaluation's metric by model ("recommender", "champion", ...), with its interval.
        known_until: Newest time in the data that it answers from, where a dataset has times.
    """

    release: str
    at: datetime
    offline: dict[str, Quality] = {}
    known_until: datetime | None = None


class Arm(Record, frozen=True, kw_only=True):
    """All that became of one arm.

    Attributes:
        retrains: How many runs were begun for a retrain.
        skipped: How many causes were skipped.
        quality: Mean outcome over all its answers, by outcome function.
    """

    name: ArmName
    releases: tuple[Made, ...]
    days: tuple[Day, ...]
    asked: tuple[Asked, ...]
    retrains: int
    skipped: int
    quality: dict[str, Quality]


class Compared(Record, frozen=True, kw_only=True):
    """Two arms on the same requests: outcome of the policy's answer minus the other's, request by request.

    Attributes:
        outcome: The outcome function.
        other: The arm compared with.
        ours: Mean outcome of the policy's answers over the pairs.
        theirs: Mean outcome of the other's.
        difference: Mean of the differences, with the wider of two 95 % intervals: requests of one person, and those of
            one step, are taken as blocks, since they are not independent.
        retrains: Retrains of the policy over those of the other; None where the other made none.
    """

    outcome: str
    other: ArmName
    ours: float | None
    theirs: float | None
    difference: Quality
    retrains: float | None = None


class Newcomer(Record, frozen=True, kw_only=True):
    """How soon what is new in the data could be answered, over one column that answers name things by.

    Attributes:
        column: "movie_id".
        new: Values that were first seen during the rehearsal.
        known: Those that a later release answers from.
        waited: By number of releases between the first row and the one that knows it (1: within one cycle), how many.
        days: Mean days from the first row to the release that knows it.
        shown: Values that were part of an answer.
    """

    column: str
    new: int
    known: int
    waited: dict[str, int]
    days: float | None
    shown: int


class Rehearsal(Record, frozen=True, kw_only=True):
    """The record of a rehearsal: what reports, pictures and tests are made of."""

    format: int = FORMAT
    plan: Plan
    arms: tuple[Arm, ...]
    compared: tuple[Compared, ...]
    newcomers: tuple[Newcomer, ...] = ()

    def arm(self, name: ArmName) -> Arm:
        """Return an arm; KeyError when it took no part."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(name)


class Measured(Record, frozen=True, kw_only=True):
    """What a rehearsal took on this machine; no part of the record.

    Attributes:
        cpu_s: CPU seconds of all processes by arm and part of a day.
        wall_s: From the first to the last step, as far as it went on without a break.
    """

    cpu_s: dict[str, dict[str, float]]
    wall_s: dict[str, float]


def read_rehearsal(folder: Path) -> Rehearsal:
    """Return the record in the folder of a rehearsal that has ended.

    Raises:
        InputError: It has not ended there, or was written by another version.
    """
    path = folder / "record.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Rehearsal)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            f"{path} is not the record of a rehearsal: {error}.", hint="run it: penstock rehearse"
        ) from error


def arm_home(folder: Path, name: ArmName) -> Path:
    """Return the store of an arm."""
    return folder / name / "home"
