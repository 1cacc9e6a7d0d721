"""The process that answers recorded requests: what becomes of each, and of none a trace in the log."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))
from penstock.releases.replay.records import Replayed
from penstock.serving.processes.replay import ReplayAsk, ReplayOrder, ReplayReply
from serving_release import make_artifact_release, make_release

MODULE = "penstock.serving.processes.replay"


def replayed(home: Path, asks: list[tuple[str, dict[str, Any]]], **options: Any) -> ReplayReply:
    """Have release 1 of `serving_release` asked in a process of its own."""
    release = options.pop("release", None) or make_release(home, 1)
    requests = home / "requests.json"
    fields = [ReplayAsk(serve=serve, fields=msgspec.Raw(msgspec.json.encode(given))) for serve, given in asks]
    requests.write_bytes(msgspec.json.encode(fields))
    given = {"budget_s": 60.0, "longest_s": 20.0, **options}
    order = ReplayOrder(home=str(home), manifest=release.manifest, requests=str(requests), **given)
    words = [sys.executable, "-P", "-B", "-m", MODULE, msgspec.json.encode(order).decode()]
    done = subprocess.run(words, capture_output=True, check=True, timeout=250)
    return msgspec.json.decode(done.stdout, type=ReplayReply)


def outcome(one: Replayed) -> tuple[str, str, bool]:
    return one.outcome, one.error, one.is_again


def test_each_request_comes_to_one_of_five_ends(tmp_path: Path) -> None:
    """L8: answered, answered by the fallback, failed (NaN among it), refused, given up; nothing is logged."""
    reply = replayed(
        tmp_path,
        [
            ("which", {"n": 1}),
            ("guarded", {"wait_ms": -1}),
            ("fragile", {"text": "nan"}),
            ("fragile", {"text": "x"}),
            ("which", {"n": "one"}),
            ("nobody", {}),
            ("slow", {"n": 1, "wait_s": 600.0, "mark": str(tmp_path / "mark")}),
        ],
        longest_s=1.0,
    )
    assert reply.error is None
    assert [outcome(one) for one in reply.replayed] == [
        ("answered", "", False),
        ("fallback", "RuntimeError", True),
        ("failed", "not finite", True),
        ("failed", "ValueError", True),
        ("refused", "invalid_field", True),
        ("refused", "NotFoundError", True),
        ("late", "late", True),
    ]
    answers = [msgspec.json.decode(one.answer) for one in reply.replayed]
    assert answers == ["v1", "popular", None, None, None, None, None]
    assert "app_code" in reply.replayed[3].said
    assert not (tmp_path / "predictions").exists()


def test_fields_that_a_caller_may_never_have_sent_are_left_out(tmp_path: Path) -> None:
    """L8: a field that is not known is no refusal where it has the default that the log filled in."""
    asks: list[tuple[str, dict[str, Any]]] = [("which", {"n": 1, "k": 10}), ("which", {"n": 1, "k": 5})]
    reply = replayed(tmp_path, asks, defaults={"which": {"k": 10}})
    assert [(one.outcome, one.left_out) for one in reply.replayed] == [("answered", True), ("refused", False)]


def test_rows_are_asked_one_by_one_as_they_were_recorded(tmp_path: Path) -> None:
    """L8: of a function of rows each recorded row is a request, with one answer."""
    release = make_artifact_release(tmp_path, 3)
    reply = replayed(tmp_path, [("score", {"x": 2.0}), ("lookup", {"movie_id": 1})], release=release)
    assert [msgspec.json.decode(one.answer) for one in reply.replayed] == [{"x": 6.0}, "aaa"]


def test_when_the_time_is_up_what_was_answered_counts(tmp_path: Path) -> None:
    """L8: the budget bounds the whole; the rest of the requests is simply not asked."""
    asks: list[tuple[str, dict[str, Any]]] = [
        ("slow", {"n": n, "wait_s": 0.05, "mark": str(tmp_path / "mark")}) for n in range(200)
    ]
    reply = replayed(tmp_path, asks, budget_s=0.5)
    assert 1 <= len(reply.replayed) <= 10
    assert all(one.outcome == "answered" for one in reply.replayed)
