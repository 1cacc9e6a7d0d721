"""Kill a pipeline's processes at random moments, for weeks of its data: in the end it is as if nothing had happened.

Forty kills by default; two hundred with PENSTOCK_LONG=1 (`make rehearse-kills`). PENSTOCK_SEED repeats a story.
"""

import collections
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.project.mending import examine
from project_folder import Project
from run_processes import all_attempts, all_runs, end, live_hash, processes_of, start, until

KILLS = 200 if os.environ.get("PENSTOCK_LONG") else 40
SEED = int(os.environ.get("PENSTOCK_SEED", "20260301"))
ROWS_A_DAY = 300

FLOW = '''
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from penstock import Pipeline

flow = Pipeline("flow", goal="Sales tomorrow, by shop.")


@flow.dataset(key="id", time="at")
def sales(since: datetime | None) -> Iterator[pl.DataFrame]:
    """New rows in several batches; some replace rows of the day before."""
    for path in sorted(Path().glob("sales-*.parquet")):
        rows = pl.read_parquet(path)
        rows = rows if since is None else rows.filter(pl.col("at") > since)
        yield from rows.iter_slices(100)


@flow.step(outputs=("train", "test"))
def split(sales: pl.DataFrame, now: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    is_test = pl.col("at") > now - timedelta(hours=8)
    return sales.filter(~is_test), sales.filter(is_test)


@flow.step(each="shop")
def level(train: pl.DataFrame, shop: str) -> float:
    return float(train["units"].mean())


@flow.baseline
def flat(train: pl.DataFrame) -> dict[str, float]:
    return {shop: float(train["units"].mean()) + 1.0 for shop in train["shop"].unique().sort()}


@flow.model
def by_shop(level: dict[str, float]) -> dict[str, float]:
    return level


@flow.evaluate(metric="error", slices=("shop",), higher_is_better=False, key="id")
def quality(model: dict[str, float], test: pl.DataFrame) -> pl.DataFrame:
    guess = pl.col("shop").replace_strict(model)
    return test.select("id", "shop", error=((pl.col("units") - guess).abs() > 2).cast(pl.Float64))


@flow.check
def every_shop_has_a_level(by_shop: dict[str, float]) -> None:
    assert len(by_shop) == 4


@flow.serve(examples=[{"shop": "north"}])
def tomorrow(by_shop: dict[str, float], *, shop: str) -> float:
    return by_shop[shop]
'''


def _day(number: int) -> pl.DataFrame:
    dice = random.Random(number)
    first = number * (ROWS_A_DAY - 20)  # the first twenty replace the last twenty of the day before
    shops = ("north", "south", "west", "east")
    minute = 60_000_000
    return pl.DataFrame(
        {
            "id": list(range(first, first + ROWS_A_DAY)),
            "at": [number * 1440 * minute + n * 4 * minute for n in range(ROWS_A_DAY)],
            "shop": [shops[n % 4] for n in range(ROWS_A_DAY)],
            "units": [10.0 * (n % 4) + dice.random() for n in range(ROWS_A_DAY)],
        }
    ).with_columns(pl.col("at").cast(pl.Datetime("us")))


def _add_day(project: Project, number: int) -> None:
    half = project.root / "half-written"
    _day(number).write_parquet(half)
    half.rename(project.root / f"sales-{number:04}.parquet")


def _project(root: Path) -> Project:
    root.mkdir()
    project = Project(root, "flow")
    project.write(FLOW)
    return project


class _Killer:
    """Runs the pipeline again and again, and kills it at random moments."""

    def __init__(self, project: Project, dice: random.Random) -> None:
        self.project = project
        self.dice = dice
        self.kills = 0
        self.reach_s = 0.0  # longest wait for a kill: as long as a run takes, on this machine at this moment

    def watch_one(self) -> None:
        """Let one run be, to see how long it takes."""
        began = time.monotonic()
        code, output = end(start(self.project, "--quiet"))
        assert code == 0, output
        self.reach_s = time.monotonic() - began

    def finish_one(self) -> None:
        """Go on until a run finishes by itself."""
        while not self._finishes():
            pass

    def _finishes(self) -> bool:
        process = start(self.project, "--quiet")
        with process:
            while True:
                try:
                    output, _ = process.communicate(timeout=self.dice.uniform(0.0, self.reach_s))
                except subprocess.TimeoutExpired:
                    self.kills += self._kill(process)
                    self.reach_s *= 1.05
                    continue
                break
        # Only the loss of one and the same step three times over ends a run by itself.
        assert process.returncode in {0, -signal.SIGKILL} or "killed by SIGKILL" in output, output
        if process.returncode == 0:
            self.reach_s *= 0.8  # in balance with the growth above: four or five kills for each run that ends by itself
        return process.returncode == 0

    def _kill(self, process: "subprocess.Popen[str]") -> bool:
        what = self.dice.choice(["group", "supervisor", "supervisor", "worker"])
        if what == "worker":
            return self._kill_a_child(process)
        if what == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        return True

    def _kill_a_child(self, process: "subprocess.Popen[str]") -> bool:
        try:
            children = psutil.Process(process.pid).children()
            workers = [child for child in children if "penstock.engine.worker" in " ".join(child.cmdline())]
            for worker in workers[:1]:
                worker.kill()
        except psutil.NoSuchProcess:
            return False
        return bool(workers)


def _expected(days: int) -> pl.DataFrame:
    rows = pl.concat([_day(number) for number in range(days)])
    return rows.unique("id", keep="last").sort("id")


def _assert_sound(project: Project, days: int) -> None:
    until(lambda: not processes_of(project))
    versions = project.versions("flow", "sales")
    assert len(versions) == days
    found = project.rows(versions[-1]).sort("id")
    assert found.equals(_expected(days).select(found.columns))
    assert "running" not in {a.state.value for a in all_attempts(project)}
    assert {r.state.value for r in all_runs(project)} <= {"succeeded", "lost", "failed"}
    with project.opened() as workspace:
        assert examine(workspace, deep=True).faults == ()
        assert list((workspace.home / "tmp" / "logs").iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_kills_change_nothing(tmp_path: Path) -> None:
    """The release has the hash of an undisturbed run, no row is lost or doubled, and nothing stays behind."""
    killer = _Killer(_project(tmp_path / "disturbed"), random.Random(SEED))
    _add_day(killer.project, 0)
    killer.watch_one()
    days = 1
    while killer.kills < KILLS:
        _add_day(killer.project, days)
        days += 1
        killer.finish_one()
    # The last run may have been marked lost after its release; one more, in peace, only looks.
    final = killer.project.run()
    assert final.state == "succeeded", final.failures
    assert final.release == f"flow@{days}"
    calm = _project(tmp_path / "calm")
    for day in range(days):
        _add_day(calm, day)
        assert calm.run().release == f"flow@{day + 1}"
    states = collections.Counter(run.state.value for run in all_runs(killer.project))
    sys.stdout.write(f"seed {SEED}: {killer.kills} kills over {days} days; runs {dict(states)}\n")
    _assert_sound(killer.project, days)
    _assert_sound(calm, days)
    assert live_hash(killer.project) == live_hash(calm)
