"""The movies pipeline through its life on real ratings: intake by date, release, new titles, reuse, answers, diff.

MovieTweetings where it is there (in CI it has to be); elsewhere the sample that the example generates.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "movietweetings"
EXAMPLE = ROOT / "examples" / "movies"
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(EXAMPLE))

import sample  # noqa: E402 - found only with the folder on the path

from penstock.project.comparing import diff  # noqa: E402 - as above
from penstock.releases.manifest import Manifest, decode_manifest  # noqa: E402 - as above
from penstock.serving.predictions.reading import find_prediction  # noqa: E402 - as above
from penstock.store.ledger import runs  # noqa: E402 - as above
from project_folder import Project  # noqa: E402 - as above

# Training is inside the first test's time; a busy machine may take several times the usual two minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FORTNIGHT = timedelta(days=14)
FIGURE = 0.1604  # NDCG@10 of the reference ranker on the last fortnight of MovieTweetings
STRANGER = 2_000_000_000
TAKES_PART = {"recommender", "most_watched_lately", "champion"}


@dataclass
class Journey:
    """The project, what it has been fed, and what each command of the journey said.

    Attributes:
        told: What `penstock run --json` wrote, by what the run was for.
        ends: Until when the source files reached at each intake.
    """

    project: Project
    ratings: pl.DataFrame
    titles: pl.DataFrame
    is_real: bool
    time: str
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    ends: list[datetime] = field(default_factory=list)

    def feed(self, end: datetime) -> None:
        """Let the source files grow to what was known at `end`: ratings until then, and the titles rated so far."""
        known = self.ratings.filter(pl.col(self.time) <= end)
        rated = self.titles.join(known, on="movie_id", how="semi", maintain_order="left")
        known.write_parquet(self.project.root / "data" / "ratings.parquet")
        rated.write_parquet(self.project.root / "data" / "titles.parquet")
        self.ends.append(end)

    def run(self, purpose: str, *options: str) -> dict[str, Any]:
        """Run `penstock run`, and keep what it said."""
        done = self.project.command("run", "movies", "--json", *options)
        assert done.returncode == 0, f"{purpose}: {done.stdout}\n{done.stderr}"
        self.told[purpose] = json.loads(done.stdout)
        return self.told[purpose]

    def promote(self, release: str) -> None:
        """Have a candidate go live as its policy asks: approved by product, and without waiting for people to ask."""
        early = self.project.command("promote", release)
        assert early.returncode == 3, early.stdout
        assert f"penstock approve {release} --as product" in early.stderr
        for words in (
            ("approve", release, "--as", "product", "--reason", "the new titles look right"),
            ("promote", release, "--to", "100%", "--reason", "nobody asks yet"),
        ):
            done = self.project.command(*words)
            assert done.returncode == 0, done.stderr

    def manifest(self, purpose: str) -> Manifest:
        """Return everything that a run of the journey used and made."""
        number = int(self.told[purpose]["run"].removeprefix("r"))
        with self.project.opened() as workspace, workspace.ledger.read() as conn:
            found = runs.get(conn, number).manifest_digest
            assert found is not None
            return decode_manifest(workspace.blobs.read(found))

    def ran(self, purpose: str) -> set[str]:
        """Return the nodes that a run did run, the datasets aside: they are asked for new rows each time."""
        return {n for n, state in self.told[purpose]["nodes"].items() if state != "reused"} - {"ratings", "titles"}


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """The whole life, once: three intakes, a first release, a second on all ratings, and what came after."""
    is_real = REAL.is_dir()
    assert is_real or os.environ.get("CI") != "true", f"{REAL} must be there in CI"
    root = tmp_path_factory.mktemp("movies")
    for name in ("movies.py", "features.py", "ranker.py", "penstock.toml"):
        shutil.copy(EXAMPLE / name, root / name)
    (root / "data").mkdir()
    if is_real:
        ratings, titles = pl.read_parquet(REAL / "ratings.parquet"), pl.read_parquet(REAL / "movies.parquet")
    else:
        ratings, titles = sample.make()
    time = "timestamp" if is_real else "rated_at"
    made = Journey(Project(root, "movies"), ratings, titles, is_real, time)
    newest: datetime = ratings.select(pl.col(time).max()).item()
    for n, days in enumerate((120, 80, 45), start=1):
        made.feed(newest - timedelta(days=days))
        made.run(f"intake {n}", "--only", "ratings,titles")
    # The first model is quick, having few weeks to learn from; the second is made as the example is meant.
    made.run("first", "-p", "recommender.weeks=6")
    made.feed(newest)
    made.run("second")
    made.promote("movies@2")
    made.run("again")
    return made


def test_each_intake_takes_only_what_is_new(journey: Journey) -> None:
    """D4, Q4: four intakes are four versions, each with the rows since the last, and the watermark moves along."""
    versions = journey.project.versions("movies", "ratings")
    assert [v.version for v in versions] == [1, 2, 3, 4]
    before = None
    for version, end in zip(versions, journey.ends, strict=True):
        known = journey.ratings.filter(pl.col(journey.time) <= end)
        new = known if before is None else known.filter(pl.col(journey.time) > before)
        assert version.rows_added == new.height
        assert version.rows == known.height
        newest: datetime = known.select(pl.col(journey.time).max()).item()
        assert datetime.fromisoformat(version.watermark).replace(tzinfo=None) == newest.replace(tzinfo=None)
        before = end
    titles = journey.project.versions("movies", "titles")
    assert sum(v.rows_added for v in titles) == titles[-1].rows
    assert titles[-1].rows == journey.titles.join(journey.ratings, on="movie_id", how="semi").height


def test_an_old_version_is_readable_later(journey: Journey) -> None:
    """D1, D2: `ratings@1` still holds exactly the rows of its day, in the schema agreed then."""
    first, *_, last = journey.project.versions("movies", "ratings")
    rows = journey.project.rows(first)
    known = journey.ratings.filter(pl.col(journey.time) <= journey.ends[0])
    columns = ("user_id", "movie_id")
    assert rows.select(columns).sort(columns).equals(known.select(columns).sort(columns))
    assert first.schema == last.schema
    assert first.digest != last.digest
    assert journey.project.quarantine("movies", "ratings").height == 0


def test_an_intake_alone_makes_no_release(journey: Journey) -> None:
    """tI4: a run of the datasets only trains nothing and releases nothing."""
    for n in (1, 2, 3):
        told = journey.told[f"intake {n}"]
        assert told["nodes"].keys() == {"ratings", "titles"}
        assert told["release"] is None


def test_the_ranker_is_released_because_it_beats_counting(journey: Journey) -> None:
    """tI3, tI4, tM5, T7, D9: trained, judged on the last fortnight, above the baseline with its whole interval."""
    told = journey.told["second"]
    assert told["release"] == "movies@2"
    assert all(check["passed"] for check in told["checks"])
    names = {check["name"] for check in told["checks"]}
    assert {"better_than_lately", "no_empty_split", "time_leakage", "finite_metrics", "same_answers"} <= names
    manifest = journey.manifest("second")
    means = manifest.evaluations["quality"].means
    assert means.keys() == TAKES_PART
    [lift] = next(c for c in manifest.checks if c.name == "not_worse_than_baselines").evidence["lifts"]
    assert lift["over"] == "most_watched_lately"
    assert lift["low"] > 0
    if journey.is_real:
        assert means["recommender"]["ndcg_at_10"].mean > FIGURE
        assert means["recommender"]["ndcg_at_10"].n == 2586


def test_quality_is_told_by_slice(journey: Journey) -> None:
    """E1, Q5: each declared slice has its figure and interval in what the run says."""
    [quality] = journey.told["second"]["quality"]
    assert {row["column"] for row in quality["worst"]} <= {"genre", "decade", "user_history"}
    assert all(row["low"] < row["mean"] < row["high"] for row in quality["worst"])
    [check] = [c for c in journey.told["second"]["checks"] if c["name"] == "slices_not_worse"]
    assert check["evidence"]["judged"] >= 15


def test_the_champion_is_judged_on_the_same_rows(journey: Journey) -> None:
    """E3, R1: the second candidate met movies@1 on the same people, and the gate saw the difference."""
    means = journey.manifest("second").evaluations["quality"].means
    assert {models["ndcg_at_10"].n for models in means.values()} == {means["champion"]["ndcg_at_10"].n}
    [check] = [c for c in journey.told["second"]["checks"] if c["name"] == "not_worse_than_champion"]
    assert [lift["over"] for lift in check["evidence"]["lifts"]] == ["champion"]


def test_a_rerun_reuses_everything_and_keeps_the_release(journey: Journey) -> None:
    """P4, Q16: nothing is trained again; only the new champion is judged once, and no release is made."""
    told = journey.told["again"]
    with journey.project.opened() as workspace:
        assert diff(workspace, "movies@2", told["release"]).is_empty
    assert (told["release"], told["is_new_release"]) == ("movies@2", False)
    assert told["nodes"]["recommender"] == told["nodes"]["split"] == "reused"
    assert journey.ran("again") <= {"quality", "better_than_lately"}


@pytest.fixture(scope="module")
def answers(journey: Journey) -> Iterator[httpx.Client]:
    with journey.project.served("movies@2") as server, httpx.Client(base_url=server.url) as client:
        yield client


def test_known_and_unknown_people_are_answered(journey: Journey, answers: httpx.Client) -> None:
    """L1, S4, S6: ten titles with names for a regular and for a stranger; each answer is stored under its id."""
    regular = journey.ratings.group_by("user_id").len().sort("len", "user_id")["user_id"][-1]
    names = set(journey.titles["title"].to_list())
    for user in (int(regular), STRANGER):
        reply = answers.post("/movies/recommend", json={"user_id": user}).raise_for_status().json()
        assert reply["release"] == "movies@2"
        assert len({movie["movie_id"] for movie in reply["answer"]}) == 10
        assert {movie["title"] for movie in reply["answer"]} <= names
        kept = find_prediction(journey.project.root / ".penstock", "movies", reply["prediction_id"])
        assert kept.fields == {"user_id": user, "k": 10}
        assert (kept.release, kept.answer) == ("movies@2", reply["answer"])
    short = answers.post("/movies/recommend", json={"user_id": int(regular), "k": 3}).raise_for_status().json()
    assert len(short["answer"]) == 3
    refused = answers.post("/movies/recommend", json={"user_id": "seven"})
    assert refused.status_code == 422
    assert "user_id" in refused.text


def test_new_titles_are_recommended_within_one_cycle(journey: Journey, answers: httpx.Client) -> None:
    """Q4: titles first rated after the first release reach people through the second, never through the first."""
    last, before = journey.ends[:-3:-1]
    since = journey.ratings.group_by("movie_id").agg(pl.col(journey.time).min().alias("first"))
    between = pl.col("first").is_between(before, last, closed="right")
    new = set(since.filter(between)["movie_id"].to_list())
    people = journey.ratings["user_id"].unique().sort().sample(40, seed=0).to_list()
    shown = asked(answers, people)
    assert new & shown
    with journey.project.served("movies@1") as server, httpx.Client(base_url=server.url) as older:
        assert not new & asked(older, people)


def asked(client: httpx.Client, people: list[int]) -> set[int]:
    replies = [client.post("/movies/recommend", json={"user_id": user}).raise_for_status().json() for user in people]
    return {movie["movie_id"] for reply in replies for movie in reply["answer"]}


def test_one_answer_from_the_command_line(journey: Journey) -> None:
    """L1, L3: `penstock predict` answers as the server does."""
    done = journey.project.command("predict", "movies", f'{{"user_id": {STRANGER}, "k": 2}}', "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["answer"]) == 2
    assert find_prediction(journey.project.root / ".penstock", "movies", told["prediction_id"]).fields["k"] == 2


def would_run(journey: Journey) -> dict[str, str]:
    """Return why each node would run, or might, by node; datasets aside."""
    lines = [line for line in journey.project.plan().lines if line.role != "dataset"]
    return {line.node: line.reason for line in lines if line.action != "reuse"}


def test_a_comment_runs_nothing_again(journey: Journey) -> None:
    """P5, Q16: comments, docstrings and blank lines are no change."""
    kept = {name: (journey.project.root / name).read_text() for name in ("movies.py", "features.py")}
    before = would_run(journey)
    journey.project.change(
        '    """Return ratings as arrays;', '    # In the order of time.\n\n    """Give', "features.py"
    )
    journey.project.change('    """Hold out', '    """Keep back', "movies.py")
    assert would_run(journey) == before
    assert "recommender" not in before
    restore(journey, kept)


def test_a_changed_helper_runs_exactly_what_reaches_it(journey: Journey) -> None:
    """P5, Q16, N9: two modules away, one number; the model and what rests on it would run, and the plan says why."""
    kept = {"features.py": (journey.project.root / "features.py").read_text()}
    journey.project.change("np.exp2(-index.age / 20)", "np.exp2(-index.age / 21)", "features.py")
    found = would_run(journey)
    assert {"recommender", "quality", "better_than_lately"} <= found.keys()
    assert not {"split", "most_watched_lately", "ratings_are_on_the_scale"} & found.keys()
    assert "_history_weights" in found["recommender"]
    assert "features.py" in found["recommender"]
    restore(journey, kept)


def restore(journey: Journey, files: dict[str, str]) -> None:
    for name, text in files.items():
        (journey.project.root / name).write_text(text)


@pytest.fixture(scope="module")
def changed(journey: Journey) -> Journey:
    """The evaluation is changed, run, and put back; then another parameter is tried."""
    kept = {"movies.py": (journey.project.root / "movies.py").read_text()}
    journey.project.change('pl.Series("hit_at_10", [float(any(hit))', 'pl.Series("hit", [float(any(hit))', "movies.py")
    journey.run("evaluated otherwise")
    restore(journey, kept)
    done = journey.project.command("run", "movies", "--json", "-p", "recommender.weeks=6")
    journey.told["fewer weeks"] = json.loads(done.stdout)
    assert done.returncode in {0, 3}, done.stderr
    return journey


def test_a_changed_evaluation_reuses_the_model(changed: Journey) -> None:
    """P5, Q16, R3: only the evaluation and what rests on it run; the release is another, being the whole pipeline."""
    assert changed.ran("evaluated otherwise") <= {"quality", "better_than_lately"}
    assert "quality" in changed.ran("evaluated otherwise")
    assert changed.told["evaluated otherwise"]["release"] == "movies@3"
    ours, theirs = (changed.manifest(purpose).artifacts for purpose in ("second", "evaluated otherwise"))
    assert ours["recommender/recommender"].digest == theirs["recommender/recommender"].digest


def test_other_parameters_meet_the_champion_on_the_same_rows(changed: Journey) -> None:
    """E3, tI4: the live release is judged again beside the new candidate, and the gate decides by that."""
    told, means = changed.told["fewer weeks"], changed.manifest("fewer weeks").evaluations["quality"].means
    assert means.keys() == TAKES_PART
    assert len({models["ndcg_at_10"].n for models in means.values()}) == 1
    before = changed.manifest("second").evaluations["quality"].means["recommender"]
    assert means["champion"]["ndcg_at_10"].mean == pytest.approx(before["ndcg_at_10"].mean)
    broken = [check["name"] for check in told["checks"] if not check["passed"]]
    assert (told["release"] is None) == bool(broken)


def test_a_diff_shows_parameters_metrics_and_predictions(changed: Journey) -> None:
    """Q8, Q13, Q18, R2, R4: what differs between two runs, down to the people whose answers changed."""
    runs_of = [changed.told[purpose]["run"] for purpose in ("second", "fewer weeks")]
    with changed.project.opened() as workspace:
        found = diff(workspace, *runs_of)
    assert [(c.name, c.before, c.after) for c in found.params] == [("recommender.weeks", 18, 6)]
    assert not found.code
    assert not found.data
    [metric] = [m for m in found.metrics if (m.model, m.metric) == ("recommender", "ndcg_at_10")]
    assert metric.before is not None
    assert metric.after is not None
    assert metric.before.mean != metric.after.mean
    rows = {change.subject: change for change in found.predictions}
    assert rows["quality of recommender"].changed > 0
    assert rows["quality of most_watched_lately"].changed == 0
    assert any(change.changed for subject, change in rows.items() if subject.startswith("recommend"))
    done = changed.project.command("diff", *runs_of)
    assert done.returncode == 0, done.stderr
    assert "weeks" in done.stdout
