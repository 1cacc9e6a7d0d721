"""Real ratings in a small pipeline that is watched: days of rows are taken in, people ask, and the monitors look.

Rows go through the lake's own intake and answers through the log of a serving worker; no process is started but for the
release, so that half a year of days takes seconds.
"""

import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from penstock.core.clock import Clock
from penstock.monitoring.findings import Finding
from penstock.project.watching import answers, data, freshness, watch
from penstock.project.workspace import Workspace
from penstock.serving.predictions.compaction import compact
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.store.lake import IntakeRules
from penstock.store.ledger import datasets, windows
from project_folder import Project

DATA = Path(__file__).parents[2] / "shared" / "data" / "movietweetings" / "ratings.parquet"
DAY = timedelta(days=1)
ASKED = 120
# Truth and equality have tests of their own, and processes that take their time.
OWN = {"data": data.measure, "answers": answers.measure, "freshness": freshness.measure}
RELEASED = datetime(2013, 7, 1, tzinfo=UTC)
FILMS = """
    from datetime import datetime

    import polars as pl

    from penstock import Pipeline, Row

    films = Pipeline("films", goal="People find something to watch.")


    @films.dataset(key=("user_id", "movie_id"), time="rated_at")
    def ratings(since: datetime | None) -> pl.LazyFrame:
        rows = pl.scan_parquet("ratings.parquet")
        return rows if since is None else rows.filter(pl.col("rated_at") > since)


    @films.dataset(key="movie_id")
    def titles() -> pl.DataFrame:
        return pl.read_parquet("titles.parquet")


    @films.model
    def liked(ratings: pl.DataFrame) -> list[list[float]]:
        best = ratings.group_by("movie_id").agg(pl.len().alias("n"), pl.col("rating").mean())
        return [[float(movie), score] for movie, _, score in best.sort("n", "movie_id").tail(20).rows()]


    class Movie(Row):
        movie_id: int
        score: float
        kind: str


    @films.serve(examples=[{"user_id": 1}])
    def recommend(liked: list[list[float]], *, user_id: int, k: int = 5) -> list[Movie]:
        score = 7.0 + user_id % 11 / 10
        return [Movie(movie_id=1 + (user_id + i) % 20, score=score + i / 10, kind="film") for i in range(k)]
"""


def real_ratings() -> pl.DataFrame:
    """Return the real ratings, as the pipeline takes them in."""
    rows = pl.read_parquet(DATA).rename({"timestamp": "rated_at"})
    zoned = pl.col("rated_at").dt.replace_time_zone(None).dt.replace_time_zone("UTC").dt.cast_time_unit("us")
    return rows.select("user_id", "movie_id", pl.col("rating").cast(pl.Float64), zoned).sort("rated_at")


@dataclass(slots=True)
class Films:
    """The project, the rows that come, and the time; whether it is rehearsed."""

    project: Project
    rows: pl.DataFrame
    now: datetime = RELEASED
    asked: int = 0
    is_replay: bool = False
    found: list[Finding] = field(default_factory=list)

    @property
    def clock(self) -> Clock:
        """A clock that stands at the time in the project."""
        moment = self.now
        return Clock(now=lambda: moment)

    @contextmanager
    def opened(self) -> Iterator[Workspace]:
        """Open the store at the time in the project."""
        with self.project.opened(self.clock) as workspace:
            settings = msgspec.structs.replace(workspace.settings, is_replay=self.is_replay)
            yield replace(workspace, settings=settings)

    def of_day(self, day: datetime) -> pl.DataFrame:
        """Return the real ratings of a day."""
        return self.rows.filter(pl.col("rated_at").is_between(day, day + DAY, closed="left"))

    def take_in(self, rows: pl.DataFrame, dataset: str = "ratings") -> None:
        """Take rows in at this time, as a run does."""
        with self.opened() as workspace:
            table = workspace.lake.table("films", dataset)
            before = table.latest()
            assert before is not None
            rules = IntakeRules(
                key=("user_id", "movie_id") if dataset == "ratings" else ("movie_id",),
                time="rated_at" if dataset == "ratings" else None,
                contract=before.contract["columns"],
                expected_version=before.version,
                taken_at=self.now,
            )
            version = table.intake(iter([rows]), rules)
            if version is not None:
                with workspace.ledger.write() as conn:
                    datasets.put(conn, version, run_id=None)

    def answer(self, entries: list[LogEntry]) -> None:
        """Keep answers as a serving worker does, and take them into their table as the loop does."""
        with self.opened() as workspace:
            log = PredictionLog(workspace.home, "films", worker=f"w{self.asked}", clock=workspace.clock)
            log.append(entries)
            log.close()
            compact(workspace.home, "films", workspace.settings.policy("films").serve, clock=workspace.clock)

    def watch(self) -> list[Finding]:
        """Let the monitors look."""
        with self.opened() as workspace:
            return watch(workspace, "films", self.now, OWN)

    def live_a_day(
        self, rows: pl.DataFrame | None = None, entries: list[LogEntry] | None = None, *, is_watched: bool = True
    ) -> list[Finding]:
        """Let a day pass with its real ratings and ordinary answers, or with others, and look at its end."""
        day, self.now = self.now, self.now + DAY
        came = self.of_day(day) if rows is None else rows
        if came.height:
            self.take_in(came)
        self.answer(self.asks(day) if entries is None else entries)
        self.found = self.watch() if is_watched else []
        return self.found

    def asks(self, day: datetime, **said: object) -> list[LogEntry]:
        """Return what people of a day ask, and ordinary answers."""
        chance = random.Random(day.toordinal())
        users = self.of_day(day)["user_id"].to_list()
        moments = [day + timedelta(seconds=chance.randrange(86_400)) for _ in range(ASKED)]
        return [self.entry(at, chance.choice(users), **said) for at in moments]

    def alarms(self) -> list[tuple[str, str]]:
        """Return kind and subject of what the newest look found unusual."""
        return [(finding.kind, finding.subject) for finding in self.found if finding.is_alarm]

    def copied(self, root: Path) -> "Films":
        """Return the same world in another folder."""
        shutil.copytree(self.project.root, root, dirs_exist_ok=True)
        return replace(self, project=Project(root, "films"), found=[])

    def kept(self, monitor: str) -> list[windows.KeptWindow]:
        """Return the windows of a monitor, the oldest first."""
        with self.opened() as workspace, workspace.ledger.read() as conn:
            return windows.page(conn, "films", monitor, limit=1000)

    def entry(self, at: datetime, user: int, *, answer: object = None, **said: object) -> LogEntry:
        """Return what a serving worker keeps of one answer."""
        self.asked += 1
        score = 7.0 + user % 11 / 10
        default = [{"movie_id": 1 + (user + i) % 20, "score": score + i / 10, "kind": "film"} for i in range(5)]
        values = {
            "id": f"{self.asked:032x}",
            "at": at,
            "release": "films@1",
            "serve": "recommend",
            "fields": msgspec.Raw(msgspec.json.encode({"user_id": user, "k": 5})),
            "answer": msgspec.Raw(b"null" if said.get("error") else msgspec.json.encode(answer or default)),
            "timings": {"parse_us": 20, "answer_us": 900 + user % 200},
        }
        if "fields" in said:
            said["fields"] = msgspec.Raw(msgspec.json.encode(said["fields"]))
        return LogEntry(**(values | said))  # type: ignore[arg-type]  # each by its own type


def films(root: Path, policy: str = "", released: datetime = RELEASED) -> Films:
    """Release the pipeline from the real ratings up to `released`."""
    project = Project(root, "films")
    project.write(FILMS, "films.py")
    project.write(f"[films]\n{policy}\n", "penstock.toml")
    rows = real_ratings()
    rows.filter(pl.col("rated_at") < released).write_parquet(root / "ratings.parquet")
    known = rows["movie_id"].unique().sort()
    pl.DataFrame({"movie_id": known, "year": 1950 + known % 70}).head(3000).write_parquet(root / "titles.parquet")
    world = Films(project, rows, released)
    assert project.run(clock=world.clock).release == "films@1"
    return world
