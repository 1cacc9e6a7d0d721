"""What a rehearsal has to show of a policy: new things are answered soon, and retraining pays."""

from collections.abc import Iterator

from penstock.worker.rehearsal.records import Compared
from penstock.worker.rehearsal.report.records import Promise, Report
from penstock.worker.rehearsal.report.words import differed, newcomers

# Of the retrains of a policy that retrains at each step.
MOST_RETRAINS = 0.6


def promises(report: Report) -> tuple[Promise, ...]:
    """Return what was to be shown, and whether it was."""
    return tuple(_promises(report))


def _promises(report: Report) -> Iterator[Promise]:
    for found in report.newcomers:
        is_kept = None if not found.known else set(found.waited) == {"1"}
        yield Promise(name="newcomers", is_kept=is_kept, said=f"new things within one cycle: {newcomers(found)}")
    for compared in report.differences:
        if compared.other == "never":
            yield _better(compared)
        elif compared.other == "daily":
            yield _as_good(compared)


def _better(found: Compared) -> Promise:
    low = found.difference.low
    said = f"{found.outcome} is better than without retraining: {differed(found)}"
    return Promise(name="better_than_never", is_kept=None if low is None else low > 0, said=said)


def _as_good(found: Compared) -> Promise:
    high, share = found.difference.high, found.retrains
    said = f"{found.outcome} is no worse than with daily retraining: {differed(found)}"
    if share is not None:
        said += f", with {share:.0%} of its retrains"
    is_kept = None if high is None or share is None else high >= 0 and share < MOST_RETRAINS
    return Promise(name="as_good_as_daily", is_kept=is_kept, said=said)
