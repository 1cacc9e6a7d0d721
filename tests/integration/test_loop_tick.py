"""A tick does what is due: takes in, decides, retrains, releases; and says why not."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from loop_project import ask, chain_loop
from penstock.worker.state import Worth
from penstock.worker.tick import tick
from project_folder import Project
from run_processes import add_day, all_runs

READER = """
from penstock import Pipeline

reader = Pipeline("reader")


@reader.model
def book() -> dict[str, float]:
    return {"x": 1.0}
"""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def test_new_rows_are_taken_in_and_released(tmp_path: Path) -> None:
    """Q3: rows land; the next tick takes them in, retrains with that as its cause, and releases; then it rests."""
    loop = chain_loop(tmp_path)
    add_day(loop.project, 2)
    report = loop.tick(DAY)
    assert [run.outcome for run in report.runs] == ["succeeded"]
    assert loop.project.live("chain") == "chain@2"
    assert loop.told() == [("new_data:events@2", "done")]
    assert [run.cause for run in all_runs(loop.project)] == ["manual", "intake", "new_data:events@2"]
    quiet = loop.tick(DAY)
    assert (quiet.actions, quiet.runs) == ((), ())
    assert loop.told() == [("new_data:events@2", "done")]


def test_a_cooldown_holds_new_data_back_and_then_lets_it_run(tmp_path: Path) -> None:
    """A retrain within the cool-down waits, says until when, and runs once with all that came meanwhile."""
    loop = chain_loop(tmp_path, 'cooldown = "6h"')
    for day in (2, 3, 4):
        add_day(loop.project, day)
        loop.tick(2 * HOUR)
    held = {cause.name: cause for cause in loop.causes()}["new_data:events@4"]
    assert held.figures["held"]["reason"] == "cooling down after the last retrain"
    assert [run.cause for run in all_runs(loop.project)].count("new_data:events@2") == 1
    loop.tick(2 * HOUR)
    assert loop.told() == [
        ("new_data:events@2", "done"),
        ("new_data:events@3", "skipped"),
        ("new_data:events@4", "done"),
    ]
    assert loop.project.live("chain") == "chain@3"


def test_a_schedule_fires_once_per_slot_and_catches_up_the_newest(tmp_path: Path) -> None:
    """Q12: slots count from when the schedule is known; days of silence bring one run, which says what it missed."""
    loop = chain_loop(tmp_path, 'schedule = "0 4 * * *"\nretrain_on = []\nintake = "100d"')
    loop.tick()
    loop.tick(HOUR)
    loop.tick(DAY)
    loop.tick(-3 * HOUR)  # the clock jumps back
    loop.tick(2 * HOUR)
    assert loop.told() == [("schedule:2026-03-02T04:00:00Z", "done")]
    loop.tick(3 * DAY)
    assert loop.told()[1:] == [("schedule:2026-03-05T04:00:00Z", "done")]
    assert loop.causes()[-1].figures["missed"] == 2


def test_a_pipeline_that_keeps_failing_is_quarantined_and_readmitted(tmp_path: Path) -> None:
    """After the failures that policy allows it is tried less often, an event says so, and a success ends it."""
    loop = chain_loop(tmp_path, 'cooldown = "0s"\nquarantine_after = 2\nschedule = "0 4 * * *"\nintake = "100d"')
    loop.tick()
    loop.project.change('    note("total")', '    raise ValueError("no total today")', "chain.py")
    loop.tick(DAY)
    loop.tick(DAY)
    ask(loop, "webhook", "first")
    loop.tick(HOUR / 2)
    assert [(c.kind, c.state) for c in loop.causes()] == [
        ("scheduled", "done"),
        ("schedule", "failed"),
        ("schedule", "failed"),
        ("quarantine", "running"),
        ("webhook", "skipped"),
    ]
    loop.project.change('    raise ValueError("no total today")', '    note("total")', "chain.py")
    ask(loop, "webhook", "second")
    loop.tick(HOUR)
    assert [(c.kind, c.state) for c in loop.causes()][3:] == [
        ("quarantine", "done"),
        ("webhook", "skipped"),
        ("webhook", "done"),
    ]


def test_a_budget_stops_retrains_and_says_its_figures(tmp_path: Path) -> None:
    """No retrain begins when the last day used up what policy grants; it waits, with the figures."""
    loop = chain_loop(tmp_path, 'cooldown = "0s"\nbudget = { cpu_s_per_day = 0.001 }')
    add_day(loop.project, 2)
    loop.tick(HOUR)
    (waiting,) = loop.causes()
    assert (waiting.state, waiting.figures["held"]["cpu_s_per_day"]) == ("waiting", 0.001)
    assert waiting.figures["held"]["spent_cpu_s"] > 0.001


def test_a_retrain_that_outgrows_the_budget_is_stopped(tmp_path: Path) -> None:
    """N7: the budget is hard: the run ends between two tasks, says the figures, and counts as no failure."""
    loop = chain_loop(tmp_path, 'intake = "100d"\nbudget = { cpu_s_per_day = 0.01 }')
    loop.now += 2 * DAY
    loop.project.change("* 2)", "* 3)", "chain.py")
    ask(loop, "webhook", "w1")
    report = loop.tick()
    assert [run.outcome for run in report.runs] == ["refused"]
    assert "policy grants 0.01" in report.runs[0].said
    assert loop.project.live("chain") == "chain@1"
    assert loop.told() == [("webhook:w1", "done")]


def test_an_upstream_release_retrains_who_builds_on_it(tmp_path: Path) -> None:
    """A release of a pipeline named in `upstream` is a reason of its own, once per release."""
    loop = chain_loop(tmp_path, 'file = "chain.py"\nretrain_on = []\nintake = "100d"')
    loop.project.write(READER, "reader.py")
    with (tmp_path / "penstock.toml").open("a") as policy:
        policy.write('[reader]\nfile = "reader.py"\nupstream = ["chain"]\n')
    loop.now += HOUR
    assert Project(tmp_path, "reader").run(clock=loop.clock).release == "reader@1"
    assert loop.tick(DAY).actions == ()
    loop.project.change("* 2)", "* 3)", "chain.py")
    loop.project.run(clock=loop.clock)
    loop.tick(HOUR)
    loop.tick(HOUR)
    assert loop.told() == [("upstream:chain@2", "done")]


def test_a_retrain_that_is_not_worth_it_is_skipped_with_the_figures(tmp_path: Path) -> None:
    """N7: whoever weighs gain against cost is asked, and what they found is kept beside the reason."""
    loop = chain_loop(tmp_path)
    add_day(loop.project, 2)
    loop.now += DAY
    worth = Worth(is_worth=False, said="gains less than it costs", figures={"gain": 0.001, "cost": 0.02})
    with loop.project.opened(loop.clock) as workspace:
        report = tick(workspace, loop.now, economics=lambda _workspace, _name, _now: worth)
    assert report.runs == ()
    (kept,) = loop.causes()
    assert (kept.state, kept.reason) == ("skipped", "gains less than it costs")
    assert (kept.figures["gain"], kept.figures["rows"]) == (0.001, 100)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    """`penstock tick --dry-run` leaves runs and causes as they are."""
    loop = chain_loop(tmp_path, 'schedule = "0 4 * * *"')
    loop.tick()
    before = len(all_runs(loop.project))
    done = loop.project.command("tick", "--dry-run", "--now", "2026-03-02T04:00:00Z")
    assert done.returncode == 0, done.stderr
    assert "slot 2026-03-02T04:00:00Z" in done.stdout
    assert len(all_runs(loop.project)) == before
    assert loop.told() == []


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ('schedule = "0 25 * * *"', "is not cron"),
        ('schedule = "0 4 30 2 *"', "never comes"),
        ('schedule = "@daily"\ntimezone = "Mars/Olympus"', "There is no time zone"),
    ],
)
def test_a_schedule_that_cannot_be_followed_is_refused(tmp_path: Path, policy: str, said: str) -> None:
    """It is said at once, with what to write instead, and nothing is done."""
    loop = chain_loop(tmp_path, policy)
    done = loop.project.command("tick")
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
