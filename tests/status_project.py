"""A project with all that a status tells of: rows refused, an evaluation, slices, an outcome; what monitors record."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from penstock.core.clock import Clock
from penstock.serving.predictions.log import PredictionLog
from penstock.serving.predictions.records import LogEntry
from penstock.store.ledger import alerts, windows
from project_folder import Project

BEGIN = datetime(2026, 3, 1, 4, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SIGHT = """
    from datetime import datetime

    import polars as pl

    from penstock import Pipeline

    sight = Pipeline("sight", goal="Tell who comes back.")


    @sight.dataset(key="visit", time="at", ranges={"minutes": (0, 600)})
    def visits(since: datetime | None) -> pl.DataFrame:
        rows = pl.read_parquet("visits.parquet")
        return rows if since is None else rows.filter(pl.col("at") > since)


    @sight.step(outputs=("train", "test"))
    def split(visits: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        ordered = visits.sort("at")
        cut = ordered.height * 3 // 4
        return ordered[:cut], ordered[cut:]


    @sight.baseline
    def usual(train: pl.DataFrame) -> dict[str, float]:
        return {"slope": 0.0, "mean": float(train["minutes"].mean())}


    @sight.model
    def line(train: pl.DataFrame) -> dict[str, float]:
        return {"slope": 10.0, "mean": 0.0}


    @sight.evaluate(metric="error", slices=("town",), higher_is_better=False)
    def quality(model: dict[str, float], test: pl.DataFrame) -> pl.DataFrame:
        found = model["mean"] + model["slope"] * pl.col("x")
        return test.select("visit", "town", error=(pl.col("minutes") - found).abs())


    @sight.serve(examples=[{"x": 2.0}])
    def minutes(line: dict[str, float], *, x: float) -> float:
        return line["mean"] + line["slope"] * x


    @sight.outcome(within="7d", value=2.0)
    def stayed(predictions: pl.DataFrame, visits: pl.DataFrame) -> pl.DataFrame:
        return predictions.select("prediction_id", outcome=pl.lit(1.0))
"""
POLICY = """
    [sight]
    schedule = "0 4 * * *"
    timezone = "Europe/Berlin"
    slo = { p99_ms = 50 }
    cost = { cpu_hour = 0.05, prediction = 0.001 }
"""


def sight_project(root: Path, policy: str = POLICY) -> Project:
    """Write the project with a day of visits, some of them broken, and release it at the beginning of time."""
    project = Project(root, "sight")
    project.write(SIGHT, "sight.py")
    project.write(policy, "penstock.toml")
    add_visits(project, 0, 400, broken=8)
    report = project.run(clock=clock_at(BEGIN))
    assert report.release == "sight@1", report
    return project


def add_visits(project: Project, first: int, count: int, *, broken: int = 0, begin: datetime = BEGIN - DAY) -> None:
    """Write visits number `first` and later, one each minute from `begin`; the last ones are longer than a day has."""
    numbers = list(range(first, first + count))
    minutes = [10.0 * (n % 11) + (n % 3) for n in numbers]
    minutes[count - broken :] = [100_000.0] * broken
    frame = pl.DataFrame({
        "visit": numbers,
        "at": [begin + timedelta(minutes=n) for n in numbers],
        "x": [float(n % 11) for n in numbers],
        "town": [("Ulm", "Rom", "Ely")[n % 3] for n in numbers],
        "minutes": minutes,
    })  # fmt: skip
    frame.write_parquet(project.root / "visits.parquet")


def clock_at(moment: datetime) -> Clock:
    """Return a clock that stands."""
    return Clock(now=lambda: moment)


def keep_windows(project: Project, at: datetime, found: list[windows.NewWindow]) -> None:
    """Record windows as monitors do."""
    with project.opened(clock_at(at)) as workspace, workspace.ledger.write() as conn:
        windows.put(conn, "sight", found)


def window(monitor: str, day: int, rows: int, *findings: dict[str, Any]) -> windows.NewWindow:
    """Return the window of a day after the beginning."""
    start = BEGIN.replace(hour=0) + day * DAY
    return windows.NewWindow(
        monitor=monitor, start_at=start, end_at=start + DAY, rows=rows, release="sight@1", findings=list(findings)
    )


def finding(kind: str, said: str, *, is_alarm: bool = False, **evidence: Any) -> dict[str, Any]:
    """Return a finding as it is recorded."""
    return {"kind": kind, "subject": "s", "is_alarm": is_alarm, "effect": 0.5, "said": said, "evidence": evidence}


def keep_alert(project: Project, at: datetime, **parts: Any) -> str:
    """Record an open alert, and return what people call it."""
    alert = alerts.Alert(
        pipeline="sight",
        kind="drift",
        subject="data:visits",
        raised_at=at,
        seen_at=at,
        finding={"worst": {"said": "minutes moved by 0.8 sigma"}},
        **parts,
    )
    with project.opened(clock_at(at)) as workspace, workspace.ledger.write() as conn:
        return f"a{alerts.put(conn, alert)}"


def answer_requests(project: Project, at: datetime, count: int, *, took_ms: float) -> None:
    """Keep answers as a serving worker does, one each second."""
    log = PredictionLog(project.root / ".penstock", "sight", worker="w0-1", clock=clock_at(at))
    for number in range(count):
        moment = at + timedelta(seconds=number)
        entry = LogEntry(
            id=log.new_id(moment),
            at=moment,
            release="sight@1",
            serve="minutes",
            fields=msgspec.Raw(msgspec.json.encode({"x": float(number % 11)})),
            answer=msgspec.Raw(msgspec.json.encode(10.0 * (number % 11))),
            timings={"answer_us": int(took_ms * 1000)},
        )
        log.append([entry])
    log.close()
