"""How fresh data and model were, from what was recorded at each look."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median

from penstock.core.records import DatasetVersion
from penstock.worker.rehearsal.report.collect import Facts
from penstock.worker.rehearsal.report.records import Freshness

_HOUR_S = 3600.0


def freshness(facts: Facts, looks: Sequence[datetime]) -> Freshness:
    """Return how fresh an arm was at some looks."""
    data = [age for moment in looks if (age := data_age_h(facts, moment)) is not None]
    model = [age for moment in looks if (age := model_age_h(facts, moment)) is not None]
    return Freshness(
        data_age_h=median(data) if data else None,
        data_age_most_h=max(data, default=None),
        model_age_h=median(model) if model else None,
        model_age_most_h=max(model, default=None),
    )


def data_age_h(facts: Facts, moment: datetime) -> float | None:
    """Return the hours since the newest row known at a moment, of the dataset that is furthest behind."""
    newest = [row for found in facts.versions.values() if (row := _newest_row(found, moment)) is not None]
    return _hours(moment - min(newest)) if newest else None


def model_age_h(facts: Facts, moment: datetime) -> float | None:
    """Return the hours since the run of the release that answered at a moment began."""
    live = facts.live_at(moment)
    return None if live is None else _hours(moment - live.trained_at)


def _newest_row(versions: Sequence[DatasetVersion], moment: datetime) -> datetime | None:
    if not versions or not versions[-1].contract.get("time"):
        return None
    known = [one for one in versions if one.taken_at is not None and one.taken_at <= moment]
    mark = known[-1].watermark if known else None
    if isinstance(mark, str):
        mark = datetime.fromisoformat(mark)
    return mark if isinstance(mark, datetime) and mark.tzinfo is not None else None


def _hours(span: timedelta) -> float:
    return span.total_seconds() / _HOUR_S
