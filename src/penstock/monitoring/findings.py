"""What a monitor says about one window: facts with their size and their certainty."""

from datetime import datetime
from typing import Any, Literal

from penstock.core.records import Record

Kind = Literal[
    "schema",
    "missing",
    "range",
    "new_category",
    "data_drift",
    "prediction_drift",
    "feature_equality",
    "quality",
    "slice_quality",
    "errors",
    "latency",
    "fallbacks",
    "numeric",
    "stale_model",
    "stale_data",
    "broken_feed",
    "cost",
]


class Finding(Record, frozen=True, kw_only=True):
    """One fact about one window.

    Attributes:
        subject: What it is about: "ratings.rating", "recommend.answer", "quality/genre=Drama".
        is_alarm: It is beyond what the pipeline's alarm budget lets pass.
        effect: Size of the change, standardised; what one unit is depends on the kind.
        p: Chance of a change this large by ordinary variation, corrected for everything that was looked at; None where
            nothing is tested, as when a column is gone.
        detectable: Smallest effect that this window would have shown with 80 % certainty; None where not tested.
        said: One sentence with the figures.
        evidence: Plain JSON that leads to the rows: counts, quantiles before and after, prediction ids.
    """

    kind: Kind
    subject: str
    is_alarm: bool
    effect: float
    said: str
    p: float | None = None
    detectable: float | None = None
    evidence: dict[str, Any] = {}


class Window(Record, frozen=True, kw_only=True):
    """What a monitor found between two moments, `start` included and `end` not.

    Attributes:
        monitor: Which, as "data:ratings", "answers:recommend", "quality:quality", "service".
        rows: Rows, predictions or truths that it looked at.
        release: The release that was live, "movies@3"; None where that does not matter.
    """

    monitor: str
    start: datetime
    end: datetime
    rows: int
    release: str | None = None
    findings: tuple[Finding, ...] = ()
