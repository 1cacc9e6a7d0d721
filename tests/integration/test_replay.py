"""Recorded requests replayed on a candidate: what changes, for whom, and what the gate makes of it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import CheckResult
from penstock.core.refs import ReleaseRef
from penstock.project.questions import ask_release
from penstock.project.replaying.replay import ReplayOptions, find_pair, replay
from penstock.project.running import RunReport
from penstock.project.showing import ReleaseShown, show
from penstock.releases.replay.records import Replay
from penstock.serving.predictions.reading import read_predictions
from penstock.serving.predictions.records import Prediction
from penstock.serving.processes.ask import Ask
from penstock.store.ledger import evidence, releases
from project_folder import Project

GENRES = ("drama", "comedy", "horror")
FLOW = """
    import polars as pl

    from penstock import Pipeline, Row

    flow = Pipeline("flow", goal="People find something to watch.")
    GENRES = ("drama", "comedy", "horror")


    @flow.dataset(key="movie_id")
    def titles() -> pl.DataFrame:
        return pl.DataFrame({"movie_id": list(range(30)), "genre": [GENRES[n % 3] for n in range(30)]})


    @flow.model
    def liked(titles: pl.DataFrame) -> dict[str, list[int]]:
        return {genre: titles.filter(pl.col("genre") == genre)["movie_id"].to_list() for genre in GENRES}


    class Movie(Row):
        movie_id: int
        score: float


    def ratings_of(user_id: int) -> int:
        return user_id % 5 + 1


    def bonus(genre: str, ratings: int) -> float:
        return 0.5 if genre == "horror" and ratings < 3 else 0.0


    @flow.serve(examples=[{"user_id": 1, "genre": "drama"}])
    def recommend(liked: dict[str, list[int]], *, user_id: int, genre: str, k: int = 4) -> list[Movie]:
        extra = bonus(genre, ratings_of(user_id))
        return [Movie(movie_id=m, score=1 / (1 + m) + extra) for m in liked[genre][:k]]


    @flow.serve(examples=[{"rows": [{"x": 1.0}]}])
    def line(liked: dict[str, list[int]], *, rows: pl.DataFrame) -> list[float]:
        return (rows["x"] * len(liked)).to_list()
"""
BUG = ("ratings < 3", "ratings < 4")
REQUESTS = 243


def asks() -> list[Ask]:
    """Requests of 80 users for each genre, of which every sixth says how many movies it wants; and three rows."""
    bodies: list[dict[str, Any]] = [{"user_id": n // 3, "genre": GENRES[n % 3]} for n in range(240)]
    bodies = [body | ({"k": 2} if n % 6 == 0 else {}) for n, body in enumerate(bodies)]
    rows = Ask(function="line", body=b'{"rows":[{"x":1},{"x":2.5},{"x":-4}]}')
    return [rows, *(Ask(function="recommend", body=msgspec.json.encode(body)) for body in bodies)]


def is_touched_by_bug(one: Prediction) -> bool:
    """Say whether the planted bug changes an answer: those to users of exactly three ratings who want horror."""
    return one.serve == "recommend" and one.fields["genre"] == "horror" and one.fields["user_id"] % 5 + 1 == 3


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A pipeline with one release and recorded requests."""
    made = Project(tmp_path_factory.mktemp("replay"))
    made.write(FLOW)
    assert made.run().release == "flow@1"
    with made.opened() as workspace:
        with workspace.ledger.read() as conn:
            live = releases.live(conn, "flow")
        assert live is not None
        assert all(given.error is None for given in ask_release(live, asks(), workspace))
    return made


@pytest.fixture
def flow(released: Project, tmp_path: Path) -> Project:
    """The same, of each test's own: what one replays is not what another finds."""
    return released.copied(tmp_path / "flow")


@contextmanager
def changed(project: Project, before: str, after: str) -> Iterator[RunReport]:
    """Run the pipeline with a change; undo it afterwards, and let the first release be live again."""
    project.change(before, after)
    try:
        yield project.run()
    finally:
        project.change(after, before)
        with project.opened() as workspace, workspace.ledger.write() as conn:
            first = releases.of_pipeline(conn, "flow")[-1]
            releases.set_endpoint(conn, "flow", first.ref, by="test")


@pytest.fixture
def buggy(flow: Project) -> RunReport:
    """The run that released the planted bug, which is not live."""
    with changed(flow, *BUG) as report:
        assert report.release is not None
        return report


def recorded(project: Project) -> list[Prediction]:
    with project.opened() as workspace:
        return list(read_predictions(workspace.home, "flow"))


def replayed(project: Project, candidate: str, against: str | None = "flow@1", **options: Any) -> Replay:
    with project.opened() as workspace:
        return replay(candidate, against, workspace, ReplayOptions(**options))


def check_of(report: RunReport) -> CheckResult:
    return next(check for check in report.checks if check.name == "replay")


def test_a_one_line_bug_is_shown_with_exactly_the_requests_it_changes(flow: Project, buggy: RunReport) -> None:
    """L8, N4: the answers that change are those the bug touches, their slice is named, and the run's gate says so."""
    truth = {one.id for one in recorded(flow) if is_touched_by_bug(one)}
    found = replayed(flow, str(buggy.release))
    assert len(truth) == 16
    assert set(found.changed_ids) == truth
    assert (found.changed, found.compared, found.lost, found.no_longer) == (16, REQUESTS, 0, 0)
    assert found.changed_serves == {"line": (0, 3), "recommend": (16, 240)}
    assert found.slices[0].name.startswith("genre=horror")
    assert found.slices[0].is_sure
    assert found.kinds == {"number": 16}
    assert found.spreads["absolute"].largest == pytest.approx(0.5)
    example = found.examples[0]
    assert example.prediction_id in truth
    assert example.answer_after[0]["score"] - example.answer_before[0]["score"] == pytest.approx(0.5)
    check = check_of(buggy)
    assert check.passed
    assert check.message.startswith("16 of 243 answers change (6.6 %")
    assert "genre=horror" in check.message
    assert len(recorded(flow)) == REQUESTS  # a replay is no traffic


def test_what_was_found_is_kept_and_shown(flow: Project, buggy: RunReport) -> None:
    """R4, Q8: evidence on the release without values of requests; `show` and `diff` tell it, `--no-replay` does not."""
    release = str(buggy.release)
    with flow.opened() as workspace:
        shown = show(release, workspace)
        with workspace.ledger.read() as conn:
            kept = evidence.of_kind(conn, "flow", "replay", subject=release)[-1]
    assert isinstance(shown, ReleaseShown)
    assert shown.replay is not None
    assert (shown.replay.passed, shown.replay.replay.changed) == (True, 16)
    assert kept.by == f"r{buggy.run_id}"
    assert kept.figures["candidate"] == release
    assert all(one["fields"] is None and one["answer_after"] is None for one in kept.figures["examples"])
    told = flow.command("show", release)
    assert "Recorded requests, replayed" in told.stdout, told.stderr
    assert "genre=horror" in told.stdout
    told = flow.command("diff", "flow@1", release)
    assert "16 of 243 answers change" in told.stdout, told.stderr
    told = flow.command("diff", "flow@1", release, "--no-replay", "--json")
    assert msgspec.json.decode(told.stdout)["replay"] is None


def test_a_candidate_that_answers_the_same_changes_nothing(flow: Project) -> None:
    """N4: other code that computes the same answers, down to the last digits, is a release without a change."""
    with changed(flow, "1 / (1 + m) + extra", "(1.0 + extra * (1 + m)) / (1 + m)") as report:
        assert report.release is not None
        found = replayed(flow, report.release)
    assert (found.changed, found.lost, found.gained, found.compared) == (0, 0, 0, REQUESTS)
    assert found.share is not None
    assert 0 < found.share.high < 0.02
    assert (found.kinds, found.slices, found.examples) == ({}, (), ())


def test_the_command_tells_people_and_programs(flow: Project, buggy: RunReport) -> None:
    """L8: headline, slice and examples in words, all of it as JSON, and an exit code by how much may change."""
    words = ("replay", str(buggy.release), "--against", "flow@1")
    told = flow.command(*words)
    assert told.returncode == 0, told.stderr
    for part in ("16 of 243 answers change (6.6 %", "where changes concentrate", "genre=horror", "median"):
        assert part in told.stdout
    told = flow.command(*words, "--json", "--fail-on-change", "0.02", "--requests", "200")
    assert told.returncode == 3
    found = msgspec.json.decode(told.stdout, type=Replay)
    assert (found.recorded, found.sampled, found.compared) == (REQUESTS, 200, 200)
    assert len(found.changed_ids) == found.changed > 4


def test_the_candidate_is_found_by_the_name_of_the_pipeline(flow: Project, buggy: RunReport) -> None:
    """tI6: "flow" is its newest release that is not live, against the live one; bad references say what to do."""
    with flow.opened() as workspace:
        with workspace.ledger.read() as conn:
            newest = releases.of_pipeline(conn, "flow")[0]
        before, after = find_pair("flow", None, workspace)
        assert (after.name, before.name) == (str(newest.ref), "flow@1")
        with workspace.ledger.write() as conn:
            releases.set_endpoint(conn, "flow", newest.ref, by="test")
        before, after = find_pair(str(newest.ref), None, workspace)
        assert (after.name, before.name) == (str(newest.ref), f"flow@{newest.version - 1}")
        with workspace.ledger.write() as conn:
            releases.set_endpoint(conn, "flow", ReleaseRef("flow", 1), by="test")
        with pytest.raises(InputError, match="cannot be compared with itself"):
            find_pair("flow@1", "flow@1", workspace)
        with pytest.raises(NotFoundError, match="no release 'flow@99'"):
            find_pair("flow@99", None, workspace)


def test_a_field_that_is_gone_is_refusals(flow: Project) -> None:
    """L8: who sends a dropped field is refused, which the gate counts; a default that was filled in is not sent."""
    line = "genre: str, k: int = 4) -> list[Movie]:\n        extra = bonus(genre, ratings_of(user_id))"
    gone = "genre: str) -> list[Movie]:\n        k, extra = 4, bonus(genre, ratings_of(user_id))"
    with changed(flow, line.replace("        ", "    "), gone.replace("        ", "    ")) as report:
        check = check_of(report)
        found = replayed(flow, f"r{report.run_id}")
    assert (report.release, report.state, check.passed) == (None, "failed", False)
    assert "40 of 243 recorded requests that flow@1 answers are not answered" in check.message
    assert (found.sides[1].refused, found.lost_again, found.unknown_fields) == (40, 40, 200)
    assert found.changed == 40
    assert found.slices[0].name == "k=2"


def test_a_candidate_that_fails_where_the_live_release_answers_is_refused(flow: Project) -> None:
    """L8, tI6: NaN and exceptions that no example request shows stop the release at the gate, with the evidence."""
    before = '0.5 if genre == "horror" and ratings < 3 else 0.0'
    after = 'float("nan") if genre == "horror" and ratings == 2 else 0.0 / (ratings - 4)'
    with changed(flow, before, after) as report:
        check = check_of(report)
    assert (report.release, check.passed) == (None, False)
    assert check.evidence["errors"] == {"ZeroDivisionError": 48, "not finite": 16}
    assert (check.evidence["lost"], check.evidence["lost_again"]) == (64, 64)
    assert flow.live("flow") == "flow@1"
    with flow.opened() as workspace, workspace.ledger.read() as conn:
        kept = evidence.newest(conn, "flow", "replay", f"r{report.run_id}")
    assert kept is not None
    assert kept.passed is False


def test_policy_limits_how_much_may_change_and_how_long_it_may_take(flow: Project) -> None:
    """L8: `replay` in penstock.toml sets the share of answers that may change, how many are asked, how long."""
    policy = flow.write('[flow]\nreplay = { most_changed = 0.05, requests = 150, budget = "60s" }\n', "penstock.toml")
    try:
        with changed(flow, *BUG) as report:
            check = check_of(report)
            assert (report.release, check.passed) == (None, False)
            assert "policy allows 5.0 %" in check.message
            assert check.evidence["compared"] == 150
        flow.write('[flow]\nreplay = { budget = "2s" }\n', "penstock.toml")
        with changed(
            flow, "extra = bonus(", "extra = 0.0\n    while user_id == 3:\n        pass\n    extra = bonus("
        ) as report:
            check = check_of(report)
            assert (report.release, check.passed) == (None, False)
            assert check.evidence["errors"]["late"] >= 1
        flow.write("[flow]\nreplay = { budget = '2 parsecs' }\n", "penstock.toml")
        with pytest.raises(InputError, match="budget"):
            flow.run()
    finally:
        policy.unlink()


def test_too_little_traffic_is_said_and_stops_nothing(tmp_path: Path) -> None:
    """L8: a first release has nothing to replay; a second without traffic says why it was not replayed."""
    project = Project(tmp_path)
    project.write(FLOW)
    assert not [check for check in project.run().checks if check.name == "replay"]
    project.change(*BUG)
    check = check_of(project.run())
    assert (check.passed, check.message) == (True, "not replayed: nothing was ever asked here")
    with project.opened() as workspace, pytest.raises(NotFoundError, match="Nothing was asked of 'flow'"):
        replay("flow@1", "flow@2", workspace, ReplayOptions())
