"""Alerts and deliveries in real SQLite and PostgreSQL: one open alert per cause, messages as they stand."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from penstock.core.errors import InputError, NotFoundError, StoreError
from penstock.store.ledger import Ledger, alerts, deliveries, windows

NOW = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ALERT = alerts.Alert(
    pipeline="movies", kind="drift", subject="data:ratings", raised_at=NOW, seen_at=NOW, finding={"effect": 0.5}
)


def _put(ledger: Ledger, alert: alerts.Alert = ALERT) -> int | None:
    try:
        with ledger.write() as conn:
            return alerts.put(conn, alert)
    except StoreError:
        return None


def test_of_a_hundred_that_open_one_cause_at_once_one_does(ledger: Ledger) -> None:
    """M5: the unique key decides, whoever is at it."""
    with ThreadPoolExecutor(8) as pool:
        ids = [number for number in pool.map(lambda _: _put(ledger), range(100)) if number is not None]
    assert len(ids) == 1
    with ledger.read() as conn:
        assert alerts.page(conn) == [replace(ALERT, id=ids[0])]


def test_the_newest_of_every_cause_is_what_stands(ledger: Ledger) -> None:
    """A resolved alert leaves its cause free for another; what stands is the newest of each, of one pipeline."""
    first = _put(ledger)
    assert first is not None
    _put(ledger, replace(ALERT, id=first, state="resolved", resolved_at=NOW + HOUR))
    second = _put(ledger)
    _put(ledger, replace(ALERT, subject="data:titles"))
    _put(ledger, replace(ALERT, pipeline="other"))
    with ledger.read() as conn:
        assert [alert.id for alert in alerts.standing(conn, "movies") if alert.subject == "data:ratings"] == [second]
        assert len(alerts.standing(conn, "movies")) == 2
        assert [alert.id for alert in alerts.page(conn, pipeline="movies", is_open=False)] == [first]
    with pytest.raises(NotFoundError, match="'a99'"), ledger.read() as conn:
        alerts.get(conn, 99)
    with pytest.raises(InputError, match="is no alert"):
        alerts.parse_alert("a-7")


def test_messages_are_due_in_order_and_tried_ones_until_they_are_sent(ledger: Ledger) -> None:
    """What is due, what was being sent when somebody died, what was sent in the last hour, and what is dead."""
    number = _put(ledger)
    assert number is not None
    with ledger.write() as conn:
        deliveries.put(conn, number, "opened", channels=["webhook", "slack"], at=NOW)
        deliveries.put(conn, number, "opened", channels=["webhook"], at=NOW + HOUR)  # put twice
        deliveries.put(conn, number, "resolved", channels=["webhook"], at=NOW + HOUR)
        due = deliveries.due(conn, NOW, limit=10)
        assert [one.name for one in due] == ["a1/opened/slack", "a1/opened/webhook"]
        deliveries.change(conn, [replace(due[0], state="sending", tries=1), replace(due[1], state="dead", error="404")])
        assert [one.state for one in deliveries.due(conn, NOW - HOUR, limit=10)] == ["sending"]
        deliveries.change(conn, [replace(due[0], state="sent", tries=1)])
        assert deliveries.due(conn, NOW, limit=10) == []
        assert deliveries.sent_since(conn, NOW - HOUR) == [("movies", "slack", NOW)]
        assert deliveries.counts(conn) == {"dead": 1, "sent": 1, "waiting": 1}
        assert [one.error for one in deliveries.dead(conn)] == ["404"]
        (again,) = deliveries.retry(conn, "a1", NOW)
        assert (again.name, again.state, again.tries) == ("a1/opened/webhook", "waiting", 0)


def test_windows_are_followed_from_where_they_were(ledger: Ledger) -> None:
    """Up to when they were followed is kept per pipeline."""
    new = windows.NewWindow(monitor="data:ratings", start_at=NOW, end_at=NOW + HOUR, rows=3)
    with ledger.write() as conn:
        windows.put(conn, "movies", [new])
        (found,) = alerts.computed_since(conn, "movies", None)
        assert alerts.followed_to(conn, "movies") is None
        alerts.set_followed(conn, "movies", found.computed_at)
        assert alerts.followed_to(conn, "movies") == found.computed_at
        assert alerts.followed_to(conn, "other") is None
        assert len(alerts.computed_since(conn, "movies", found.computed_at)) == 1
        assert alerts.computed_since(conn, "movies", found.computed_at + HOUR) == []
