"""Alerts from what no window finds, on a real pipeline: its rows, its retrains, its gate, its budget, its file."""

import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from alert_receivers import receiver
from loop_project import Loop, ask, chain_loop
from penstock.project.alerting.cases import Case, case_of
from penstock.store.ledger import alerts
from run_processes import add_day

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def cases(loop: Loop) -> list[Case]:
    """Return all alerts, the oldest first."""
    with loop.project.opened(loop.clock) as workspace, workspace.ledger.read() as conn:
        return [case_of(alert) for alert in alerts.page(conn)[::-1]]


def test_rows_of_another_schema_are_an_alert_until_they_are_mended(tmp_path: Path) -> None:
    """Fault 26: the refused change is told once, with its run; when it is mended the alert ends by itself."""
    with receiver() as hook:
        loop = chain_loop(tmp_path, f'retrain_on = []\nalerts = {{ webhook = "{hook.url}" }}')
        add_day(loop.project, 2)
        path = tmp_path / "events-002.parquet"
        good = pl.read_parquet(path)
        good.with_columns(pl.col("x").cast(pl.String)).write_parquet(path)
        loop.tick(DAY)
        loop.tick(HOUR)
        (case,) = cases(loop)
        assert (case.key, case.is_open, case.windows) == ("intake events", True, 1)
        assert case.found.worst.evidence["run"] == "r2"
        good.write_parquet(path)
        loop.tick(HOUR)
        (case,) = cases(loop)
        assert (case.is_open, case.found.ended) == (False, "it is over")
    assert [one.said["type"] for one in hook.heard] == ["alert.opened", "alert.resolved"]
    assert "x" in hook.heard[0].said["data"]["what"]


def test_retrains_that_fail_are_one_alert_which_quarantine_joins(tmp_path: Path) -> None:
    """Each failure refreshes it, quarantine is told as part of it, and a success ends it."""
    loop = chain_loop(
        tmp_path, 'cooldown = "0s"\nquarantine_after = 2\nschedule = "0 4 * * *"\nretrain_on = []\nintake = "100d"'
    )
    loop.tick()
    loop.project.change('    note("total")', '    raise ValueError("no total today")', "chain.py")
    loop.tick(DAY)
    loop.tick(DAY)
    (case,) = cases(loop)
    assert (case.key, case.windows) == ("retrain chain", 2)
    assert "no total today" in case.found.worst.said
    assert set(case.found.joined) == {"quarantine chain"}
    loop.project.change('    raise ValueError("no total today")', '    note("total")', "chain.py")
    loop.project.run(clock=loop.clock)
    loop.tick(HOUR)
    assert [(found.key, found.is_open) for found in cases(loop)] == [("retrain chain", False)]


def test_a_refusal_of_the_gate_is_an_alert_with_what_the_check_found(tmp_path: Path) -> None:
    """A retrain whose check did not pass is told with its run, and the release that answers stays."""
    loop = chain_loop(tmp_path, 'intake = "100d"')
    loop.project.change('assert total["x"] > 0', 'assert total["x"] > 1_000_000', "chain.py")
    ask(loop, "manual", "m1")
    loop.tick(DAY)
    (case,) = cases(loop)
    assert (case.key, case.found.worst.evidence["run"]) == ("refused chain", "r2")
    assert "1000000" in case.found.worst.said.replace("_", "")


@pytest.mark.parametrize(
    ("policy", "kind"),
    [
        ('cooldown = "0s"\nbudget = { cpu_s_per_day = 0.001 }', "new_data"),  # it does not begin
        ('intake = "100d"\nbudget = { cpu_s_per_day = 0.01 }', "webhook"),  # it is stopped
    ],
)
def test_a_budget_that_stops_retrains_is_an_alert(tmp_path: Path, policy: str, kind: str) -> None:
    """Nobody wonders why nothing is retrained: the budget says so, with its figures, once."""
    loop = chain_loop(tmp_path, policy)
    if kind == "new_data":
        add_day(loop.project, 2)
        loop.tick(HOUR)
    else:
        loop.now += 2 * DAY
        loop.project.change("* 2)", "* 3)", "chain.py")
        ask(loop, "webhook", "w1")
        loop.tick()
    loop.tick(timedelta(minutes=1))
    assert [(case.key, case.is_open) for case in cases(loop)] == [("budget chain", True)]


def test_a_pipeline_file_that_cannot_be_read_is_an_alert(tmp_path: Path) -> None:
    """What the loop itself cannot do is told too, and ends when it can."""
    loop = chain_loop(tmp_path, "retrain_on = []")
    text = (tmp_path / "chain.py").read_text()
    loop.project.write("this is no python", "chain.py")
    loop.tick(2 * HOUR)
    loop.tick(2 * HOUR)
    (case,) = cases(loop)
    assert (case.key, case.is_open) == ("look taking in rows", True)
    loop.project.write(text, "chain.py")
    loop.tick(2 * HOUR)
    assert not cases(loop)[0].is_open
