"""What a report says: frozen records, the same as JSON.

An arm is one way of keeping the pipeline, with the same rows and the same questions: "policy", "daily", "never".
"""

from datetime import datetime
from typing import Literal

from penstock.core.records import Record
from penstock.project.quality import SliceQuality
from penstock.worker.rehearsal.records import Compared, Newcomer, Quality

Became = Literal["released", "as before", "refused", "failed", "ended early"]


class LiveQuality(Record, frozen=True, kw_only=True):
    """What an outcome function found about the answers asked for in a span whose truth is whole.

    Attributes:
        waiting: Answers whose truth is not whole yet.
    """

    outcome: str
    measure: Quality
    waiting: int


class OfflineQuality(Record, frozen=True, kw_only=True):
    """What the evaluation found of a model when it was released.

    Attributes:
        metric: The one that decides, as "ndcg_at_10".
        worst: The slices that are surely worst.
    """

    release: str
    at: datetime
    evaluation: str
    metric: str
    model: str
    measure: Quality
    worst: tuple[SliceQuality, ...] = ()


class Retrain(Record, frozen=True, kw_only=True):
    """A run that was to make a release, and what became of it.

    Attributes:
        became: "as before" where the live release is what it would have made.
        refused_by: Checks that did not pass.
    """

    run: str
    at: datetime
    cause: str
    reason: str
    became: Became
    release: str | None
    refused_by: tuple[str, ...]
    cpu_s: float
    said: str = ""


class Skipped(Record, frozen=True, kw_only=True):
    """A retrain that was not done, and why."""

    at: datetime
    cause: str
    reason: str


class Freshness(Record, frozen=True, kw_only=True):
    """How fresh data and model were, measured at the end of each step of the span.

    Attributes:
        data_age_h: Hours since the newest row, at the median step; `data_age_most_h` at the worst.
        model_age_h: Hours since the run of the live release began, at the median step, and at the worst.
    """

    data_age_h: float | None = None
    data_age_most_h: float | None = None
    model_age_h: float | None = None
    model_age_most_h: float | None = None


class ArmSpan(Record, frozen=True, kw_only=True):
    """What one arm did in a week, or in the whole rehearsal.

    Attributes:
        live: The release that answered at the end of the span.
        quality: By outcome function, of the answers asked for in the span.
        intakes: Intakes that brought rows, and the rows; set aside are those that broke the contract.
        cpu_s: Of everything that ran: intakes, retrains, also those that were refused.
        money: The same, and the answers, at the prices of policy.
    """

    live: str | None
    predictions: int
    fallbacks: int
    errors: int
    quality: tuple[LiveQuality, ...]
    fresh: Freshness
    intakes: int
    rows: int
    set_aside: int
    releases: tuple[str, ...]
    retrains: tuple[Retrain, ...]
    skipped: tuple[Skipped, ...]
    cpu_s: float
    money: float

    def count(self, became: Became) -> int:
        """Return how many retrains became this."""
        return sum(one.became == became for one in self.retrains)


class AlertTold(Record, frozen=True, kw_only=True):
    """An alert as recorded.

    Attributes:
        alert: Its reference, "a17".
        done: What was done about it.
    """

    alert: str
    kind: str
    subject: str
    raised_at: datetime
    resolved_at: datetime | None
    release: str | None
    said: str
    done: tuple[str, ...] = ()
    disposition: str | None = None


class LiveSlice(Record, frozen=True, kw_only=True):
    """A part of the answers that a monitor found to be surely worse than the rest."""

    subject: str
    week: int
    said: str


class PlantedTold(Record, frozen=True, kw_only=True):
    """A fault that was planted, and how the policy dealt with it.

    Attributes:
        fault: "feed", "genre", "burst", "schema", "bad_release".
        what: What was done to the source or to the requests.
        until: When it was mended at the source.
        detected: Alerts that it raised, the first one first.
        delay_h: Hours from the fault's beginning to the first of them.
        contained: What stayed as it was, with its evidence; empty where nothing did.
        explained: What `penstock why` says of the first alert; empty where there is none.
        recovered_at: When the last of its alerts was resolved.
    """

    fault: str
    what: str
    since: datetime
    until: datetime
    detected: tuple[str, ...] = ()
    delay_h: float | None = None
    contained: tuple[str, ...] = ()
    explained: tuple[str, ...] = ()
    recovered_at: datetime | None = None


class Week(Record, frozen=True, kw_only=True):
    """A week of the rehearsal.

    Attributes:
        number: 1 for the first.
        arms: What each arm did, "policy" first.
        differences: Of the policy to the others.
        raised: Alerts of the policy that were raised.
        resolved: Those that were resolved.
    """

    number: int
    start: datetime
    end: datetime
    arms: dict[str, ArmSpan]
    differences: tuple[Compared, ...]
    raised: tuple[str, ...]
    resolved: tuple[str, ...]


class Promise(Record, frozen=True, kw_only=True):
    """Something a rehearsal has to show; `is_kept` is None where this one cannot tell."""

    name: str
    is_kept: bool | None
    said: str


class Report(Record, frozen=True, kw_only=True):
    """A rehearsal, whole.

    Attributes:
        step_s: Simulated seconds between two looks.
        wall_s: Real seconds it took on this machine.
        whole: What each arm did from start to end.
        differences: Of the policy to the others, over all questions.
        offline: Every release of the policy, as its evaluation found it.
        newcomers: How soon what is new in the data could be answered.
        slices: Parts of the answers that were found to be worse, while live.
        planted: Faults that were planted.
    """

    pipeline: str
    start: datetime
    end: datetime
    step_s: float
    wall_s: float
    whole: dict[str, ArmSpan]
    differences: tuple[Compared, ...]
    weeks: tuple[Week, ...]
    offline: tuple[OfflineQuality, ...]
    alerts: tuple[AlertTold, ...]
    newcomers: tuple[Newcomer, ...] = ()
    slices: tuple[LiveSlice, ...] = ()
    planted: tuple[PlantedTold, ...] = ()
    promises: tuple[Promise, ...] = ()
