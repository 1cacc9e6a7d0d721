"""What goes out together, under which key, signed how, and to where it may not go."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest

from penstock.core.errors import InputError
from penstock.core.settings import AlertPolicy
from penstock.project.alerting.channels import Message, Target, UndeliveredError, signed, slack_payload, target_of
from penstock.project.alerting.outbox import ALONE, MOST_PER_HOUR, Batch, plan, wait_after
from penstock.store.ledger.deliveries import Due

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TARGET = Target(channel="webhook", address="https://example.org/secret")
MESSAGE = Message(
    key="pst-1", thread="pst-0", kind="alert.opened", title="t", text="x" * 9000, at=NOW, sent_at=NOW, data={}
)


def due(number: int, *, tries: int = 0, at: datetime = NOW) -> Due:
    """Return a message that is due."""
    return Due(
        pipeline="movies",
        alert_id=number,
        event="opened",
        channel="webhook",
        state="waiting",
        tries=tries,
        next_at=at,
    )


def planned(*rows: Due, sent: int = 0) -> list[list[int]]:
    """Return the alerts of each message that goes out now."""
    found = plan(rows, {("movies", "webhook"): TARGET}, {TARGET: sent})
    return [[row.alert_id for row in batch.rows] for batch in found.get(TARGET, list[Batch]())]


def test_a_few_go_out_alone_and_more_as_one() -> None:
    """M6: up to three are messages of their own; one more makes all of them a digest."""
    assert planned(*(due(n) for n in range(ALONE))) == [[0], [1], [2]]
    assert planned(*(due(n) for n in range(ALONE + 1))) == [[0, 1, 2, 3]]


def test_what_was_tried_together_is_tried_together_again() -> None:
    """New messages join none that was tried, so that its key stays what it was."""
    later = NOW + timedelta(seconds=1)
    rows = [due(1, tries=1), due(2, tries=1), due(3, tries=2, at=later), due(4)]
    assert planned(*rows) == [[1, 2], [3], [4]]


def test_whoever_had_enough_in_an_hour_waits() -> None:
    """M6: at the limit only what was tried before goes out; just below it everything new is one digest."""
    rows = [due(1, tries=1), *(due(n) for n in (2, 3))]
    assert planned(*rows, sent=MOST_PER_HOUR) == [[1]]
    assert planned(*rows, sent=MOST_PER_HOUR - 1) == [[1], [2, 3]]


def test_waits_double_up_to_an_hour_and_differ() -> None:
    """Backoff with a spread of a quarter; what the receiver asks for is heeded, up to an hour."""
    waits = [wait_after(tries, "a1/opened/webhook").total_seconds() for tries in range(1, 13)]
    assert all(0.75 <= wait / min(30 * 2**n, 3600) <= 1.25 for n, wait in enumerate(waits))
    assert len({wait_after(1, f"a{n}/opened/webhook") for n in range(100)}) == 100
    assert wait_after(1, "a1/opened/webhook", 600.0) == timedelta(minutes=10)
    assert wait_after(1, "a1/opened/webhook", 10.0**9) == timedelta(hours=1)


def test_a_secret_may_be_written_as_standard_webhooks_does() -> None:
    """Behind "whsec_" stands the key in base64; what is not base64 behind it is said, and nothing is sent unsigned."""
    key = b"0123456789abcdef01234567"
    found = signed(MESSAGE, b"{}", f"whsec_{base64.b64encode(key).decode()}")
    content = f"pst-1.{int(NOW.timestamp())}.{{}}".encode()
    assert found["webhook-signature"] == f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}"
    assert "webhook-signature" not in signed(MESSAGE, b"{}", None)
    with pytest.raises(UndeliveredError, match="is not base64"):
        signed(MESSAGE, b"{}", "whsec_no base64")


def test_slack_takes_texts_of_three_thousand() -> None:
    """Longer ones are cut, or all of the message would be refused."""
    assert all(len(block["text"]["text"]) <= 3000 for block in slack_payload(MESSAGE)["blocks"])


@pytest.mark.parametrize(
    ("channel", "policy", "said"),
    [
        ("webhook", AlertPolicy(webhook="file:///etc/passwd"), "is not of the form"),
        ("webhook", AlertPolicy(webhook="https://"), "is not of the form"),
        ("slack", AlertPolicy(slack="https://example.org:99999/x"), "is not of the form"),
        ("email", AlertPolicy(email=("a@b.c",), smtp="https://example.org"), "is not of the form smtps://"),
        ("email", AlertPolicy(smtp="smtp://example.org"), "names nobody"),
        ("email", AlertPolicy(email=("a@b.c",), smtp="smtp://u:hunter2@example.org"), "holds a password"),
    ],
)
def test_an_address_that_cannot_be_is_refused_and_not_repeated(channel: str, policy: AlertPolicy, said: str) -> None:
    """What is said about it does not hold it: an address may be a secret."""
    with pytest.raises(InputError, match=said) as caught:
        target_of(channel, policy)
    assert "passwd" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_target_shows_no_address() -> None:
    """Wherever it is printed."""
    assert "secret" not in repr(TARGET)
