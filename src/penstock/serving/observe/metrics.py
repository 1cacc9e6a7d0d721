"""The metrics of a server: their names, labels and buckets, and where each number stands in a worker's file.

Every label has a closed set of values that is known when a worker starts, so no caller can make another series.
"""

import itertools
from typing import Literal

from penstock.core.records import Record

Kind = Literal["counter", "gauge", "histogram"]
Key = tuple[str, tuple[str, ...]]

PROTOCOLS = ("json", "oip", "grpc", "mlflow", "arrow", "batch", "stream", "other")
STATUSES = ("answered", "fallback", "function_failed", "overloaded", "late", "refused")
REASONS = ("function_failed", "overloaded", "late", "not_finite")
REFUSALS = (400, 401, 403, 404, 405, 406, 408, 409, 411, 413, 414, 415, 421, 422, 429, 431)
OTHER = "other"

_SECONDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0)


class Metric(Record, frozen=True, kw_only=True):
    """One metric.

    Attributes:
        labels: Names of its labels, in order.
        buckets: Upper bounds of a histogram; one more bucket takes what is above the last.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def cells(self) -> int:
        """Numbers per series: one, or the buckets of a histogram, what is above them, and the sum."""
        return len(self.buckets) + 2 if self.kind == "histogram" else 1


REQUESTS = Metric(
    name="penstock_requests_total",
    kind="counter",
    help="Questions to serve functions, by what came of them.",
    labels=("function", "protocol", "status"),
)
SECONDS = Metric(
    name="penstock_request_seconds",
    kind="histogram",
    help="Time from a question that was read to its answer.",
    labels=("function", "protocol"),
    buckets=_SECONDS,
)
ROWS = Metric(
    name="penstock_rows_total",
    kind="counter",
    help="Answers given; a question may ask for several.",
    labels=("function", "protocol"),
)
BATCH_ROWS = Metric(
    name="penstock_batch_rows",
    kind="histogram",
    help="Rows in one call of a function that takes rows, after questions were joined.",
    labels=("function",),
    buckets=_ROWS,
)
FALLBACKS = Metric(
    name="penstock_fallbacks_total",
    kind="counter",
    help="Questions that the fallback answered, by why the function did not.",
    labels=("function", "reason"),
)
SHED = Metric(
    name="penstock_shed_total",
    kind="counter",
    help="Questions that were turned away at once because they could not be answered in time.",
    labels=("function",),
)
NOT_FINITE = Metric(
    name="penstock_not_finite_total",
    kind="counter",
    help="Answers that were NaN or infinite and were not sent.",
    labels=("function",),
)
COMPARED = Metric(
    name="penstock_stand_in_compared_total",
    kind="counter",
    help="Answers of a faster equivalent that were compared with the original model's.",
    labels=("function",),
)
DIFFERING = Metric(
    name="penstock_stand_in_differing_total",
    kind="counter",
    help="Answers of a faster equivalent that differed from the original model's by more than the tolerance.",
    labels=("function",),
)
REFUSED = Metric(
    name="penstock_refused_total",
    kind="counter",
    help="Requests that were refused before a function was asked, by HTTP status.",
    labels=("code",),
)
FEEDBACK = Metric(name="penstock_feedback_total", kind="counter", help="Feedback on predictions that was taken in.")
LOG_DROPPED = Metric(
    name="penstock_log_dropped_total",
    kind="counter",
    help="Predictions that were answered but not kept, because the disk was full for long.",
)
CPU = Metric(name="penstock_cpu_seconds_total", kind="counter", help="CPU time of the workers.")
WAITING = Metric(name="penstock_waiting", kind="gauge", help="Questions that wait, and calls that run in threads.")
CONNECTIONS = Metric(name="penstock_connections", kind="gauge", help="Open connections.")

# A new metric goes to the end; only its own release reads a file, so the order is no format.
METRICS = (
    *(REQUESTS, SECONDS, ROWS, BATCH_ROWS, FALLBACKS, SHED, NOT_FINITE, COMPARED, DIFFERING, REFUSED),
    *(FEEDBACK, LOG_DROPPED, CPU, WAITING, CONNECTIONS),
)


def label_values(label: str, functions: tuple[str, ...]) -> tuple[str, ...]:
    """Return every value a label may have; what is unknown counts as "other"."""
    match label:
        case "function":
            return (*functions, OTHER)
        case "protocol":
            return PROTOCOLS
        case "status":
            return STATUSES
        case "reason":
            return REASONS
        case _:
            return (*(str(code) for code in REFUSALS), OTHER)


def places(functions: tuple[str, ...]) -> tuple[dict[Key, int], int]:
    """Return where the first number of each series stands, and how many numbers there are.

    Args:
        functions: Names of the release's serve functions.

    Returns:
        Position by (metric, label values), and the count of numbers, each a float64.
    """
    found: dict[Key, int] = {}
    position = 0
    for metric in METRICS:
        for values in itertools.product(*(label_values(label, functions) for label in metric.labels)):
            found[metric.name, values] = position
            position += metric.cells
    return found, position
