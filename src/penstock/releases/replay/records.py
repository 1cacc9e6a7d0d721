"""What a replay is told and what it finds, as plain records: between processes, in the ledger, as JSON."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from penstock.core.records import Interval, Record
from penstock.store.ledger.evidence import Evidence

_NULL = msgspec.Raw(b"null")
NOT_FINITE = "not finite"
LATE = "late"
Outcome = Literal["answered", "fallback", "failed", "refused", "late"]
Kind = Literal["number", "items", "order", "category", "shape", "lost", "gained"]


class Recorded(Record, frozen=True, kw_only=True):
    """A request as it was served.

    Attributes:
        fields: Its fields, as JSON.
        answer: What was answered, as JSON.
        is_own: The serve function itself answered, neither late nor failed.
    """

    prediction_id: str
    at: datetime
    release: str
    serve: str
    fields: msgspec.Raw
    answer: msgspec.Raw
    is_own: bool


class Replayed(Record, frozen=True, kw_only=True):
    """What a release does with one recorded request.

    Attributes:
        outcome: "answered" by the serve function itself; "fallback" where it failed and its fallback answered; "failed"
            where neither did; "refused" where its fields do not take the request; "late" where it was given up and no
            fallback answered.
        error: Type of what the serve function raised; "not finite" for NaN or an infinity; "late" where it was given
            up; "" where it answered.
        said: What it raised, with the frames of the user's own code; for whoever owns the code.
        is_again: Asked once more, it failed again.
        left_out: Fields that it does not know were left out, since they had the default of the other release.
    """

    outcome: Outcome
    answer: msgspec.Raw = _NULL
    error: str = ""
    said: str = ""
    is_again: bool = False
    left_out: bool = False
    took_us: int = 0

    @property
    def has_answer(self) -> bool:
        """Whether the caller gets an answer."""
        return self.outcome in {"answered", "fallback"}


class Answering(Record, frozen=True, kw_only=True):
    """One of the two releases.

    Attributes:
        release: "movies@3"; of a run that made no release "r41".
        replayed: By request, in their order; fewer where the time was up.
        deadlines_s: By serve function with a fallback, how long it may take.
        tolerance: Relative and absolute tolerance within which its faster equivalents were proven equal.
        differing: Packages that its code imports, where another version is installed here.
    """

    release: str
    replayed: tuple[Replayed, ...]
    deadlines_s: dict[str, float] = {}
    tolerance: tuple[float, float] = (0.0, 0.0)
    differing: tuple[str, ...] = ()


class SideShown(Record, frozen=True, kw_only=True):
    """How one release did.

    Attributes:
        not_finite: Requests to which the serve function gave NaN or an infinity, whatever its fallback said then.
        over_deadline: Answers that took longer than the deadline, where the fallback would have answered.
        errors: Failures by type.
        median_us: Of the calls that answered, one after the other in one process; None without any.
    """

    release: str
    answered: int
    fallback: int
    failed: int
    refused: int
    late: int
    not_finite: int
    over_deadline: int = 0
    errors: dict[str, int] = {}
    median_us: float | None = None
    p99_us: float | None = None
    differing: tuple[str, ...] = ()


class Size(Record, frozen=True, kw_only=True):
    """By how much one answer changes.

    Attributes:
        kind: What changes most: a "number"; the "items" of a list, or their "order"; a "category" (text, yes or no);
            the "shape" (other fields, another length); "lost" where only the live release answers, "gained" where only
            the candidate does.
        magnitude: From 0 to 1 how large it is: of a number the relative difference, of items the share that is not in
            both lists, of an order how far items moved against how far they could, 1 otherwise.
        absolute: Largest difference of two numbers.
        relative: The largest relative one, |a - b| / max(|a|, |b|).
        items: Share of items that are in one list only.
        moved: By how many ranks the item that moved furthest did.
        where: Places that differ, as "[0].score".
    """

    kind: Kind
    magnitude: float
    absolute: float | None = None
    relative: float | None = None
    items: float | None = None
    moved: int | None = None
    where: tuple[str, ...] = ()


class Example(Record, frozen=True, kw_only=True):
    """One request whose answer changes; fields, answers and failures are left out where it is kept."""

    prediction_id: str
    serve: str
    size: Size
    before: Outcome
    after: Outcome
    fields: Any = None
    answer_before: Any = None
    answer_after: Any = None
    said: str = ""


class Spread(Record, frozen=True, kw_only=True):
    """How one measure of size is spread over the answers that change."""

    median: float
    p90: float
    largest: float


class SliceShown(Record, frozen=True, kw_only=True):
    """Requests that have something in common.

    Attributes:
        name: "genre=Drama", or of a pair of fields "genre=Drama and k=10".
        lift: The share that changes, over that of all requests.
        p: Chance of so many changes in as many requests drawn from all, adjusted for all slices that were looked at.
        is_sure: Changes concentrate here, and no slice above explains it.
    """

    name: str
    n: int
    changed: int
    share: float
    lift: float
    p: float
    is_sure: bool


class Replay(Record, frozen=True, kw_only=True):
    """What a candidate does with recorded requests, against the release that is compared with.

    Attributes:
        recorded: Requests that were there to choose from.
        sampled: Requests chosen.
        compared: Requests that both were asked; fewer where the time was up.
        left_out: Recorded requests that cannot be asked again, by the reason.
        changed: Requests whose answer is another, or that only one of the two answers.
        share: Their share, with the interval in which that of all traffic is.
        changed_ids: Their prediction ids; left out where it is kept.
        kinds: Changed answers by kind of change.
        bands: Changed answers by their magnitude.
        spreads: By measure of size, over the answers that have it.
        lost: Requests that the other release answers by itself, and the candidate does not.
        lost_again: Those of them that the candidate failed twice.
        gained: The reverse of lost.
        fell_back: Of the lost, those that the candidate's fallback answers.
        no_longer: Of `own` recorded answers of the compared release itself, those that it gives no longer.
        unknown_fields: Requests replayed without fields that the candidate does not know, as these had their default.
        sides: The compared release, then the candidate.
        slices: Where changes concentrate, the surest first; then the rest by share.
        judged: How many slices were looked at.
        examples: Of the largest changes.
        changed_serves: Changed answers and requests compared, by serve function.
    """

    candidate: str
    against: str
    pipeline: str
    recorded: int
    sampled: int
    compared: int
    since: datetime | None
    until: datetime | None
    left_out: dict[str, int] = {}
    changed: int = 0
    share: Interval | None = None
    changed_ids: tuple[str, ...] = ()
    kinds: dict[str, int] = {}
    bands: dict[str, int] = {}
    spreads: dict[str, Spread] = {}
    lost: int = 0
    lost_again: int = 0
    gained: int = 0
    fell_back: int = 0
    no_longer: int = 0
    own: int = 0
    unknown_fields: int = 0
    sides: tuple[SideShown, SideShown]
    slices: tuple[SliceShown, ...] = ()
    judged: int = 0
    examples: tuple[Example, ...] = ()
    changed_serves: dict[str, tuple[int, int]] = {}

    @property
    def headline(self) -> str:
        """The replay in one line."""
        if not self.compared or self.share is None:
            return f"{self.candidate} was asked no recorded request that {self.against} was asked too"
        interval = f", 95 % interval {self.share.low:.1%} to {self.share.high:.1%}"
        told = f"{self.changed:,} of {self.compared:,} answers change ({self.share.mean:.1%}{interval})"
        return told.replace("%", " %").replace("  %", " %")

    @property
    def kept(self) -> "Replay":
        """The replay as it is recorded: without requests and answers, which only the log keeps and forgets."""
        bare = tuple(
            Example(prediction_id=e.prediction_id, serve=e.serve, size=e.size, before=e.before, after=e.after)
            for e in self.examples
        )
        return msgspec.structs.replace(self, examples=bare, changed_ids=())


class ReplayShown(Record, frozen=True, kw_only=True):
    """A replay that was recorded.

    Attributes:
        by: Who had it made: the run that made the release, or a person.
        passed: Whether it held what was asked of it.
    """

    at: datetime
    by: str
    passed: bool | None
    replay: Replay


def read_replay(found: Evidence) -> ReplayShown:
    """Return recorded evidence of the kind "replay"."""
    return ReplayShown(
        at=found.at, by=found.by, passed=found.passed, replay=msgspec.convert(found.figures, Replay, strict=False)
    )
