"""When rows of a dataset arrive: how old its newest row ordinarily gets, and whether a window can still gain rows."""

import itertools
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from penstock.core.records import DatasetVersion
from penstock.monitoring.freshness import ordinary_wait
from penstock.project.watching.look import Look
from penstock.serving.predictions.typed import as_time
from penstock.store.lake import since
from penstock.store.ledger import datasets

INTAKES = 56
_MARGIN = 1.25


def newest_row_at(version: DatasetVersion) -> datetime | None:
    """Return the time of the newest row of a version, UTC; None where its watermark is no time."""
    found = since(version) if version.contract.get("time") else None
    return as_time(found) if isinstance(found, date) else None  # a datetime is a date too


def versions_of(look: Look, dataset: str) -> list[DatasetVersion]:
    """Return the newest versions of a dataset that were there at the time of the look, oldest first."""
    with look.workspace.ledger.read() as conn:
        return datasets.recent(conn, look.pipeline, dataset, limit=INTAKES + 1)


def waits_of(versions: Sequence[DatasetVersion]) -> list[timedelta]:
    """Return how old the newest row was each time that newer ones came; of a dataset without time, since the last.

    Args:
        versions: Oldest first.
    """
    waits = []
    for before, after in itertools.pairwise(versions):
        known = newest_row_at(before) or before.taken_at
        if known is not None and after.taken_at is not None and after.rows_added:
            waits.append(after.taken_at - known)
    return waits


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
            age = ordinary_wait(waits_of(versions_of(self._look, self._version.dataset)))
            self._overdue = None if age is None else max(age * _MARGIN - self._look.step, timedelta(0))
            self._is_asked = True
        return self._overdue
