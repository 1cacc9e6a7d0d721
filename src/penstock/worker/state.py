"""What decisions rest on and what comes of them: frozen, plain records.

Belongs here: state, events and actions of `decide`. Where the facts come from: `gather`; who does it: `tick`.
"""

from datetime import datetime
from typing import Any, Literal

from penstock.core.records import Record

Kind = Literal["schedule", "new_data", "drift", "quality", "stale", "upstream", "manual", "webhook"]
# Each says how things stand; one retrain answers all of them, so they wait together and are answered together.
STANDING: frozenset[Kind] = frozenset({"new_data", "drift", "quality", "stale", "upstream"})
# Retrains that are worth no more than the gain one expects of them. Quality that was measured to fall is its own proof.
WEIGHED: frozenset[Kind] = frozenset({"new_data", "drift", "stale", "upstream"})


class Rules(Record, frozen=True, kw_only=True):
    """What policy says to decisions; see `core.settings.LoopPolicy`.

    Attributes:
        cpu_s_per_day: Most CPU seconds in any 24 hours; None for no limit.
        cpu_hour: Price of an hour of CPU, for the figures.
        weighed: Kinds that run only where the expected gain is worth it.
    """

    schedule: str | None = None
    timezone: str = "UTC"
    catch_up: Literal["one", "none", "all"] = "one"
    retrain_on: frozenset[Kind] = frozenset({"new_data", "drift", "quality", "stale", "upstream"})
    cooldown_s: float = 21_600.0
    quarantine_after: int = 3
    priority: int = 0
    cpu_s_per_day: float | None = None
    cpu_hour: float = 0.0
    weighed: frozenset[Kind] = WEIGHED


class Open(Record, frozen=True, kw_only=True):
    """A cause that waits or runs.

    Attributes:
        id: Its number in the ledger; 0 before it has one.
        is_begun: A run was begun for it before, and did not get to its end.
        lost: How often the process of its run died.
    """

    pipeline: str
    kind: Kind
    key: str
    decided_at: datetime
    id: int = 0
    priority: int = 0
    state: Literal["waiting", "running"] = "waiting"
    is_begun: bool = False
    lost: int = 0
    held: str = ""

    @property
    def name(self) -> str:
        """What its run says about itself: "new_data:ratings@8"."""
        return f"{self.kind}:{self.key}"


Outcome = Literal["succeeded", "refused", "failed", "lost", "cancelled"]


class Spent(Record, frozen=True, kw_only=True):
    """CPU seconds that a run used."""

    at: datetime
    cpu_s: float


class Worth(Record, frozen=True, kw_only=True):
    """Whether a retrain is expected to gain more than it costs.

    Attributes:
        said: One sentence with the figures.
    """

    is_worth: bool
    said: str
    figures: dict[str, Any] = {}


class PipelineState(Record, frozen=True, kw_only=True):
    """How one pipeline stands.

    Attributes:
        live: The live release, "movies@3".
        live_since: When the run that made it began; what was noticed before that, it answers.
        schedule_since: Slots later than this count; None where the schedule is not yet known to the ledger.
        slots: Slots that were decided: the newest that is not in the future, and those in the future of a clock that
            jumped back.
        open: Causes that wait or run.
        decided: (kind, key) of causes decided lately, open or not.
        began_at: When the newest retrain began.
        failures: Retrains that failed in a row. One that the gate refused did not fail.
        failed_at: When the newest of them ended.
        is_quarantined: An alert says that it keeps failing.
        spent: What its runs used in the last day.
        usual_cpu_s: What its newest whole retrain used.
        worth: What is expected of a retrain; None where nothing is known.
    """

    name: str
    rules: Rules = Rules()
    live: str | None = None
    live_since: datetime | None = None
    schedule_since: datetime | None = None
    slots: tuple[datetime, ...] = ()
    open: tuple[Open, ...] = ()
    decided: frozenset[tuple[str, str]] = frozenset()
    began_at: datetime | None = None
    failures: int = 0
    failed_at: datetime | None = None
    is_quarantined: bool = False
    spent: tuple[Spent, ...] = ()
    usual_cpu_s: float = 0.0
    worth: Worth | None = None


class State(Record, frozen=True, kw_only=True):
    """How everything stands.

    Attributes:
        most: Retrains that may be under way at once.
        pipelines: By name.
    """

    most: int = 1
    pipelines: dict[str, PipelineState] = {}


class Looked(Record, frozen=True, kw_only=True, tag=str.lower):
    """Somebody looked at the clock: what is due now?"""


class Noticed(Record, frozen=True, kw_only=True, tag=str.lower):
    """What may be a reason to retrain: data came, a monitor alarmed, an upstream release, a person, a webhook.

    Attributes:
        key: What makes it this one; the same key is the same cause, however often it is noticed.
    """

    pipeline: str
    kind: Kind
    key: str
    said: str
    figures: dict[str, Any] = {}


class Ended(Record, frozen=True, kw_only=True, tag=str.lower):
    """A run ended.

    Attributes:
        outcome: "succeeded"; "refused" by a check; "failed"; "lost" with its process; "cancelled" from outside.
        cpu_s: What it used.
    """

    pipeline: str
    kind: Kind
    key: str
    outcome: Outcome
    cpu_s: float = 0.0


Event = Looked | Noticed | Ended


class Queue(Record, frozen=True, kw_only=True, tag=str.lower):
    """Record a cause that waits."""

    pipeline: str
    kind: Kind
    key: str
    priority: int
    reason: str
    figures: dict[str, Any] = {}


class Skip(Record, frozen=True, kw_only=True, tag=str.lower):
    """Record that there is no run for a cause, and why."""

    pipeline: str
    kind: Kind
    key: str
    reason: str
    figures: dict[str, Any] = {}


class Hold(Record, frozen=True, kw_only=True, tag=str.lower):
    """Record why a cause waits.

    Attributes:
        until: When it is looked at again with another result; None where that depends on others.
    """

    pipeline: str
    kind: Kind
    key: str
    reason: str
    until: datetime | None = None
    figures: dict[str, Any] = {}


class Start(Record, frozen=True, kw_only=True, tag=str.lower):
    """Begin the run of a cause."""

    cause: Open


class Follow(Record, frozen=True, kw_only=True, tag=str.lower):
    """Record that a schedule holds from now on."""

    pipeline: str
    schedule: str
    timezone: str


class Quarantine(Record, frozen=True, kw_only=True, tag=str.lower):
    """Record, and tell people, that a pipeline keeps failing."""

    pipeline: str
    key: str
    reason: str
    figures: dict[str, Any] = {}


class Readmit(Record, frozen=True, kw_only=True, tag=str.lower):
    """Record that a pipeline works again."""

    pipeline: str
    reason: str


Action = Queue | Skip | Hold | Start | Follow | Quarantine | Readmit
