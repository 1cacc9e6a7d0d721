"""Cron slots as instants: a schedule is read in its own time zone, a slot is a moment in UTC.

A slot that a daylight-saving jump removes stands at the jump; one that it doubles stands at its first time. croniter
only walks over naive local times here: what a zone makes of them is decided below, in one place.
"""

import functools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from croniter.croniter import CroniterBadCronError, CroniterBadDateError

from penstock.core.errors import InputError

MOST_SLOTS = 1000
_SECOND = timedelta(seconds=1)
# Longer than any jump of any zone: Samoa left out a whole day once.
_MARGIN = timedelta(hours=26)
# "R" draws a random number at each reading, and "H" one per name: neither says a slot to whoever reads the schedule.
_DRAWN = re.compile(r"(^|[\s,(])[rh](\s|,|\(|/|$)", re.IGNORECASE)
_FIRST = datetime(2000, 1, 1)  # noqa: DTZ001  # naive local time, as everything that croniter sees here


def check_schedule(schedule: str, timezone: str) -> None:
    """Refuse a schedule that cannot be followed.

    Raises:
        InputError: It is not cron, never comes, or its time zone is unknown.
    """
    zone_of(timezone)
    if _DRAWN.search(schedule) or not croniter.is_valid(schedule):
        raise InputError(
            f"The schedule {schedule!r} is not cron.",
            hint='write minute, hour, day, month, weekday, as "0 4 * * *"',
        )
    try:
        croniter(schedule, _FIRST).get_next(datetime)
    except CroniterBadDateError as error:
        raise InputError(
            f"The schedule {schedule!r} never comes.", hint="no month has that day; mend day or month"
        ) from error
    except CroniterBadCronError as error:
        raise InputError(f"The schedule {schedule!r} is not cron: {error}.") from error


@functools.cache
def zone_of(timezone: str) -> ZoneInfo:
    """Return a time zone by name.

    Raises:
        InputError: There is none of that name.
    """
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"There is no time zone {timezone!r}.", hint='write it as "Europe/Berlin" or "UTC"') from error


def slots_between(
    schedule: str, timezone: str, after: datetime, until: datetime, *, limit: int = MOST_SLOTS
) -> list[datetime]:
    """Return the slots later than `after` and not later than `until`, oldest first.

    Args:
        schedule: Cron, as "0 4 * * *".
        timezone: Where it is read.
        after: UTC.
        until: UTC.
        limit: Where there are more, the newest of them: after years of silence nobody wants every minute.

    Returns:
        UTC times, each once.

    Raises:
        InputError: The schedule cannot be followed.
    """
    found: list[datetime] = []
    if until <= after:
        return found
    for slot in _backwards(schedule, zone_of(timezone), after, until):
        if slot <= after or len(found) == limit:
            break
        if slot <= until and (not found or slot < found[-1]):
            found.append(slot)
    return found[::-1]


def next_slot(schedule: str, timezone: str, after: datetime) -> datetime:
    """Return the first slot later than `after`, UTC.

    Raises:
        InputError: The schedule cannot be followed.
    """
    check_schedule(schedule, timezone)
    zone = zone_of(timezone)
    walk = croniter(schedule, _local(after, zone) - _margin(after, after, zone))
    slot = after
    while slot <= after:
        slot = instant(walk.get_next(datetime), zone)
    return slot


def instant(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment of a naive local time: at the jump where a jump removes it, the first where one doubles it."""
    first = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == local:
        return first
    # In a gap the two readings lie on both sides of the jump (PEP 495): fold 1 before it, fold 0 after.
    low, high = local.replace(tzinfo=zone, fold=1).astimezone(UTC), first
    before = low.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return high.replace(microsecond=0)


def _backwards(schedule: str, zone: ZoneInfo, after: datetime, until: datetime) -> Iterator[datetime]:
    margin = _margin(after, until, zone)
    start = _local(until, zone) + margin
    # croniter goes to what lies strictly before, and counts in whole seconds.
    walk = croniter(schedule, start.replace(microsecond=0) + _SECOND)
    least = _local(after, zone) - margin
    local = start + _SECOND
    while local > least:
        try:
            local = walk.get_prev(datetime)
        except CroniterBadDateError:
            return
        yield instant(local, zone)


def _margin(after: datetime, until: datetime, zone: ZoneInfo) -> timedelta:
    """Return how far local time must be looked at beyond the two moments: not at all where no jump is near."""
    near = (after - _MARGIN, after, after + _MARGIN, until - _MARGIN, until, until + _MARGIN)
    return _MARGIN if len({moment.astimezone(zone).utcoffset() for moment in near}) > 1 else timedelta(0)


def _local(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None)
