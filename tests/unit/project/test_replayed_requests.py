"""Which recorded requests are asked again, and what they can be sliced by."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.clock import Clock
from penstock.project.replaying.requests import choose_requests
from penstock.project.workspace import open_workspace
from penstock.releases.replay.compare import Chosen
from penstock.serving.predictions.log import LogEntry, PredictionLog

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def record(
    root: Path, given: list[tuple[str, dict[str, Any]]], *, start: int = 0, redact: tuple[str, ...] = ()
) -> None:
    """Write requests as a worker does, one a second."""
    log = PredictionLog(root / ".penstock", "flow", worker="w0-1", clock=Clock(), redact=redact)
    for number, (serve, fields) in enumerate(given, start):
        at = NOW + timedelta(seconds=number)
        entry = LogEntry(
            id=log.new_id(at), at=at, release="flow@1", serve=serve, fields=msgspec.Raw(msgspec.json.encode(fields)),
            answer=msgspec.Raw(b"1.5"), key=str(fields.get("user", "")), redacted=redact,
        )  # fmt: skip
        log.append([entry], [None])
    log.close()


def chosen(root: Path, most: int, since: datetime | None = None) -> Chosen:
    with open_workspace(root) as workspace:
        return choose_requests("flow", workspace, most=most, since=since)


def test_of_the_newest_a_sample_is_asked_the_same_each_time(tmp_path: Path) -> None:
    """L8: ten times as many as are asked are chosen from, the newest; since a time, all of them are."""
    record(tmp_path, [("f", {"user": n}) for n in range(300)])
    found = chosen(tmp_path, 20)
    assert (found.recorded, len(found.requests), found.columns.height) == (200, 20, 20)
    assert min(one.at for one in found.requests) >= NOW + timedelta(seconds=100)
    assert max(one.at for one in found.requests) - min(one.at for one in found.requests) > timedelta(seconds=100)
    assert [one.prediction_id for one in chosen(tmp_path, 20).requests] == [one.prediction_id for one in found.requests]
    # A smaller sample is the beginning of a larger one, so that what was asked until the time is up is one too.
    of_all = chosen(tmp_path, 300, since=NOW)
    assert of_all.recorded == 300
    assert [one.prediction_id for one in chosen(tmp_path, 7, since=NOW).requests] == [
        one.prediction_id for one in of_all.requests[:7]
    ]
    assert chosen(tmp_path, 20, since=NOW + timedelta(days=1)).requests == ()


def test_what_policy_left_out_cannot_be_asked_again_and_is_counted(tmp_path: Path) -> None:
    """L8: redacted requests are told by the field, and take nobody's place in the sample."""
    record(tmp_path, [("f", {"user": n, "name": "x"}) for n in range(40)], redact=("name",))
    record(tmp_path, [("f", {"user": n}) for n in range(30)], start=40)
    found = chosen(tmp_path, 30)
    assert (found.recorded, len(found.requests)) == (70, 30)
    assert found.left_out == {"policy redacted name": 40}


def test_requests_are_sliced_by_fields_function_and_how_often_their_key_asks(tmp_path: Path) -> None:
    """L8: also where two functions have a field of one name for values of unlike kinds."""
    record(tmp_path, [("f", {"user": n % 3, "genre": "crime"}) for n in range(12)])
    columns = chosen(tmp_path, 50).columns
    assert {"serve", "user", "genre", "requests of its key"} <= set(columns.columns)
    assert columns["requests of its key"].unique().to_list() == ["2 to 4"]
    record(tmp_path, [("g", {"user": 9, "genre": ["crime", "drama"]})], start=12)
    columns = chosen(tmp_path, 50).columns
    assert columns.height == 13
    assert {"f.genre", "g.genre"} <= set(columns.columns)
    assert columns.filter(serve="g")["requests of its key"].to_list() == ["1"]
