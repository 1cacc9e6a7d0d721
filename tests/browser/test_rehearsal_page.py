"""The page of a rehearsal in a real browser: its sections, its pictures, on a wide screen and on a phone."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from chromium import PROGRAM, Page, browsing
from penstock.worker.rehearsal.records import ArmName, Compared, Newcomer, Quality
from penstock.worker.rehearsal.report.records import (
    AlertTold,
    ArmSpan,
    Freshness,
    LiveQuality,
    OfflineQuality,
    PlantedTold,
    Promise,
    Report,
    Retrain,
    Skipped,
    Week,
)
from penstock.worker.rehearsal.report.write import write_report

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")]

START = datetime(2025, 3, 1, tzinfo=UTC)
WEEK = timedelta(days=7)
WEEKS = 26
ARMS: tuple[ArmName, ...] = ("policy", "daily", "never")
LONG = "a_column_with_a_name_that_nobody_would_want_to_read_on_a_phone_" * 2


def arm(weeks: int, mean: float) -> ArmSpan:
    quality = Quality(mean=mean, low=mean - 0.05, high=mean + 0.05, n=400 * weeks)
    retrain = Retrain(
        run="r9", at=START, cause="new_data:ratings@8", reason="400 rows came", became="released", release="films@2",
        refused_by=(), cpu_s=2.0,
    )  # fmt: skip
    return ArmSpan(
        live="films@2", predictions=420 * weeks, fallbacks=1, errors=0, intakes=7, rows=2800, set_aside=0,
        quality=(LiveQuality(outcome="watched", measure=quality, waiting=20),),
        fresh=Freshness(data_age_h=4, data_age_most_h=9, model_age_h=30, model_age_most_h=80),
        releases=("films@2",), retrains=(retrain,) * (2 * weeks), cpu_s=60.0 * weeks, money=0.2,
        skipped=(Skipped(at=START, cause="new_data:ratings@9", reason="worth 0.001, costs 0.002"),) * weeks,
    )  # fmt: skip


def difference(other: ArmName, mean: float) -> Compared:
    quality = Quality(mean=mean, low=mean - 0.03, high=mean + 0.03, n=400)
    return Compared(outcome="watched", other=other, ours=0.4, theirs=0.3, difference=quality, retrains=0.4)


def a_report() -> Report:
    """Half a year with everything in it that a report may say."""
    weeks = tuple(
        Week(
            number=n + 1, start=START + n * WEEK, end=START + (n + 1) * WEEK, raised=("a1",), resolved=(),
            arms={name: arm(1, 0.4 - 0.005 * n * (name == "never")) for name in ARMS},
            differences=(difference("daily", 0.0), difference("never", 0.01 * n)),
        )
        for n in range(WEEKS)
    )  # fmt: skip
    alerts = tuple(
        AlertTold(
            alert=f"a{n + 1}", kind="drift", subject=f"data:{LONG}", raised_at=START + n * WEEK, release="films@1",
            resolved_at=START + (n + 1) * WEEK if n % 2 else None, said=f"{LONG!r} moved.", done=("opened",),
        )
        for n in range(4)
    )  # fmt: skip
    planted = PlantedTold(
        fault="feed", what="no new rows for 3 steps", since=START + 3 * WEEK, until=START + 4 * WEEK, detected=("a1",),
        delay_h=24, contained=("films@2 stayed live",), explained=("Only 0 rows of 'ratings' came.",),
    )  # fmt: skip
    offline = OfflineQuality(
        release="films@2", at=START + WEEK, evaluation="quality", metric="hits", model="lately",
        measure=Quality(mean=0.3, low=0.25, high=0.35, n=500),
    )  # fmt: skip
    return Report(
        pipeline="films", start=START, end=START + WEEKS * WEEK, step_s=86_400.0, wall_s=600.0,
        whole={name: arm(WEEKS, 0.4) for name in ARMS}, differences=(difference("daily", 0), difference("never", 0.1)),
        weeks=weeks, offline=(offline,), alerts=alerts, planted=(planted,),
        newcomers=(Newcomer(column="movie_id", new=9, known=9, waited={"1": 9}, days=0.7, shown=4),),
        promises=(Promise(name="better_than_never", is_kept=False, said="watched is better: +0.1 (+0.07 to +0.13)"),),
    )  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(a_report(), folder)
    return folder / "report.html"


@pytest.fixture
def page(path: Path, tmp_path: Path) -> Iterator[Page]:
    with browsing(tmp_path) as opened:
        opened.open(path.as_uri())
        yield opened


def test_every_section_is_one_click_away(page: Page) -> None:
    """What people ask of half a year, in the order in which they ask it."""
    titles = page.evaluate("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert titles == [
        "In short", "Did it stay good?", "Was it fresh?", "When did it retrain, and why?", "What went wrong?",
        "Week by week",
    ]  # fmt: skip
    links = "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.getAttribute('href')))"
    assert page.evaluate(links)
    assert page.evaluate("document.querySelectorAll('nav a').length") == len(titles) - 1
    assert page.evaluate("document.querySelectorAll('#week-by-week tbody tr').length") == WEEKS


def test_every_picture_has_a_name_and_is_seen(page: Page) -> None:
    """A reader of the screen is told its title and its figures; nothing lies outside of it."""
    drawn = "[...document.querySelectorAll('svg')]"
    assert page.evaluate(f"{drawn}.length") == 7
    assert page.evaluate(f"{drawn}.every(s => s.getBoundingClientRect().height > 80)")
    named = "s.getAttribute('aria-labelledby').split(' ').every(id => document.getElementById(id).textContent)"
    assert page.evaluate(f"{drawn}.every(s => s.getAttribute('role') === 'img' && {named})")
    beside = (
        "s => [...s.querySelectorAll('text')].filter(t => { const b = t.getBBox(), v = s.viewBox.baseVal;"
        " return b.x < 0 || b.x + b.width > v.width || b.y + b.height > v.height }).map(t => t.textContent)"
    )
    assert page.evaluate(f"{drawn}.flatMap({beside})") == []


@pytest.mark.parametrize("is_dark", [False, True])
def test_the_report_fits_a_phone_in_light_and_dark(page: Page, is_dark: bool) -> None:
    """Wide tables scroll by themselves, and nothing else is wider than the screen."""
    page.resize(375, 780, is_dark=is_dark)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    light = "const v = getComputedStyle(document.body)[name].match(/\\d+/g).map(Number); return v[0] + v[1] + v[2]"
    ink, ground = (page.evaluate(f"((name) => {{ {light} }})('{name}')") for name in ("color", "backgroundColor"))
    assert (ink > ground) == is_dark
    assert abs(ink - ground) > 450


def test_the_page_needs_nothing_beside_it(page: Page) -> None:
    """It may be sent by mail: no script, no address, no complaint of the browser."""
    assert page.evaluate("performance.getEntriesByType('resource').length") == 0
    assert page.evaluate("document.scripts.length") == 0
    assert page.complaints == []
