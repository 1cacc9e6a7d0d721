"""`penstock alerts`, `why` and `dispose`, typed by a person: what is wrong, where it comes from, and whether it was."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from alert_store import Store
from alert_windows import DAY, finding, window
from loop_project import Loop, chain_loop
from penstock.core.clock import Clock
from penstock.monitoring.findings import Window
from penstock.project.alerting import follow
from penstock.project.alerting.listing import dispose, list_alerts
from penstock.project.alerting.why import why
from penstock.project.workspace import open_workspace
from project_folder import Project
from run_processes import add_day

PREDICTION = "p018f312b4c00a2b44d1f2ab0c4d5e6f7"


def seen(loop: Loop, *hours: int) -> None:
    """Let a monitor of the chain's events find drift in windows of an hour before now, and tell of it."""
    windows = []
    for hour in hours:
        start = loop.now - timedelta(hours=hour)
        moved = [{"said": "x from 6 to 9", "rows": 71}]
        found = finding(
            subject="events.x",
            evidence={"before": {"p50": 3.0}, "after": {"p50": 9.0}, "ids": [PREDICTION], "moved": moved},
        )
        windows.append(
            Window(monitor="data:events", start=start, end=start + timedelta(hours=1), rows=100, findings=(found,))
        )
    with loop.project.opened(loop.clock) as workspace:
        follow(workspace, "chain", windows, loop.now)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """A pipeline of which code and rows changed within two hours of the first window with drift."""
    loop = chain_loop(tmp_path_factory.mktemp("walked"), "retrain_on = []")
    loop.now += 3 * DAY
    add_day(loop.project, 2)
    loop.project.change("* 2)", "* 3)", "chain.py")
    assert loop.project.run(clock=loop.clock).release == "chain@2"
    loop.now += timedelta(hours=1)
    seen(loop, 1)
    return loop


def test_why_names_the_release_the_rows_and_the_answers(walked: Loop) -> None:
    """M5: from an alert back to its columns, the rows that came, the release with its code, and answers to look at."""
    with walked.project.opened(walked.clock) as workspace:
        found = why(workspace, "a1")
    assert (found.worst.subject, found.worst.evidence["after"]) == ("events.x", {"p50": 9.0})
    assert [came.dataset for came in found.data] == ["events@2"]
    (went,) = found.releases
    assert (went.release, went.before, went.command) == ("chain@2", "chain@1", "penstock diff chain@1 chain@2")
    assert "code: chain.py changed" in went.changes
    assert "chain@2 went live" in found.suspects[0]
    assert found.examples == (PREDICTION,)


def test_the_commands_say_it_to_people_and_to_programs(walked: Loop) -> None:
    """What, since when, how sure, which release, what next; exit code 3 while an alert is open."""
    told = walked.project.command("alerts")
    assert told.returncode == 3
    assert "chain: the data changed (events.x)" in told.stdout
    for word in ("what", "since", "how sure", "x from 6 to 9: 71 rows", "next", "penstock why a1"):
        assert word in told.stdout
    plain = walked.project.command("alerts", "chain", "--json")
    (alert,) = json.loads(plain.stdout)["alerts"]
    assert (alert["alert"], alert["kind"], alert["state"], alert["p"]) == ("a1", "drift", "open", 0.001)
    explained = walked.project.command("why", "a1")
    assert explained.returncode == 0
    for said in ("May be the reason", "penstock diff chain@1 chain@2", "events@2", f"penstock trace {PREDICTION}"):
        assert said in explained.stdout
    assert json.loads(walked.project.command("why", "a1", "--json").stdout)["commands"] == [
        f"penstock trace {PREDICTION}"
    ]


def test_wrong_words_are_said_plainly(walked: Loop) -> None:
    """Exit code 2 and the next action, for no alert, no pipeline, and neither real nor noise."""
    for words, said in {
        ("why", "a99"): "There is no alert 'a99'.",
        ("why", "chain"): "'chain' is no alert.",
        ("alerts", "chian"): "Nothing is known of a pipeline 'chian'.",
        ("dispose", "a1"): "Say one of the two.",
        ("alerts", "--retry", "a1"): "No undeliverable message is called 'a1'.",
    }.items():
        done = walked.project.command(*words)
        assert done.returncode == 2
        assert said in done.stderr


def test_what_was_done_about_it_is_told(tmp_path: Path) -> None:
    """The retrain that came after the alert and the release that it made stand under it."""
    loop = chain_loop(tmp_path)
    loop.now += DAY
    seen(loop, 1)
    add_day(loop.project, 2)
    loop.tick(timedelta(hours=1))
    with loop.project.opened(loop.clock) as workspace:
        (alert,) = list_alerts(workspace).alerts
    assert any("new_data:events@2 retrained in r3, succeeded, chain@2 stands" in said for said in alert.done)
    assert any("chain@2 was released by r3" in said for said in alert.done)


def test_precision_is_measured_from_what_people_say(tmp_path: Path) -> None:
    """M6, N13: real of disposed with its interval, per monitor and together; the command records the person."""
    store = Store(tmp_path)
    for n in range(4):
        store.follow(window(0, finding(), monitor=f"data:t{n % 2}" if n < 2 else f"quality:q{n}"))
    with store.opened() as workspace:
        for alert in ("a1", "a2", "a3"):
            dispose(workspace, alert, "real")
        dispose(workspace, "a4", "noise")
        found = list_alerts(workspace, is_all=True)
    assert found.overall is not None
    assert (found.overall.real, found.overall.disposed, found.overall.share) == (3, 4, 0.75)
    assert found.overall.low == pytest.approx(0.3006, abs=1e-3)
    assert found.overall.high == pytest.approx(0.9544, abs=1e-3)
    said = Project(tmp_path).command("dispose", "a4", "--real", "--note", "after all")
    assert said.stdout.startswith("a4 is real, says ")
    assert "4 of 4: 100 %" in Project(tmp_path).command("alerts").stdout.replace("100%", "100 %")


def test_dead_messages_are_listed_and_tried_again(tmp_path: Path) -> None:
    """What could not be delivered is said under the alerts, listed, and sent again on request."""
    store = Store(tmp_path)
    store.policy('webhook = "ftp://nowhere"')
    store.follow(window(0, finding()))
    store.deliver()
    project = Project(tmp_path)
    assert "1 message could not be delivered: penstock alerts --dead" in project.command("alerts").stdout
    assert "a1/opened/webhook" in project.command("alerts", "--dead").stdout
    (dead,) = json.loads(project.command("alerts", "--retry", "all", "--json").stdout)
    assert dead["message"] == "a1/opened/webhook"
    assert store.deliveries()[0].state == "waiting"


def test_to_look_makes_nothing(tmp_path: Path) -> None:
    """In a folder without a store nothing is open, and nothing is made."""
    project = Project(tmp_path)
    assert project.command("alerts").stdout == "No alert is open.\n"
    assert list(tmp_path.iterdir()) == []
    with open_workspace(tmp_path, Clock(), to_look=True) as workspace:
        assert list_alerts(workspace).alerts == ()
