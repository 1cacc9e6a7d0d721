"""Which seasons windows may have: by the day of the week, and by the time of day where they are shorter than a day."""

import itertools
import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from penstock.monitoring.drift.variation import Season

Floats = npt.NDArray[np.float64]
_DAY = timedelta(days=1)
_WEEK_HOURS = 7 * 24
# Each place of a season must have been seen so often before it has a mean of its own.
_CYCLES = 3
_WAVES = (1, 2, 3)


def seasons_of(starts: Sequence[datetime], now: datetime) -> list[Season]:
    """Return the ways in which windows that began then may depend on when they are; the first is not at all.

    Days may differ by the day of the week, or only on weekends. Shorter windows follow the time of day in one, two or
    three waves, or have a mean for each time of day once there are three days of each; and the same with weekends.

    Args:
        starts: Of the reference windows, in order.
        now: Of the window in question.
    """
    all_starts = [*starts, now]
    columns: list[Floats] = [np.zeros((len(all_starts), 0))]
    step = min((later - before for before, later in itertools.pairwise(starts)), default=timedelta(0))
    if step == _DAY:
        columns += [_weekend(all_starts), _places([start.weekday() for start in all_starts])]
    elif timedelta(0) < step < _DAY:
        columns += _of_the_day(all_starts)
    found = []
    for one in columns:
        whole = np.hstack([np.ones((len(all_starts), 1)), one])
        if _is_known(one, len(starts)):
            found.append(Season(whole[:-1], whole[-1]))
    return found


def _of_the_day(starts: Sequence[datetime]) -> list[Floats]:
    hours = np.array([start.hour + start.minute / 60 + start.second / 3600 for start in starts])
    angles = 2 * math.pi * hours / 24
    weekend = _weekend(starts)
    waves = [
        np.column_stack([turn(count * angles) for count in range(1, most + 1) for turn in (np.sin, np.cos)])
        for most in _WAVES
    ]
    shapes = [*waves, _places([int(hour * 3600) for hour in hours])]
    span = starts[-1] - starts[0]
    if span < 2 * _DAY:
        return []
    both = [np.hstack([shape, weekend]) for shape in shapes] if span >= timedelta(days=21) else []
    return [*shapes, *both]


def _weekend(starts: Sequence[datetime]) -> Floats:
    return np.array([[float(start.weekday() >= 5)] for start in starts])


def _places(places: Sequence[int]) -> Floats:
    kinds = sorted(set(places[:-1]))
    if places[-1] not in kinds:
        return np.zeros((len(places), 0))
    return np.array([[float(place == kind) for kind in kinds[1:]] for place in places]).reshape(len(places), -1)


def _is_known(columns: Floats, windows: int) -> bool:
    """Whether there are enough windows to tell this season from chance."""
    used = columns.shape[1] + 1
    if used * _CYCLES > windows:
        return False
    is_mark = np.isin(columns, (0.0, 1.0)).all(axis=0)
    seen = columns[:-1][:, is_mark].sum(axis=0)
    return bool((seen >= _CYCLES).all())
