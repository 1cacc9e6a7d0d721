"""A pipeline whose world drifts at a speed that the test sets: what a model learned is worth less each day."""

import sys
from datetime import timedelta
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).parent))
from loop_project import DAY_1, Loop
from project_folder import Project

# Monitors would find the same worlds moving, or standing still, and ask for retrains of their own.
ONLY_ROWS = 'retrain_on = ["new_data"]'
DRIFTING = """
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from penstock import Pipeline

drifting = Pipeline("drifting", goal="Know how high the water stands.")


@drifting.dataset(key="id", time="at")
def levels(since: datetime | None) -> pl.LazyFrame:
    rows = pl.scan_parquet("levels-*.parquet")
    return rows if since is None else rows.filter(pl.col("at") > since)


@drifting.step(outputs=("train", "test"))
def split(levels: pl.DataFrame, now: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    cut = levels["at"].max() - timedelta(hours=12)
    return levels.filter(pl.col("at") <= cut), levels.filter(pl.col("at") > cut)


@drifting.model
def usual(train: pl.DataFrame) -> dict[str, float]:
    powers = [float((np.random.default_rng(n).normal(size=(300, 300)) @ np.ones(300)).sum()) for n in range(300)]
    newest = train.filter(pl.col("at") > train["at"].max() - timedelta(days=1))
    return {"level": float(newest["level"].mean()), "work": 0.0 * len(powers)}


@drifting.evaluate(metric="closeness", key="id")
def quality(model: dict[str, float], test: pl.DataFrame) -> pl.DataFrame:
    return test.select("id", closeness=(100 - (pl.col("level") - model["level"]).abs()).clip(0))


@drifting.serve(examples=[{"place": 1}])
def level(usual: dict[str, float], *, place: int) -> float:
    return usual["level"]
"""


def write_day(project: Project, day: int, *, level: float) -> None:
    """Write the rows of one day, 0 to 23 h, around a level."""
    begin = DAY_1.replace(hour=0) + timedelta(days=day)
    rows = [(1000 * day + n, begin + timedelta(minutes=14 * n), level + (n % 5) / 10) for n in range(100)]
    frame = pl.DataFrame(rows, schema=["id", "at", "level"], orient="row")
    path = project.root / f"half-written-{day}"
    frame.with_columns(pl.col("at").dt.cast_time_unit("us")).write_parquet(path)
    path.rename(project.root / f"levels-{day:03}.parquet")


def drifting_loop(root: Path, policy: str = ONLY_ROWS) -> Loop:
    """Write the pipeline with a policy and two days of rows, and release it once as a person does."""
    project = Project(root, "drifting")
    project.write(DRIFTING, "drifting.py")
    project.write(f'[drifting]\nintake = "1h"\n{policy}\n', "penstock.toml")
    for day in (-1, 0):
        write_day(project, day, level=10.0)
    loop = Loop(project)
    report = project.run(clock=loop.clock)
    assert report.release == "drifting@1"
    return loop
