"""The report of a rehearsal from a small fixed ledger: weeks, differences, promises, words, tables, pictures."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest

from penstock.core.clock import Clock
from penstock.core.records import DatasetVersion, Failure, Owner
from penstock.core.settings import Cost
from penstock.core.states import RunState
from penstock.project.alerting.cases import Case, Done, Found, What, alert_of
from penstock.project.workspace import Workspace, open_workspace
from penstock.store.ledger import alerts, causes, runs, triggers, windows
from penstock.worker.rehearsal.compare import compared_with
from penstock.worker.rehearsal.records import ArmName, Newcomer, Plan, Rehearsal
from penstock.worker.rehearsal.report.collect import Facts, Live
from penstock.worker.rehearsal.report.figures import figures
from penstock.worker.rehearsal.report.make import make_report
from penstock.worker.rehearsal.report.page import write_markdown, write_page
from penstock.worker.rehearsal.report.pictures import Frame, Point, Series, Span, Stack, bars, lines, spans, standalone
from penstock.worker.rehearsal.report.records import PlantedTold, Report
from penstock.worker.rehearsal.report.words import heading, lasted, number, signed, summary
from penstock.worker.rehearsal.report.write import read_report, write_report

START = datetime(2025, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PLAN = Plan(pipeline="films", start=START, steps=14, others=("never", "daily"))
OWNER = Owner(host="h", boot="b", pid=1, start=1)


def answers(count: int = 14) -> pl.DataFrame:
    """Two questions a day, at six and at seven in the morning."""
    at = [START + DAY * day + timedelta(hours=hour) for day in range(count) for hour in (6, 7)]
    return pl.DataFrame({
        "id": [f"p{number}" for number in range(2 * count)],
        "at": at,
        "step": [number // 2 for number in range(2 * count)],
        "key": [f"u{number % 5}" for number in range(2 * count)],
        "fallback": [number == 3 for number in range(2 * count)],
        "failed": [False] * (2 * count),
    })  # fmt: skip


def truths(values: list[float]) -> pl.DataFrame:
    """Whole truths of the first questions."""
    known = answers().head(len(values)).select("id", "at", "step", "key")
    return known.with_columns(value=pl.Series(values, dtype=pl.Float64))


def run(number: int, day: int, state: RunState = RunState.SUCCEEDED, release: str | None = None) -> runs.Run:
    error = None if state is RunState.SUCCEEDED else Failure(kind="check", message="worse than the champion")
    return runs.Run(
        pipeline="films", cause=f"new_data:ratings@{day}", owner=OWNER, graph_digest="g", code_digest="c",
        environment_digest="e", id=number, state=state, started_at=START + DAY * day, finished_at=START + DAY * day,
        release=release, error=error,
    )  # fmt: skip


def cause(number: int, day: int, state: causes.State, reason: str, run_id: int | None = None) -> causes.Cause:
    return causes.Cause(
        pipeline="films", kind="new_data", key=f"ratings@{day}", state=state, reason=reason, id=number,
        decided_at=START + DAY * day, run_id=run_id,
    )  # fmt: skip


def facts(values: list[float], retrains: tuple[runs.Run, ...], *, asked: tuple[causes.Cause, ...] = ()) -> Facts:
    made = [one for one in retrains if one.release is not None]
    return Facts(
        retrains=retrains,
        refusals={one.id: ("better_than_lately",) for one in retrains if one.state is RunState.FAILED},
        causes=asked,
        used=tuple(triggers.Used(run_id=one.id, at=one.started_at, cpu_s=2.0) for one in retrains),
        live=(
            Live("films@1", START, START, {"ratings": 1}),
            *(Live(str(one.release), one.started_at, one.started_at, {"ratings": 1}) for one in made),
        ),
        versions={
            "ratings": tuple(
                DatasetVersion(
                    pipeline="films", dataset="ratings", version=day, digest="d", table="t", delta_version=day,
                    rows=10 * day, rows_added=10, contract={"time": "rated_at"}, taken_at=START + DAY * day,
                    watermark=(START + DAY * day - timedelta(hours=5)).isoformat(),
                )
                for day in range(1, 15)
                if day not in {4, 5, 6}
            )
        },
        answers=answers(),
        truths={"watched": truths(values)},
        cost=Cost(cpu_hour=1.8, prediction=0.001),
    )  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    (tmp_path / "penstock.toml").write_text("", encoding="utf-8")
    with open_workspace(tmp_path, Clock(now=lambda: START + 14 * DAY)) as opened:
        found = What(kind="broken_feed", subject="ratings", said="0 rows came where 10 are usual")
        case = Case(
            pipeline="films", kind="feed", subject="data:ratings", raised_at=START + 4 * DAY, seen_at=START + 6 * DAY,
            found=Found(since=START + 3 * DAY, until=START + 6 * DAY, worst=found, heard_at=START + 6 * DAY),
            is_open=False, resolved_at=START + 8 * DAY, release="films@1",
            done=(Done(at=START + 4 * DAY, what="opened"), Done(at=START + 8 * DAY, what="resolved", said="2 clean")),
        )  # fmt: skip
        poor = {"kind": "slice_quality", "subject": "watched/genre=War", "is_alarm": True, "said": "0.1 against 0.6"}
        window = windows.NewWindow(
            monitor="quality:watched", start_at=START + 8 * DAY, end_at=START + 9 * DAY, rows=20, findings=[poor]
        )
        with opened.ledger.write() as conn:
            alerts.put(conn, alert_of(case))
            windows.put(conn, "films", [window])
        yield opened


@pytest.fixture
def report(workspace: Workspace) -> Report:
    retrains = (run(1, 3, release="films@2"), run(2, 9, RunState.FAILED), run(3, 10, release="films@2"))
    asked = (
        cause(1, 3, "done", "20 rows came", run_id=1),
        cause(2, 5, "skipped", "worth 0.001, costs 0.002"),
        cause(3, 12, "skipped", "worth 0.0015, costs 0.002"),
    )
    good, poor = [1.0, 0.0, 1.0, 1.0] * 6, [0.0, 0.0, 1.0, 0.0] * 6
    daily = tuple(run(day, day, release=f"films@{day + 1}") for day in range(1, 15))
    arms: dict[ArmName, Facts] = {
        "policy": facts(good, retrains, asked=asked),
        "never": facts(poor, ()),
        "daily": facts(good, daily),
    }
    others: tuple[tuple[ArmName, list[float]], ...] = (("never", poor), ("daily", good))
    compared = tuple(
        msgspec.structs.replace(
            compared_with("watched", other, truths(good), truths(theirs)), retrains=3 / 14 if other == "daily" else None
        )
        for other, theirs in others
    )
    newcomer = Newcomer(column="movie_id", new=3, known=2, waited={"1": 2}, days=1.5, shown=1)
    rehearsal = Rehearsal(plan=PLAN, arms=(), compared=compared, newcomers=(newcomer,))
    made = make_report(workspace, rehearsal, arms, wall_s=75.4)
    planted = PlantedTold(
        fault="feed", what="no new rows", since=START + 3 * DAY, until=START + 6 * DAY, detected=("a1",), delay_h=24.0,
        contained=("films@1 stayed live",), explained=("0 rows came where 10 are usual",),
    )  # fmt: skip
    return msgspec.structs.replace(made, planted=(planted,))


def test_a_week_counts_what_was_recorded_in_it(report: Report) -> None:
    """What a day came to is recorded at its end, so that the seventh day's is the first week's."""
    first, second = (week.arms["policy"] for week in report.weeks)
    assert (first.predictions, first.fallbacks, first.rows, first.intakes) == (14, 1, 40, 4)
    assert [one.became for one in first.retrains] == ["released"]
    assert first.retrains[0].reason == "20 rows came"
    assert [one.became for one in second.retrains] == ["refused", "as before"]
    assert second.retrains[0].refused_by == ("better_than_lately",)
    assert [len(week.arms["policy"].skipped) for week in report.weeks] == [1, 1]
    assert (report.weeks[0].raised, report.weeks[1].resolved) == (("a1",), ("a1",))
    assert first.money == pytest.approx(2 / 3600 * 1.8 + 14 * 0.001)


def test_freshness_is_measured_at_every_look(report: Report) -> None:
    """While nothing came for three days the newest row grew older, and the model too until it was retrained."""
    fresh = report.weeks[0].arms["policy"].fresh
    assert (fresh.data_age_h, fresh.data_age_most_h) == (5.0, 5.0 + 72.0)
    assert fresh.model_age_most_h == 96.0
    assert report.whole["never"].fresh.model_age_most_h == 14 * 24.0


def test_what_is_not_known_yet_is_not_counted_as_wrong(report: Report) -> None:
    """Of the last two days no truth is whole."""
    whole = report.whole["policy"].quality[0]
    assert (whole.measure.n, whole.waiting, whole.measure.mean) == (24, 4, 0.75)
    assert report.weeks[1].arms["policy"].quality[0].waiting == 4


def test_promises_follow_from_differences(report: Report) -> None:
    kept = {promise.name: promise.is_kept for promise in report.promises}
    assert kept == {"newcomers": True, "better_than_never": True, "as_good_as_daily": True}
    assert report.slices[0].subject == "watched/genre=War"
    assert report.slices[0].week == 2


def test_the_summary_says_it_in_a_few_lines(report: Report) -> None:
    said = dict(summary(report))
    assert heading(report) == "Rehearsed films from 2025-03-01 to 2025-03-15: 2 weeks in 1 min 15 s."
    assert said["retrains"] == (
        "3 (1 released, 1 came to the same, 1 refused by the gate), 2 skipped; daily 14, never 0"
    )
    assert said["alerts"] == "1 alert, 0 still open"
    assert said["planted"] == "1 of 1 faults detected, 1 contained, 1 explained"
    assert said["quality"].startswith("watched 0.75 (")
    assert "+0.5 (+" in said["quality"]


def test_a_report_is_read_as_it_was_written(report: Report, tmp_path: Path) -> None:
    paths = write_report(report, tmp_path / "out")
    assert read_report(tmp_path / "out" / "report.json") == report
    assert {path.name for path in paths} >= {"report.json", "report.md", "report.html", "quality.svg"}


def test_markdown_names_pictures_that_are_there(report: Report, tmp_path: Path) -> None:
    """Every table has as many cells in each row as in its head."""
    write_report(report, tmp_path)
    text = write_markdown(report)
    named = [part.split(")")[0] for part in text.split("](")[1:]]
    assert named
    assert all((tmp_path / name).is_file() for name in named)
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({row.replace("\\|", "").count("|") for row in rows}) <= 1


def test_nothing_of_a_report_is_markup(report: Report) -> None:
    """Names and messages come from users' code and data."""
    alert = msgspec.structs.replace(report.alerts[0], said="<script>alert(1)</script>", subject='"><b>')
    text = write_page(msgspec.structs.replace(report, alerts=(alert,)))
    assert "<script" not in text
    assert "<b>" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_every_picture_says_what_it_shows(report: Report) -> None:
    """Whoever cannot see it reads its title and its figures; as a file it is whole XML."""
    drawn = {one.name: one for one in figures(report)}
    assert set(drawn) == {"quality", "difference", "freshness", "retrains", "cost", "alerts"}
    for one in drawn.values():
        root = ET.fromstring(standalone(one.svg))  # noqa: S314 - our own
        texts = [child.text for child in root if child.tag.endswith(("title", "desc"))]
        assert texts == [one.title, one.said]
    assert "3 retrains, of which 1 were released and 1 refused by the gate; 2 skipped" in drawn["retrains"].said


FRAME = Frame(name="x", title="t", said="s", start=START, end=START + 10 * DAY, unit="u")


def test_a_line_has_a_gap_where_nothing_is_known() -> None:
    values = [1.0, 2.0, None, 4.0, 5.0]
    points = tuple(Point(at=START + n * DAY, value=value) for n, value in enumerate(values))
    assert lines(FRAME, [Series(name="a", points=points)]).count("<polyline") == 2


def test_nothing_is_drawn_outside_of_the_picture() -> None:
    """Also where all values are equal, tiny, negative, or none."""
    for values in ([0.0], [5.0, 5.0], [-3.0, 1e-9], [1e12], []):
        points = tuple(Point(at=START + n * DAY, value=v, low=v, high=v) for n, v in enumerate(values))
        for is_dotted in (False, True):
            drawn = lines(FRAME, [Series(name="a", points=points)], is_dotted=is_dotted)
            root = ET.fromstring(drawn)  # noqa: S314 - our own
            numbers = [float(v) for e in root.iter() for k, v in e.attrib.items() if k in {"y", "cy", "y1", "y2"}]
            assert all(0 <= number <= 260 for number in numbers)


def test_bars_and_spans_are_as_many_as_there_are() -> None:
    """Parts of nothing are not drawn; what still lasts reaches to the end."""
    stacks = [Stack(at=START, parts=(1, 0)), Stack(at=START + 5 * DAY, parts=(2, 3))]
    assert bars(FRAME, (("a", 0), ("b", 1)), stacks).count("<title>") == 3
    drawn = spans(FRAME, [("one", [Span(name="a1", start=START), Span(name="a2", start=START, end=START + DAY)])])
    assert "a1: 1 Mar still open" in drawn
    assert "a2: 1 Mar to 2 Mar" in drawn


def test_figures_are_short() -> None:
    assert [number(v) for v in (0.123456, 12345.6, -0.5)] == ["0.123", "12,346", "-0.5"]
    assert [signed(v) for v in (0.5, 0.0, -0.5)] == ["+0.5", "0", "\N{MINUS SIGN}0.5"]
    assert [lasted(v) for v in (0.25, 5.0, 96.0, None)] == ["15 min", "5 h", "4 d", "not known"]
