"""Monitors of serve functions on answers as the log of a serving worker keeps them."""

import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.tokens import Token
from penstock.serving.predictions.log import LogEntry
from penstock.store.ledger import consumers
from penstock.store.ledger.windows import KeptWindow
from watch_films import DATA, DAY, RELEASED, Films, films

MONITORS = ("inputs:recommend", "answers:recommend", "service:recommend")
LOOK = """
import sys
from datetime import datetime
from pathlib import Path

from penstock.core.clock import Clock
from penstock.project.watching import answers, data, freshness, watch
from penstock.project.workspace import open_workspace

now = datetime.fromisoformat(sys.argv[1])
with open_workspace(Path.cwd(), Clock(now=lambda: now)) as workspace:
    own = {"data": data.measure, "answers": answers.measure, "freshness": freshness.measure}
    watch(workspace, "films", now, own)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Films:
    """A released pipeline after twelve days of real ratings and ordinary answers, watched at their end."""
    if not DATA.is_file():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{DATA} must be there in CI")
        pytest.skip(f"the real ratings are not there: {DATA}")
    made = films(tmp_path_factory.mktemp("answering"), policy="slo = { p99_ms = 50 }\ncost = { prediction = 0.001 }")
    for _ in range(12):
        made.live_a_day(is_watched=False)
    made.found = made.watch()
    return made


def a_day(world: Films, tmp_path: Path, *, every: int = 1, **said: object) -> tuple[Films, list[LogEntry]]:
    """Return a copy of the world, and the answers of its next day, each n-th of them otherwise."""
    own = world.copied(tmp_path)
    ordinary, other = own.asks(own.now), own.asks(own.now, **said)
    return own, [b if place % every == 0 else a for place, (a, b) in enumerate(zip(ordinary, other, strict=True))]


def rankings(kind: str, score: float) -> list[dict[str, object]]:
    """Return an answer."""
    return [{"movie_id": 3 + k, "score": score, "kind": kind} for k in range(5)]


def test_monitors_of_answers_exist_without_user_code(world: Films) -> None:
    """Q7, M6: fields and answers have columns and types, a window a day since the release, and nothing is wrong."""
    assert world.alarms() == []
    for monitor in MONITORS:
        kept = world.kept(monitor)
        assert [one.start_at for one in kept] == [RELEASED + k * DAY for k in range(12)]
        assert {(one.rows, one.release) for one in kept} == {(120, "films@1")}
    cost = world.kept("service:recommend")[0].findings[0]
    assert (cost["kind"], cost["effect"], cost["is_alarm"]) == ("cost", pytest.approx(0.12), False)


@pytest.mark.parametrize(
    ("every", "said", "expected"),
    [
        (1, {}, None),
        (10, {"error": "KeyError"}, ("errors", "recommend")),
        (5, {"error": "deadline", "fallback": True}, ("fallbacks", "recommend")),
        (10, {"error": "AnswerError"}, ("numeric", "recommend")),
        (20, {"timings": {"parse_us": 20, "answer_us": 90_000}}, ("latency", "recommend")),
        (4, {"answer": rankings("series", 7.2)}, ("prediction_drift", "recommend.answer.kind")),
        (1, {"answer": rankings("film", 7.4)}, ("numeric", "recommend")),
        (2, {"answer": rankings("film", 3.0)}, ("prediction_drift", "recommend.answer.score")),
        (3, {"answer": [{"movie_id": 4, "score": None, "kind": "film"}]}, ("missing", "recommend.answer.score")),
        (2, {"fields": {"user_id": 7, "k": 9}}, ("range", "recommend.k")),
    ],
)
def test_what_is_planted_is_found(
    world: Films, tmp_path: Path, every: int, said: dict[str, object], expected: tuple[str, str] | None
) -> None:
    """M3, M4, M6: errors, fallbacks, NaN, slow answers, other categories, scores, questions, one answer to all."""
    own, entries = a_day(world, tmp_path, every=every, **said)
    own.live_a_day(entries=entries)
    if expected is None:
        assert own.alarms() == []
    else:
        assert expected in own.alarms()


def test_in_a_rehearsal_nobody_is_called_slow(world: Films, tmp_path: Path) -> None:
    """Q11: how long answers took on the machine that rehearses is not judged; errors are as ever."""
    own, slow = a_day(world, tmp_path, every=20, timings={"parse_us": 20, "answer_us": 90_000})
    own.is_replay = True
    own.live_a_day(entries=slow)
    assert own.alarms() == []
    own.live_a_day(entries=own.asks(own.now, error="KeyError"))
    assert ("errors", "recommend") in own.alarms()


def test_a_promise_to_one_application_is_watched(world: Films, tmp_path: Path) -> None:
    """Q58: one consumer's slow answers are an alarm that names it, though the pipeline's own promise is kept."""
    own = world.copied(tmp_path)
    promise = consumers.Promise(ms=5.0)
    with own.opened() as workspace, workspace.ledger.write() as conn:
        for name, digit in (("website", "1"), ("app", "2")):
            new = consumers.NewConsumer(pipeline="films", name=name, promise=promise)
            consumers.add(conn, new, Token("serve", digit * 12, digit * 64), by="ada")
    slow = own.asks(own.now, consumer="website", timings={"parse_us": 20, "answer_us": 9_000})
    other = own.asks(own.now, consumer="app")
    own.live_a_day(entries=[slow[place] if place % 10 == 0 else other[place] for place in range(len(other))])
    assert [(kind, subject) for kind, subject in own.alarms() if "/" in subject] == [("latency", "recommend/website")]


def test_nobody_asking_is_a_window_without_rows(world: Films, tmp_path: Path) -> None:
    """M3: a day without questions is recorded, compared with nothing, and the next day goes on."""
    own = world.copied(tmp_path)
    own.live_a_day(entries=[])
    own.live_a_day()
    assert [one.rows for one in own.kept("answers:recommend")][-2:] == [0, 120]
    assert own.alarms() == []


def test_answers_written_late_have_their_window_looked_at_again(world: Films, tmp_path: Path) -> None:
    """M9: answers of a worker that was slow to hand them over count where they belong, once."""
    own = world.copied(tmp_path)
    day = own.now
    entries = own.asks(day)
    own.live_a_day(entries=entries[:60])
    own.live_a_day(entries=[*entries[60:], *own.asks(own.now)])
    kept = {one.start_at: one.rows for one in own.kept("service:recommend")}
    assert (kept[day], kept[day + DAY]) == (120, 120)


def test_a_new_release_may_answer_otherwise(world: Films, tmp_path: Path) -> None:
    """M6: its gate has judged that; the change is told with its size, and is no alarm."""
    own, entries = a_day(world, tmp_path, release="films@2", answer=rankings("film", 3.0))
    found = own.live_a_day(entries=[*entries[1:], own.entry(entries[0].at, 1, release="films@2")])
    told = [finding for finding in found if finding.subject == "recommend.answer.score"]
    assert {finding.kind for finding in told} >= {"prediction_drift"}
    assert not any(finding.is_alarm for finding in told)


@pytest.mark.parametrize("fault", ["windows_before_commit:kill:1", "windows_before_commit:kill:2",
                                   "windows_after_commit:kill:1", "windows_after_commit:kill:2",
                                   "blob_after_fsync:kill:3"])  # fmt: skip
def test_a_watcher_that_is_killed_is_as_if_it_never_was(world: Films, tmp_path: Path, fault: str) -> None:
    """Q14, faults 18: killed anywhere and started again, the same windows are there, each once."""
    own, same = world.copied(tmp_path / "killed"), world.copied(tmp_path / "whole")
    for one in (own, same):
        one.live_a_day(is_watched=False)
        one.live_a_day(is_watched=False)
    assert look(own, fault).returncode == -9
    assert look(own).returncode == 0
    assert look(same).returncode == 0
    monitors = (*MONITORS, "data:ratings", "data:titles", "freshness")
    assert [told(own.kept(monitor)) for monitor in monitors] == [told(same.kept(monitor)) for monitor in monitors]


def look(world: Films, fault: str = "") -> "subprocess.CompletedProcess[str]":
    """Let another process look, which dies where it is told to."""
    environment = {**os.environ, "PENSTOCK_FAULT": fault} if fault else dict(os.environ)
    words = [sys.executable, "-P", "-c", LOOK, world.now.isoformat()]
    return subprocess.run(
        words, cwd=world.project.root, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def told(kept: list[KeptWindow]) -> list[tuple[datetime, timedelta, int, str | None, list[object]]]:
    """Return what a monitor recorded, without when it did."""
    return [(one.start_at, one.end_at - one.start_at, one.rows, one.profile, [*one.findings]) for one in kept]
