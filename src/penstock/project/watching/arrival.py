"""When rows of a dataset arrive: how old its newest row ordinarily gets, and whether a window can still gain rows."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from penstock.core.records import DatasetVersion
from penstock.project.watching.look import Look
from penstock.serving.predictions.typed import as_time
from penstock.store.lake import since
from penstock.store.ledger import datasets

INTAKES = 56
_FEWEST = 3
# One in twenty waits is longer than what counts as ordinary: a feed that was down once must not hide the next time.
_ORDINARY = 0.95
MARGIN = 1.25


def newest_row_at(version: DatasetVersion) -> datetime | None:
    """Return the time of the newest row of a version, UTC; None where its watermark is no time."""
    found = since(version) if version.contract.get("time") else None
    return as_time(found) if isinstance(found, date) else None  # a datetime is a date too


def versions_of(look: Look, dataset: str) -> list[DatasetVersion]:
    """Return the newest versions of a dataset that were there at the time of the look, oldest first."""
    with look.workspace.ledger.read() as conn:
        return datasets.recent(conn, look.pipeline, dataset, limit=INTAKES + 1)


def ordinary_age(versions: Sequence[DatasetVersion]) -> timedelta | None:
    """Return how old the newest row ordinarily gets before newer ones come; None before four intakes are known.

    Args:
        versions: Oldest first.
    """
    ages = []
    for i in range(1, len(versions)):
        known, taken_at = newest_row_at(versions[i - 1]), versions[i].taken_at
        if known is not None and taken_at is not None and versions[i].rows_added:
            ages.append(taken_at - known)
    if len(ages) < _FEWEST:
        return None
    return max(sorted(ages)[int(_ORDINARY * (len(ages) - 1) + 0.5)], timedelta(0))


class Arrival:
    """Says which windows of a dataset have all their rows, as far as one can know.

    Args:
        look: What is known.
        version: The newest.
    """

    def __init__(self, look: Look, version: DatasetVersion) -> None:
        self._look = look
        self._version = version
        self.newest = newest_row_at(version)
        self._overdue: timedelta | None = None
        self._is_asked = False

    def is_closed(self, end: datetime) -> bool:
        """Return whether a window that ends at `end` has its rows, or they are overdue.

        It has them when newer rows came, or when an intake after its end found rows up to (nearly) its end. It does
        not wait for a feed that is longer silent than it ever was.
        """
        if self.newest is None or end > self._look.now:
            return False
        if self.newest >= end:
            return True
        taken_at = self._version.taken_at
        if taken_at is not None and taken_at >= end and end - self.newest <= self._look.step / 20:
            return True
        wait = self._wait()
        return wait is not None and self._look.now >= end + wait

    def _wait(self) -> timedelta | None:
        """Return how long after its end a window without newer rows is waited for."""
        if not self._is_asked:
            age = ordinary_age(versions_of(self._look, self._version.dataset))
            self._overdue = None if age is None else max(age * MARGIN - self._look.step, timedelta(0))
            self._is_asked = True
        return self._overdue
