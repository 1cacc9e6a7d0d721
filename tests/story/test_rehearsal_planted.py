"""A rehearsal in which things go wrong: each planted fault is detected, contained and explained, as its report says.

Three faults in five weeks by default; with PENSTOCK_LONG=1 (`make rehearse-planted`) all five in half a year.
"""

import os
import sys
from datetime import datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.worker.rehearsal.driver import Place, rehearse
from penstock.worker.rehearsal.faults.plans import FAULTS, FaultName
from penstock.worker.rehearsal.records import Plan
from penstock.worker.rehearsal.report.records import PlantedTold, Report
from penstock.worker.rehearsal.report.tell import tell
from penstock.worker.rehearsal.report.write import read_report, write_report
from rehearsed_films import START, films_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
IS_LONG = os.environ.get("PENSTOCK_LONG") == "1"
FEW: tuple[FaultName, ...] = ("burst", "schema", "bad_release")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a planted rehearsal, as written and read again."""
    root = tmp_path_factory.mktemp("films")
    project = films_project(root, days=170 if IS_LONG else 80)
    steps, plant = (126, FAULTS) if IS_LONG else (38, FEW)
    plan = Plan(pipeline="films", start=START, steps=steps, asks=40 if IS_LONG else 20, others=(), plant=plant)
    folder = root / "rehearsal"
    rehearse(plan, Place(root=project.root, folder=folder))
    write_report(tell(folder, root=root), folder)
    return read_report(folder / "report.json")


def told(report: Report, name: FaultName) -> PlantedTold:
    for one in report.planted:
        if one.fault == name:
            return one
    pytest.skip(f"{name} is planted with PENSTOCK_LONG=1 only: make rehearse-planted")


def alert_of(report: Report, planted: PlantedTold) -> tuple[str, datetime]:
    """Return kind and time of the first alert of a fault."""
    found = next(alert for alert in report.alerts if alert.alert == planted.detected[0])
    return found.kind, found.raised_at


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_detected_contained_and_explained(report: Report, name: FaultName) -> None:
    """M1, M5: an alert tells of it, something holds it, and `penstock why` says what it is."""
    planted = told(report, name)
    assert planted.detected, f"no alert told of {name}: {[(a.kind, a.said) for a in report.alerts]}"
    assert planted.contained
    assert planted.explained


def test_a_broken_feed_is_told_while_it_is_broken(report: Report) -> None:
    """M3: not only once the rows come."""
    feed = told(report, "feed")
    kind, raised_at = alert_of(report, feed)
    assert kind == "feed"
    assert raised_at <= feed.until
    assert any("late rows were taken in" in said for said in feed.contained)


def test_a_genre_turned_upside_down_is_drift_of_its_column(report: Report) -> None:
    """M2: found in the column that changed, while nothing else did."""
    genre = told(report, "genre")
    assert alert_of(report, genre)[0] == "drift"
    assert "'rating'" in genre.explained[0]


def test_ten_times_as_many_questions_are_all_answered(report: Report) -> None:
    """S7, M4: nobody is turned away, and the burst is told."""
    burst = told(report, "burst")
    assert burst.delay_h == 24.0
    assert any("200 questions" in said or "400 questions" in said for said in burst.contained)


def test_a_renamed_column_takes_no_row_with_it(report: Report) -> None:
    """D6: the intake is refused, its error names the column, and the rows come when it is mended."""
    schema = told(report, "schema")
    assert alert_of(report, schema)[0] == "intake"
    assert "rating_v2" in schema.explained[0]
    assert schema.contained[0] == "no row of the changed file was taken in"
    assert any("rows came when it was changed back" in said for said in schema.contained)
    assert schema.recovered_at is not None


def test_a_bad_release_is_found_by_what_it_answers(report: Report) -> None:
    """M1: it passed every gate, and gave way to a good one without a person."""
    bad = told(report, "bad_release")
    assert alert_of(report, bad)[0] in {"answers", "equality", "numeric", "quality"}
    assert any("took its place" in said for said in bad.contained)


def test_nothing_that_went_wrong_stopped_the_loop(report: Report) -> None:
    """Q13: every question was answered, and retrains went on after the last fault."""
    whole = report.whole["policy"]
    assert whole.errors == 0
    last = max(one.until for one in report.planted)
    assert any(retrain.became == "released" and retrain.at > last for retrain in whole.retrains)
    own = {one.detected[0] for one in report.planted}
    assert [alert.said for alert in report.alerts if alert.alert in own and alert.resolved_at is None] == []
