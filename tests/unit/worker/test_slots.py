"""Cron slots as instants: time zones, daylight saving, and nothing lost or doubled however one looks."""

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest

from penstock.core.errors import InputError
from penstock.worker.slots import check_schedule, instant, next_slot, slots_between, zone_of


def _utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]  # year, month, day and so on


def test_a_slot_that_a_jump_removes_stands_at_the_jump() -> None:
    """02:30 does not exist in Berlin on 29 March 2026: the day's slot is 03:00 there, 01:00 UTC."""
    found = slots_between("30 2 * * *", "Europe/Berlin", _utc(2026, 3, 28, 12), _utc(2026, 3, 30, 12))
    assert found == [_utc(2026, 3, 29, 1), _utc(2026, 3, 30, 0, 30)]


def test_a_slot_that_a_jump_doubles_stands_once() -> None:
    """02:30 comes twice in Berlin on 25 October 2026: the first counts."""
    found = slots_between("30 2 * * *", "Europe/Berlin", _utc(2026, 10, 24, 12), _utc(2026, 10, 26, 12))
    assert found == [_utc(2026, 10, 25, 0, 30), _utc(2026, 10, 26, 1, 30)]


def test_several_slots_in_a_gap_are_one() -> None:
    """All quarters of the hour that is left out fall on the jump, where the next hour's first one stands too."""
    found = slots_between("*/15 * * * *", "Europe/Berlin", _utc(2026, 3, 29, 0, 30), _utc(2026, 3, 29, 1, 15))
    assert found == [_utc(2026, 3, 29, 0, 45), _utc(2026, 3, 29, 1), _utc(2026, 3, 29, 1, 15)]


def test_a_zone_that_leaves_out_a_day_loses_no_slot() -> None:
    """Samoa had no 30 December 2011; its noon slot stands at midnight, when the 31st began."""
    found = slots_between("0 12 * * *", "Pacific/Apia", _utc(2011, 12, 29), _utc(2011, 12, 31, 12))
    assert found == [_utc(2011, 12, 29, 22), _utc(2011, 12, 30, 10), _utc(2011, 12, 30, 22)]


def test_an_odd_jump_of_half_an_hour_is_found_to_the_second() -> None:
    """Lord Howe Island jumps by thirty minutes: 02:15 there on 4 October 2026 stands at 02:30, 15:30 UTC."""
    assert instant(datetime(2026, 10, 4, 2, 15), zone_of("Australia/Lord_Howe")) == _utc(2026, 10, 3, 15, 30)  # noqa: DTZ001  # local


@pytest.mark.parametrize("seed", range(40))
def test_however_time_is_cut_the_slots_are_the_same(seed: int) -> None:
    """Q12: looking in random steps finds exactly what one long look finds, across both jumps of a year."""
    chance = random.Random(seed)
    schedule = chance.choice(["0 4 * * *", "*/20 * * * *", "30 2 * * *", "15 */6 * * 1-5", "59 1 1 * *", "0 0-3 * * 0"])
    zone = chance.choice(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo"])
    start = chance.choice(
        [_utc(2026, 3, 7), _utc(2026, 3, 28), _utc(2026, 10, 3), _utc(2026, 10, 24), _utc(2026, 10, 31)]
    )
    end = start + timedelta(days=3)
    every = slots_between(schedule, zone, start, end)
    assert all(before < after for before, after in itertools.pairwise(every))
    cut, at = [], start
    while at < end:
        then = min(end, at + timedelta(minutes=chance.randint(1, 600)))
        cut += slots_between(schedule, zone, at, then)
        at = then
    assert cut == every
    assert all(next_slot(schedule, zone, slot - timedelta(seconds=1)) == slot for slot in every[:5])


def test_of_too_many_slots_the_newest_are_given() -> None:
    """After years of silence nobody wants every minute."""
    found = slots_between("* * * * *", "UTC", _utc(2020, 1, 1), _utc(2026, 1, 1), limit=3)
    assert found == [_utc(2025, 12, 31, 23, 58), _utc(2025, 12, 31, 23, 59), _utc(2026, 1, 1)]


def test_a_hundred_cadences_lose_no_slot_in_a_month() -> None:
    """Q12: 100 pipelines with cadences of their own, looked at in uneven steps for a month: each slot once."""
    chance = random.Random(7)
    zones = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]
    start, end = _utc(2026, 3, 1), _utc(2026, 4, 1)
    cadences = [(f"{chance.randint(0, 59)} */{chance.randint(2, 23)} * * *", chance.choice(zones)) for _ in range(100)]
    seen: list[list[datetime]] = [[] for _ in cadences]
    at = start
    while at < end:
        then = min(end, at + timedelta(minutes=chance.randint(30, 2000)))
        for slots, (schedule, zone) in zip(seen, cadences, strict=True):
            slots.extend(slots_between(schedule, zone, at, then))
        at = then
    for slots, (schedule, zone) in zip(seen, cadences, strict=True):
        assert slots == slots_between(schedule, zone, start, end)
        assert len(slots) >= 30


@pytest.mark.parametrize(
    ("schedule", "zone", "said"),
    [
        ("61 * * * *", "UTC", "is not cron"),
        ("R * * * *", "UTC", "is not cron"),
        ("", "UTC", "is not cron"),
        ("0 0 30 2 *", "UTC", "never comes"),
        ("0 4 * * *", "Nowhere/City", "no time zone"),
        ("0 4 * * *", "../etc/passwd", "no time zone"),
    ],
)
def test_what_cannot_be_followed_is_refused(schedule: str, zone: str, said: str) -> None:
    """The error says what is wrong and what to write."""
    with pytest.raises(InputError, match=said):
        check_schedule(schedule, zone)
