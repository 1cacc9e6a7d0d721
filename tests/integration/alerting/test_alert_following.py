"""Alerts in the ledger: followed once, whoever tells and however often, and whoever dies in between."""

import dataclasses
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parents[2]))
from alert_store import Store
from alert_windows import DAY, FIRST, finding, window
from penstock.core.errors import StoreError
from penstock.core.process import this_process
from penstock.project.alerting import follow, notice
from penstock.store.ledger import alerts, causes, events, runs


def test_windows_told_twice_give_one_alert_and_one_event(tmp_path: Path) -> None:
    """M5: the same windows told again, also by another process, change nothing at all."""
    store = Store(tmp_path)
    told = [window(0, finding()), window(1, finding(effect=0.7))]
    store.follow(*told)
    before = store.alerts()
    store.follow(*told)
    store.follow(*told[::-1])
    assert store.alerts() == before
    assert [(alert.windows, alert.state) for alert in before] == [(2, "open")]
    with store.opened() as workspace, workspace.ledger.read() as conn:
        assert [event.action for event in events.page(conn, target="a1")] == ["alert.raised"]


def test_windows_that_were_recorded_and_never_followed_are_followed(tmp_path: Path) -> None:
    """Whoever died between recording windows and telling of them leaves no alert behind that nobody raises."""
    store = Store(tmp_path)
    store.now = FIRST + DAY
    store.put(window(0, finding()))
    assert store.alerts() == []
    with store.opened() as workspace:
        follow(workspace, "movies", [], store.now)
        follow(workspace, "movies", [], store.now)
    assert [alert.key for alert in store.alerts()] == ["drift data:ratings"]


def test_an_alert_resolves_by_itself_and_a_later_one_is_another(tmp_path: Path) -> None:
    """Two clean windows resolve it; the same cause weeks later is a new alert with a new name."""
    store = Store(tmp_path)
    store.follow(window(0, finding()))
    store.follow(window(1))
    store.follow(window(2))
    store.follow(window(30, finding()))
    assert [(alert.ref, alert.state) for alert in store.alerts()] == [("a1", "resolved"), ("a2", "open")]


def test_of_each_cause_one_alert_is_open_by_the_ledger_itself(tmp_path: Path) -> None:
    """Two workers cannot open one cause twice: the ledger refuses the second row."""
    store = Store(tmp_path)
    store.follow(window(0, finding()))
    (kept,) = store.alerts()
    with (
        store.opened() as workspace,
        pytest.raises(StoreError, match="already keeps"),
        workspace.ledger.write() as conn,
    ):
        alerts.put(conn, replace(kept, id=0))


def test_a_clock_that_jumps_back_hides_no_window(tmp_path: Path) -> None:
    """Windows recorded by a clock that is half an hour behind are followed all the same."""
    store = Store(tmp_path)
    store.follow(window(0, finding()))
    store.now -= timedelta(minutes=30)
    store.put(window(0, finding(), monitor="data:titles"))
    store.now += timedelta(minutes=30)
    store.follow(window(1, finding()))
    assert {alert.subject for alert in store.alerts()} == {"data:ratings", "data:titles"}


def test_what_people_say_of_alerts_is_kept_with_their_name(tmp_path: Path) -> None:
    """M6: a disposition is an event in the audit chain, and the last word counts."""
    store = Store(tmp_path)
    store.follow(window(0, finding()))
    with store.opened() as workspace, workspace.ledger.write() as conn:
        alerts.dispose(conn, 1, "noise", by="ada", note="holiday")
        alerts.dispose(conn, 1, "real", by="bob")
    (alert,) = store.alerts()
    assert (alert.disposition, alert.disposed_by) == ("real", "bob")
    with store.opened() as workspace, workspace.ledger.read() as conn:
        said = [(e.actor, e.details["disposition"], e.details["note"]) for e in events.page(conn, target="a1", limit=2)]
        assert alerts.disposed(conn) == {("drift", "data:ratings"): (1, 0)}
        assert events.verify(conn) == []
    assert said == [("bob", "real", ""), ("ada", "noise", "holiday")]
    store.follow(window(1, finding(effect=2.0)))
    assert store.alerts()[0].disposition == "real"


def test_a_rehearsal_tells_nobody(tmp_path: Path) -> None:
    """Six months in minutes raise alerts as ever, and no message of them leaves."""
    store = Store(tmp_path)
    store.policy('webhook = "http://127.0.0.1:9/hook"')
    store.now = FIRST + DAY
    with store.opened() as workspace:
        replayed = dataclasses.replace(workspace, settings=replace(workspace.settings, is_replay=True))
        follow(replayed, "movies", [window(0, finding())], store.now)
    assert len(store.alerts()) == 1
    assert store.deliveries() == []


def test_a_retrain_whose_process_keeps_dying_is_an_alert(tmp_path: Path) -> None:
    """Fault 1: once is begun again and nothing more; twice is said, with the run, until it ends."""
    store = Store(tmp_path)
    new = causes.NewCause(pipeline="movies", kind="manual", key="m1", figures={"lost": 2})
    with store.opened() as workspace:
        with workspace.ledger.write() as conn:
            causes.put(conn, new)
            run_id = runs.create(conn, _run())
            causes.begin(conn, 1, run_id, this_process(), most=1)
        notice(workspace, ["movies"], store.now)
        notice(workspace, ["movies"], store.now + timedelta(hours=1))
    (alert,) = store.alerts()
    assert (alert.key, alert.state) == ("lost movies", "open")
    assert alert.finding["worst"]["evidence"]["run"] == "r1"
    with store.opened() as workspace:
        with workspace.ledger.write() as conn:
            causes.end(conn, causes.get(conn, 1), "done", reason="", figures={"outcome": "succeeded"})
        notice(workspace, ["movies"], store.now)
    assert store.alerts()[0].state == "resolved"


def _run() -> runs.NewRun:
    return runs.NewRun(
        pipeline="movies",
        cause="manual:m1",
        owner=this_process(),
        graph_digest="graph",
        code_digest="code",
        environment_digest="",
    )
