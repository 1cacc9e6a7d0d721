"""Feedback is taken in once, corrected by what comes later, and on the disk before the caller hears of it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from penstock.core import faults
from penstock.core.clock import Clock
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request
from penstock.serving.predictions import tables
from penstock.serving.predictions.compaction import compact
from penstock.serving.predictions.feedback import FeedbackLog
from penstock.serving.predictions.reading import feedback_frame
from penstock.serving.predictions.records import make_id
from penstock.serving.predictions.truth import outcome_of
from penstock.serving.protocols.feedback import PATH, routes
from penstock.serving.refusals import RequestError

NOW = datetime(2024, 5, 1, tzinfo=UTC)
ID = make_id(NOW, b"0123456789")


class Desk:
    """The route of feedback on a log of its own, with a clock that a test may move."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = NOW
        self.counted = 0
        self.log = FeedbackLog(home, "movies", worker="w0-1", clock=Clock(now=lambda: self.now))
        self._handle = routes(self.log, limits=Limits(), count=self._count)[PATH].handle

    def _count(self, count: int) -> None:
        self.counted += count

    def post(self, value: Any) -> Reply:
        return self.post_bytes(msgspec.json.encode(value))

    def post_bytes(self, body: bytes) -> Reply:
        async def ask() -> Reply:
            told = asyncio.get_running_loop().create_future()
            self._handle(Request("POST", PATH, {}, body), told.set_result)
            reply = await asyncio.wait_for(told, 10)
            assert isinstance(reply, Reply)
            return reply

        return asyncio.run(ask())

    def rows(self, *, is_history: bool = False) -> pl.DataFrame:
        return feedback_frame(self.home, "movies", is_history=is_history).collect()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.log.close()


def test_one_piece_of_feedback_is_a_row(desk: Desk) -> None:
    """What was said about a prediction is found by its id, with who said it and when."""
    reply = desk.post({"prediction_id": ID, "value": True})
    assert (reply.status, msgspec.json.decode(reply.body)["status"]) == (200, "accepted")
    row = desk.rows().row(0, named=True)
    assert (row["prediction_id"], row["name"], row["source"], row["value"]) == (ID, "feedback", "caller", 1.0)
    assert (row["at"], row["received_at"], desk.counted) == (NOW, NOW, 1)


@pytest.mark.parametrize("compacts", [False, True])
def test_the_same_feedback_twice_is_one_row(desk: Desk, *, compacts: bool) -> None:
    """A retry changes nothing, whether or not the first was compacted meanwhile."""
    for _ in range(3):
        assert desk.post({"prediction_id": ID, "value": 3.5}).status == 200
        if compacts:
            desk.log.close()
            compact(desk.home, "movies")
    assert desk.rows(is_history=True).height == 1


@pytest.mark.parametrize("compacts", [False, True])
def test_later_feedback_corrects_earlier(desk: Desk, *, compacts: bool) -> None:
    """The newest counts, months later too, and what was said before is still known."""
    for months, value in enumerate((1, 0, 0.5)):
        desk.now = NOW + timedelta(days=30 * months)
        desk.post({"prediction_id": ID, "value": value})
        if compacts:
            desk.log.close()
            compact(desk.home, "movies")
    assert desk.rows()["value"].to_list() == [0.5]
    assert desk.rows(is_history=True)["value"].to_list() == [1, 0, 0.5]


def test_a_late_retry_of_older_truth_does_not_win(desk: Desk) -> None:
    """Feedback that says when it was true is ordered by that."""
    desk.post({"prediction_id": ID, "value": 1, "at": "2024-04-02T00:00:00Z"})
    desk.post({"prediction_id": ID, "value": 0, "at": "2024-04-01T02:00:00+02:00"})
    assert desk.rows()["value"].to_list() == [1]
    assert desk.rows(is_history=True)["at"].to_list()[0] == datetime(2024, 4, 1, tzinfo=UTC)


def test_what_is_compacted_late_does_not_win(desk: Desk) -> None:
    """The order in which workers' segments are taken in is not that in which things were said."""
    other = Desk(desk.home)
    other.now = NOW
    other.post({"prediction_id": ID, "value": 1})
    for minutes, value in ((1, 0), (2, 1)):
        desk.now = NOW + timedelta(minutes=minutes)
        desk.post({"prediction_id": ID, "value": value})
    desk.log.close()
    compact(desk.home, "movies")
    other.log.close()
    compact(desk.home, "movies")
    assert desk.rows()["value"].to_list() == [1]


def test_names_and_answers_of_a_batch_are_apart(desk: Desk) -> None:
    """Each name of feedback, and each answer of several, has a newest value of its own."""
    items = [{"prediction_id": f"{ID}-{i}", "value": i, "name": name} for i in range(3) for name in ("liked", "bought")]
    reply = desk.post(items)
    assert msgspec.json.decode(reply.body)["accepted"] == 6
    assert desk.rows().height == 6


def test_text_and_objects_are_kept_as_they_were_said(desk: Desk) -> None:
    """What is no number is JSON text; nothing is made of it."""
    desk.post([{"prediction_id": ID, "value": "gut, aber spät", "name": "said"}])
    desk.post([{"prediction_id": ID, "value": {"stars": [1, 2]}, "name": "stars"}])
    found = desk.rows().sort("name")
    assert found["value"].to_list() == [None, None]
    assert [msgspec.json.decode(text) for text in found["detail"]] == ["gut, aber spät", {"stars": [1, 2]}]


def test_each_item_of_a_list_is_judged_by_itself(desk: Desk) -> None:
    """Good items are taken in although others are refused, and each refusal says why."""
    good = {"prediction_id": ID, "value": 1}
    bad = [{"prediction_id": "../../x", "value": 1}, {"value": 1}, {**good, "at": "2024-05-01T00:00:00"}, 7]
    bad += [{**good, "value": None}, {**good, "name": "No Name"}, {**good, "more": 1}]
    said = msgspec.json.decode(desk.post([good, *bad]).body)
    assert (said["accepted"], said["refused"]) == (1, 7)
    messages = [result["error"]["message"] for result in said["results"][1:]]
    assert "is not a prediction id" in messages[0]
    assert "has no zone" in messages[2]
    assert desk.rows().height == 1
    assert desk.post(bad).status == 422


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 422),
        (b"7", 422),
        (b'{"prediction_id":"' + ID.encode() + b'","value":NaN}', 400),
        (b'{"prediction_id":"' + ID.encode() + b'","value":1,"value":2}', 422),
        (b'{"prediction_id":"' + ID.encode() + b'","value":123456789012345678901234567890}', 422),
        (b"[" * 100 + b"]" * 100, 422),
        (msgspec.json.encode([{}] * 10_001), 413),
    ],
)
def test_nonsense_is_refused(desk: Desk, body: bytes, status: int) -> None:
    """A body that is no feedback is a clear 4xx and leaves nothing behind."""
    with pytest.raises(RequestError, match=r"\S") as refused:
        desk.post_bytes(body)
    assert refused.value.status == status
    assert desk.rows().height == 0


def test_a_full_disk_is_said_and_nothing_is_acknowledged(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller hears 503 with Retry-After; sent again when there is room it is taken in once."""
    monkeypatch.setattr(faults, "_visits", {})
    monkeypatch.setenv("PENSTOCK_FAULT", "feedback_before_sync:full")
    reply = desk.post({"prediction_id": ID, "value": 1})
    assert (reply.status, reply.headers) == (503, ((b"retry-after", b"5"),))
    assert desk.post({"prediction_id": ID, "value": 1}).status == 200
    assert desk.rows(is_history=True).height == 1


def test_more_feedback_than_may_wait_is_refused(tmp_path: Path) -> None:
    """What waits for the disk is bounded; more of it hears 503 at once."""
    log = FeedbackLog(tmp_path, "movies", worker="w0", clock=Clock(), waiting_bytes=10)
    assert not log.submit([outcome_of(ID, "watched", 1.0, detail=None, at=NOW, received_at=NOW)], lambda _: None)
    log.close()


def test_acknowledged_feedback_survives_a_kill(tmp_path: Path) -> None:
    """A worker that is killed right after it acknowledged leaves the feedback behind, readable and compactable."""
    code = f"""
import os, signal
from pathlib import Path
from tests.unit.serving.test_feedback import Desk, ID
assert Desk(Path({str(tmp_path)!r})).post({{"prediction_id": ID, "value": 4}}).status == 200
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == -9, done.stderr
    assert compact(tmp_path, "movies").feedback == 1
    assert feedback_frame(tmp_path, "movies").collect()["value"].to_list() == [4]
    assert tables.table_of(tmp_path, "movies", tables.FEEDBACK).latest() is not None


def test_an_outcome_found_again_replaces_what_it_found_before(desk: Desk) -> None:
    """An outcome function may run over the same predictions as often as it likes."""
    for day, value in enumerate((0.0, 1.0)):
        assert desk.log.write(
            [outcome_of(ID, "watched", value, detail=None, at=(at := NOW + timedelta(days=day)), received_at=at)]
        )
    assert desk.rows()["value"].to_list() == [1.0]
    assert desk.rows(is_history=True).height == 1
