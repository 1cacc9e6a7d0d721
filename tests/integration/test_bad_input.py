"""Bad input through the whole platform: one clear error or a defined outcome, and nothing that was finished is lost."""

import io
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.clock import Clock
from penstock.store.ledger.errors import backups_of
from project_folder import Project, reruns

FLOW = """
import polars as pl

from penstock import Pipeline, sources

days = Pipeline("days", goal="Visits to expect in a city.")


@days.dataset(key=("day", "city"), time="at", ranges={"visits": (0, 10_000), "share": (None, None)})
def readings():
    return sources.files("data/*")


@days.model
def usual(readings: pl.DataFrame, *, times: float = 1.0) -> dict[str, float]:
    rows = readings.group_by("city").agg(pl.col("visits").mean() * times).sort("city")
    return dict(rows.iter_rows())


@days.evaluate(metric="error", key="day", higher_is_better=False)
def quality(model: dict, readings: pl.DataFrame, *, unit: float = 1.0) -> pl.DataFrame:
    rows = readings.filter(pl.col("city") == "Oslo")
    return rows.select("day", error=(pl.col("visits") - model["Oslo"]).abs() / unit)


@days.serve(examples=[{"city": "Oslo"}])
def visits(usual, *, city: str) -> float:
    return usual[city]


@days.serve
def share(usual, *, city: str) -> float:
    return usual[city] / total if (total := sum(usual.values())) else float("nan")
"""
FIRST = """\
day,city,at,visits,share
1,Oslo,2026-01-01T10:00:00,10,0.5
1,Bergen,2026-01-01T11:00:00,20,0.5
2,Oslo,2026-01-02T10:00:00,12,0.25
2,Bergen,2026-01-02T11:00:00,24,0.75
"""
HEADER = "day,city,at,visits,share\n"
GOOD = pl.DataFrame({"day": [3], "city": ["Oslo"], "at": ["2026-01-03"], "visits": [14], "share": [1.0]}).with_columns(
    pl.col("at").str.to_datetime(time_unit="us")
)


def parquet(frame: pl.DataFrame) -> bytes:
    held = io.BytesIO()
    frame.write_parquet(held)
    return held.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with one intake and one release."""
    project = Project(tmp_path_factory.mktemp("finished"), "days")
    project.write(FLOW)
    project.write(FIRST, "data/a.csv")
    report = project.run()
    assert report.release == "days@1", report
    project.run()  # the release is judged as the champion once
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of that project, to be fed with bad input."""
    return finished.copied(tmp_path / "project")


def refused(project: Project, *words: str, code: int = 1, says: str) -> str:
    """Assert that a command ends with `code`, one message that holds `says`, a hint, and no traceback of ours."""
    done = project.command(*words)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert says in " ".join(said.split()), said
    assert "Hint: " in said
    assert "site-packages/penstock" not in said
    assert "src/penstock" not in said
    assert "crash" not in said
    return said


def assert_kept(project: Project) -> None:
    """Assert that the release is live and its data as they were."""
    assert [v.version for v in project.versions("days", "readings")] == [1]
    assert project.rows(project.versions("days", "readings")[0]).height == 4
    assert project.live("days") == "days@1"


def assert_nothing_lost(project: Project) -> None:
    """Assert that the release is live and its data as they were, and that the next run builds on all of it."""
    assert_kept(project)
    again = project.run()
    assert (again.release, again.is_new_release) == ("days@1", False), again
    assert reruns(again) == {"readings"}  # its source is asked each time; all else is kept


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        pytest.param("b.parquet", parquet(GOOD)[:-200], "half-written or damaged", id="half-written parquet"),
        pytest.param("b.parquet", b"", "cannot be read as parquet", id="parquet without a byte"),
        pytest.param("b.csv", b"\x00\xff\xfe\x01" * 50, "b.csv cannot be read as csv", id="noise called csv"),
        pytest.param("b.csv", f"{HEADER}3,Oslo,2026-01".encode(), "half-written", id="half-written csv"),
        pytest.param("b.txt", b"?", "names no format", id="format nobody knows"),
        pytest.param("b.parquet", parquet(GOOD.drop("visits")), "- visits: Int64", id="column vanished"),
        pytest.param("b.parquet", parquet(GOOD.with_columns(extra=1)), "+ extra: Int32", id="column appeared"),
        pytest.param(
            "b.parquet",
            parquet(GOOD.with_columns(visits=pl.Series([True]))),
            "! visits: Boolean -> expected Int64",
            id="column changed type",
        ),
        pytest.param(
            "b.parquet",
            parquet(GOOD.with_columns(visits=pl.lit("many"))),
            "Column 'visits' was agreed as Int64, and none of its 1 values is one",
            id="numbers became words",
        ),
        pytest.param(
            "b.csv",
            f"{HEADER}3,Malmö,2026-01-03T10:00:00,14,1.0\n".encode("latin-1"),
            "iconv",
            id="text that is not UTF-8",
        ),
        pytest.param("b.csv", b"day,day,city\n1,1,Oslo\n", "'day' stands 2 times", id="column twice"),
    ],
)
def test_a_bad_file_is_one_error(project: Project, name: str, data: bytes, says: str) -> None:
    """D3, fault 26: the run ends with exit code 1 and says what is wrong; what was finished is as it was."""
    (project.root / "data" / name).write_bytes(data)
    refused(project, "run", "--quiet", says=says)
    assert_kept(project)


def test_a_bad_file_mended_is_taken_in(project: Project) -> None:
    """D4: the run after a refused one takes in the whole file, once, and goes on from what was kept."""
    file = project.root / "data" / "b.parquet"
    file.write_bytes(parquet(GOOD)[:-200])
    refused(project, "run", "--quiet", says="half-written")
    file.unlink()
    assert_nothing_lost(project)
    file.write_bytes(parquet(GOOD))
    report = project.run()
    assert report.release == "days@2", report
    assert report.outcome.datasets["readings"].rows_added == 1


def test_a_file_that_changed_after_it_was_taken_in_is_refused(project: Project) -> None:
    """D4: rows already taken in are not silently other rows."""
    project.write(FIRST.replace("10,0.5", "11,0.5"), "data/a.csv")
    refused(project, "run", "--quiet", says="changed after it was taken in")
    project.write(FIRST, "data/a.csv")
    assert_nothing_lost(project)


def test_a_failing_dataset_function_shows_the_users_own_frames(project: Project) -> None:
    """The traceback is the user's, with the path of the user's file, and nothing of ours in it."""
    project.change('return sources.files("data/*")', 'return sources.files(str(1 // len("")))')
    said = refused(project, "run", "--quiet", says="raised ZeroDivisionError")
    assert f'File "{project.root}/flow.py", line 10, in readings' in said
    project.change('sources.files(str(1 // len("")))', 'sources.files("data/*")')
    assert_nothing_lost(project)


def test_rows_that_break_the_contract_are_set_aside(project: Project) -> None:
    """D3: a word among numbers and a value out of range go to quarantine with the reason; good rows come in."""
    project.write(
        f"{HEADER}3,Oslo,2026-01-03T10:00:00,many,1.0\n3,Bergen,2026-01-03T11:00:00,14,1.0\n"
        "4,Oslo,2026-01-04T10:00:00,-5,1.0\n",
        "data/b.csv",
    )
    report = project.run()
    version = report.outcome.datasets["readings"]
    assert (version.rows_added, version.rows_quarantined) == (1, 2)
    assert sum(version.reasons.values()) == 2
    aside = project.quarantine("days", "readings")
    assert aside.height == 2
    assert report.release == "days@2"
    [check] = [c for c in report.checks if c.name == "schema:readings"]
    assert "2 rows set aside" in check.message


def test_duplicate_keys_leave_the_newest(project: Project) -> None:
    """D4: within a batch and across batches the last row of a key counts, and how many were replaced is recorded."""
    project.write(f"{HEADER}1,Oslo,2026-01-03T10:00:00,98,1.0\n1,Oslo,2026-01-03T10:00:01,99,1.0\n", "data/b.csv")
    version = project.run().outcome.datasets["readings"]
    rows = project.rows(version)
    assert rows.filter(pl.col("day") == 1, pl.col("city") == "Oslo")["visits"].to_list() == [99]
    assert (rows.height, version.replaced) == (4, 2)
    assert project.rows(project.versions("days", "readings")[0])["visits"].sum() == 66


def test_columns_in_another_order_are_put_right(project: Project) -> None:
    """Fault 26: reordered columns are the same rows, never silently swapped; it is noted."""
    GOOD.select("visits", "share", "at", "city", "day").write_parquet(project.root / "data" / "b.parquet")
    report = project.run()
    assert project.rows(report.outcome.datasets["readings"]).filter(pl.col("day") == 3)["visits"].to_list() == [14]
    [check] = [c for c in report.checks if c.name == "schema:readings"]
    assert "columns were put in the recorded order" in check.evidence["notes"]


@pytest.mark.parametrize("text", ["", HEADER], ids=["no byte", "no row"])
def test_an_empty_batch_changes_nothing(project: Project, text: str) -> None:
    """D4: no rows are no version; every result and the release stand."""
    project.write(text, "data/b.csv")
    report = project.run()
    assert (report.release, report.is_new_release) == ("days@1", False)
    assert reruns(report) <= {"readings"}
    assert_nothing_lost(project)


def test_a_first_intake_without_rows_is_refused_and_works_later(tmp_path: Path) -> None:
    """D2: there is no schema to agree on yet, so the run says so; the next one starts afresh."""
    project = Project(tmp_path, "days")
    project.write(FLOW)
    refused(project, "run", "--quiet", says="No file matches 'data/*'")
    project.write(HEADER, "data/a.csv")
    refused(project, "run", "--quiet", says="Dataset 'readings' has no rows yet")
    assert project.versions("days", "readings") == []
    project.write(FIRST, "data/b.csv")
    assert project.run().release == "days@1"


def test_times_before_the_newest_do_not_turn_the_clock_back(tmp_path: Path) -> None:
    """D4: late rows with earlier times come in; the watermark and the logical time stay at the newest."""
    project = Project(tmp_path, "late")
    project.write(
        """
        from datetime import datetime
        import polars as pl
        from penstock import Pipeline

        late = Pipeline("late")

        @late.dataset(key="n", time="at")
        def events(since) -> pl.DataFrame:
            return pl.read_csv("events.csv", try_parse_dates=True)

        @late.step
        def newest(events: pl.DataFrame, now: datetime) -> list[str]:
            return [now.isoformat(), events["at"].max().isoformat()]
        """
    )
    project.write("n,at\n1,2026-01-05T00:00:00\n", "events.csv")
    before = project.run()
    project.write("n,at\n2,2026-01-04T00:00:00\n1,2026-01-03T00:00:00\n", "events.csv")
    after = project.run()
    version = after.outcome.datasets["events"]
    assert version.rows_added == 2
    assert version.watermark == before.outcome.datasets["events"].watermark == "2026-01-05T00:00:00"
    assert project.output(after, "newest") == ["2026-01-05T00:00:00", "2026-01-04T00:00:00"]


def test_a_wall_clock_that_goes_backwards_harms_no_run(project: Project) -> None:
    """Fault 16: runs and releases are in the order in which they came, whatever the clock says."""
    noon = datetime(2026, 5, 5, 12, tzinfo=UTC)
    GOOD.write_parquet(project.root / "data" / "b.parquet")
    later = project.run(clock=Clock(now=lambda: noon))
    GOOD.with_columns(pl.col("day") + 1).write_parquet(project.root / "data" / "c.parquet")
    earlier = project.run(clock=Clock(now=lambda: noon - timedelta(days=400)))
    assert (later.release, earlier.release) == ("days@2", "days@3")
    assert later.run_id < earlier.run_id
    assert project.live("days") == "days@3"
    assert [v.version for v in project.versions("days", "readings")] == [1, 2, 3]
    assert project.command("doctor").returncode == 0


def test_nan_and_infinity_in_the_data_are_kept_as_they_are(project: Project) -> None:
    """Fault 25: they are values of a float column, neither null nor an error."""
    frame = pl.concat(
        [GOOD.with_columns(share=pl.lit(value), day=day) for day, value in ((7, float("nan")), (8, float("inf")))]
    )
    frame.cast({"day": pl.Int64}).write_parquet(project.root / "data" / "b.parquet")
    report = project.run()
    rows = project.rows(report.outcome.datasets["readings"]).sort("day")
    assert rows["share"].is_nan().sum() == 1
    assert rows["share"].is_infinite().sum() == 1
    assert report.release == "days@2"


def test_a_metric_that_is_not_a_number_stops_the_release(project: Project) -> None:
    """tI4, M9, fault 25: the built-in check names metric and model, exit code 3, and the release before stays."""
    refused_by_check(project, "-p", "quality.unit=0", says="error of 'usual' is missing, NaN or infinite in")
    assert_nothing_lost(project)


def test_an_answer_that_is_not_a_number_stops_the_release(project: Project) -> None:
    """tI4, M9, fault 25: answers are looked at before anyone is given one."""
    refused_by_check(project, "-p", "usual.times=0", says="2 of 2 answers hold NaN or an infinity")
    assert_nothing_lost(project)


def refused_by_check(project: Project, *words: str, says: str) -> None:
    done = project.command("run", "--quiet", *words)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 3, said
    assert says in said
    assert "No release" in said
    assert "Traceback" not in said


def test_a_table_of_ten_thousand_columns(tmp_path: Path) -> None:
    """D2: a wide table is taken in, reused, and its schema enforced like any other."""
    project = Project(tmp_path, "wide")
    project.write(
        """
        import polars as pl
        from penstock import Pipeline

        wide = Pipeline("wide")

        @wide.dataset(key="c0")
        def table(*, columns: int = 10_000, rows: int = 5) -> pl.DataFrame:
            return pl.DataFrame({f"c{n}": [float(n + row) for row in range(rows)] for n in range(columns)})

        @wide.step
        def shape(table: pl.LazyFrame) -> list[int]:
            rows = table.collect()
            return [rows.height, rows.width]
        """
    )
    first = project.run()
    assert project.output(first, "shape") == [5, 10_000]
    more = project.run(params={"table.rows": 6})
    assert project.output(more, "shape") == [6, 10_000]
    assert more.outcome.datasets["table"].rows_added == 1
    refused(project, "run", "-p", "table.columns=9999", "--quiet", says="- c9999: Float64")
    assert project.live("wide") == more.release


def test_an_unknown_user_gets_a_clear_answer(project: Project) -> None:
    """S6: a function that fails on an unknown value is one error with an id, without frames or values; others go on."""
    with project.served() as server, httpx.Client(base_url=server.url) as client:
        unknown = client.post("/days/visits", json={"city": "Atlantis"})
        assert unknown.status_code == 500
        assert unknown.json()["error"]["message"]
        assert "Traceback" not in unknown.text
        assert str(project.root) not in unknown.text
        known = client.post("/days/visits", json={"city": "Oslo"})
        assert known.raise_for_status().json()["answer"] == 11.0
        wrong = client.post("/days/visits", json={"town": "Oslo"})
        assert wrong.status_code == 422
        assert "town" in wrong.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


BIG = """
import numpy as np
import polars as pl

from penstock import Pipeline

big = Pipeline("big")


@big.dataset(key="n")
def rows(*, count: int = 1000) -> pl.DataFrame:
    noise = np.random.default_rng(0).standard_normal(count)
    return pl.DataFrame({"n": range(count), "x": noise})


@big.step
def matrix(*, megabytes: int = 1) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((megabytes, 131_072))


@big.step
def total(rows: pl.DataFrame, matrix: np.ndarray) -> float:
    return float(rows["x"].sum() + matrix.sum())
"""


@pytest.mark.parametrize("param", ["matrix.megabytes=60", "rows.count=3000000"])
def test_a_disk_that_fills_up_in_mid_write(small_disk: Path, param: str) -> None:
    """Faults 7 and 8: artifact or intake, the error says what there is no room for; with room again the run goes on."""
    project = Project(small_disk, "big")
    project.write(BIG)
    assert project.run().release == "big@1"
    refused(project, "run", "-p", param, "--quiet", code=4, says="No space ")
    assert project.live("big") == "big@1"
    assert [p for p in (small_disk / ".penstock" / "tmp").rglob("*") if p.stat().st_size > 65_536] == []
    again = project.run()
    assert (again.release, again.is_new_release) == ("big@1", False), again
    wrong = [line for line in project.command("doctor").stdout.splitlines() if line.startswith("WRONG")]
    assert [line for line in wrong if "are free where" not in line] == []  # so small a disk is told by itself


def test_a_directory_that_cannot_be_written(finished: Project, small_disk: Path) -> None:
    """Exit code 4 and the directory's name; what lies there is intact when it can be written again."""
    shutil.copytree(finished.root, small_disk / "project")
    project = Project(small_disk / "project", "days")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused(project, "run", "--quiet", code=4, says=".penstock")
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert_nothing_lost(project)


def test_a_project_without_room_for_its_store(small_disk: Path) -> None:
    """A read-only project is told to keep its store elsewhere, and does so when told to."""
    project = Project(small_disk, "days")
    project.write(FLOW)
    project.write(FIRST, "data/a.csv")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused(project, "run", "--quiet", code=4, says="set PENSTOCK_HOME")


def test_a_corrupt_ledger_is_refused_and_restored_from_its_backup(project: Project) -> None:
    """Fault 12: exit code 4, the backup is named; put back, everything finished is there."""
    ledger = project.root / ".penstock" / "ledger.db"
    with project.opened() as workspace:
        backup = workspace.ledger.back_up()
    assert backup is not None
    ledger.write_bytes(os.urandom(8192))
    said = refused(project, "run", "--quiet", code=4, says="is damaged")
    assert backup.name in said
    refused(project, "releases", code=4, says="is damaged")
    shutil.copy(backups_of(ledger)[-1], ledger)
    assert_nothing_lost(project)


def test_a_newer_ledger_is_refused_and_left_alone(project: Project) -> None:
    """Fault 30: exit code 4 and the word upgrade; no byte of it is changed."""
    ledger = project.root / ".penstock" / "ledger.db"
    with closing(sqlite3.connect(ledger)) as database:
        [before] = database.execute("SELECT version_num FROM alembic_version").fetchone()
        database.execute("UPDATE alembic_version SET version_num = '0099'")
        database.commit()
    data = ledger.read_bytes()
    refused(project, "run", "--quiet", code=4, says="upgrade Penstock")
    assert ledger.read_bytes() == data
    with closing(sqlite3.connect(ledger)) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", [before])
        database.commit()
    assert_nothing_lost(project)
