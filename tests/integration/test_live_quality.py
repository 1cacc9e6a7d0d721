"""Live quality of a real release: answers, their truth joined late, and what monitors say of each window (M3, M4)."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.clock import Clock
from penstock.monitoring.findings import Window
from penstock.project.feedback import take_feedback
from penstock.project.outcomes import join_outcomes
from penstock.project.watching import truth
from penstock.project.watching.watch import look_at, watch
from penstock.serving.predictions.compaction import compact
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.store.ledger import windows
from penstock.store.ledger.windows import KeptWindow
from project_folder import Project

START = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PER_DAY = 160
FLOW = """
    from datetime import datetime, timedelta

    import polars as pl

    from penstock import Pipeline

    flow = Pipeline("flow")


    @flow.dataset(key="person", time="sold_at")
    def sales(since: datetime | None) -> pl.DataFrame:
        rows = pl.read_csv("sales.csv", try_parse_dates=True).with_columns(
            pl.col("sold_at").dt.replace_time_zone("UTC")
        )
        return rows if since is None else rows.filter(pl.col("sold_at") > since)


    @flow.model
    def best(sales: pl.DataFrame) -> int:
        return 1


    @flow.serve
    def offer(best: int, *, person: int, region: str = "north") -> int:
        return best


    @flow.outcome(within="2d", value=1.0)
    def bought(predictions: pl.DataFrame, sales: pl.DataFrame) -> pl.DataFrame:
        known = predictions.filter(pl.col("person") % 10 != 9)  # these can never be known
        sold = known.join(sales, on="person", how="left")
        late = pl.col("sold_at") - pl.col("at")
        return sold.select(
            "prediction_id",
            outcome=late.is_between(timedelta(0), timedelta(days=2)).fill_null(value=False).cast(pl.Float64),
            tier=pl.concat_str(pl.lit("tier"), pl.col("person") % 4),
        )
"""


class Shop:
    """The project, answers as a worker would have written them, and who bought."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root)
        self.home = root / ".penstock"
        self.project.write(FLOW)
        self.rng = np.random.default_rng(1)
        self.people: list[dict[str, Any]] = []
        self.sales: list[tuple[int, datetime]] = [(-1, START)]
        self.days = 0
        self.at_once: list[Window] = []

    def take_in(self) -> None:
        """Take the sales in and release; that the answers were given before does not matter here."""
        frame = pl.DataFrame(self.sales, schema=["person", "sold_at"], orient="row")
        frame.with_columns(pl.col("sold_at").dt.strftime("%Y-%m-%dT%H:%M:%S")).write_csv(
            self.project.root / "sales.csv"
        )
        self.project.run()

    def live(self, days: int, *, chance: float = 0.5, lost: tuple[str, str] | None = None) -> None:
        """Let days pass: people ask, and some buy within hours; none of the region and tier that are lost."""
        log = PredictionLog(self.home, "flow", worker="w0-1", clock=Clock())
        for _ in range(days):
            for number in range(PER_DAY):
                self._ask(log, START + self.days * DAY + timedelta(minutes=8 * number), chance, lost)
            self.days += 1
        log.close()
        self.sales.append((-1 - self.days, START + self.days * DAY - timedelta(seconds=1)))

    def _ask(self, log: PredictionLog, at: datetime, chance: float, lost: tuple[str, str] | None) -> None:
        person = len(self.people)
        region, tier = str(self.rng.choice(["north", "south", "west", "east"])), f"tier{person % 4}"
        made = log.new_id(at)
        fields = msgspec.Raw(msgspec.json.encode({"person": person, "region": region}))
        log.append([LogEntry(id=made, at=at, release="flow@1", serve="offer", fields=fields, answer=msgspec.Raw(b"1"))])
        bought = bool(self.rng.random() < chance) and (region, tier) != lost
        self.people.append({"id": made, "at": at, "region": region, "tier": tier, "bought": bought, "person": person})
        if bought:
            self.sales.append((person, at + timedelta(hours=3)))

    def watch(self, now: datetime) -> list[str]:
        """Join the truth and look, as a tick does; return the alarms."""
        with self.project.opened(Clock(now=lambda: now)) as workspace:
            compact(self.home, "flow")
            join_outcomes("flow", workspace, now=now)
            return [found.said for found in watch(workspace, "flow", now) if found.is_alarm]

    def measured(self, now: datetime) -> list[tuple[str, datetime]]:
        """Return monitor and start of the windows that would be measured now."""
        with self.project.opened(Clock(now=lambda: now)) as workspace:
            look = look_at(workspace, "flow", now)
            return [(one.window.monitor, one.window.start) for one in truth.measure(look)]

    def windows(self, monitor: str = "quality:bought") -> list[KeptWindow]:
        with self.project.opened() as workspace, workspace.ledger.read() as conn:
            return windows.page(conn, "flow", monitor, limit=1000)

    @property
    def now(self) -> datetime:
        return START + self.days * DAY


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Twenty ordinary days, measured at once without a trace, then looked at in two parts."""
    made = Shop(tmp_path_factory.mktemp("quality"))
    made.live(20)
    made.take_in()
    with made.project.opened(Clock(now=lambda: made.now)) as workspace:
        join_outcomes("flow", workspace, now=made.now)
        made.at_once = [one.window for one in truth.measure(look_at(workspace, "flow", made.now))]
    made.watch(made.now - 9 * DAY)
    made.watch(made.now)
    return made


def test_quality_is_measured_once_truth_is_whole_and_unknown_is_not_wrong(shop: Shop) -> None:
    """M3: each day about which nothing more can come has its mean and interval, over answers whose truth is known."""
    found = shop.windows()
    assert [one.start_at for one in found] == [START + day * DAY for day in range(len(found))]
    assert 17 <= len(found) <= 19  # the last two days are still open
    for day in (0, 9):
        there = [p for p in shop.people if p["at"].date() == found[day].start_at.date()]
        known = [p for p in there if p["person"] % 10 != 9]
        level = found[day].findings[0]["evidence"]["level"]
        assert (found[day].rows, level["n"]) == (len(known), len(known))
        assert level["mean"] == pytest.approx(np.mean([p["bought"] for p in known]))
        assert level["low"] < level["mean"] < level["high"]
        evidence = found[day].findings[0]["evidence"]
        assert (evidence["asked"], evidence["whole"], evidence["labelled"]) == (PER_DAY, PER_DAY, len(known))


def test_quality_is_told_by_release_fields_and_words_of_the_outcome(shop: Shop) -> None:
    """M4: by release and fallback, by a field of the request, and by a column that the outcome function returned."""
    rows = shop.windows()[3].findings[0]["evidence"]["by"]
    assert {row["column"] for row in rows} >= {"release", "serve", "variant", "fallback", "region", "tier"}
    shown = {row["value"]: row for row in rows if row["column"] == "tier"}
    there = [p for p in shop.people if p["at"].date() == (START + 3 * DAY).date() and p["person"] % 10 != 9]
    tier = [p["bought"] for p in there if p["tier"] == "tier2"]
    assert (shown["tier2"]["n"], shown["tier2"]["mean"]) == (len(tier), pytest.approx(np.mean(tier)))


def test_ordinary_days_raise_no_alarm_and_are_measured_once(shop: Shop) -> None:
    """Nothing changed, so nothing is said; looked at again, nothing is computed again."""
    assert not any(one.is_alarm for one in shop.windows())
    assert shop.measured(shop.now) == []


def test_a_window_is_the_same_whatever_is_looked_at_with_it(shop: Shop) -> None:
    """Who was killed between two looks, or comes late, finds what the undisturbed one finds."""
    kept = shop.windows()
    assert len(kept) == len(shop.at_once) > 15
    for one, other in zip(shop.at_once, kept, strict=True):
        assert (one.start, one.rows, one.release) == (other.start_at, other.rows, other.release)
        assert msgspec.to_builtins(list(one.findings)) == other.findings


def test_late_and_corrected_words_of_callers_measure_their_window_again(shop: Shop) -> None:
    """Feedback is a monitor too; said months later, or said otherwise, it changes the window of its answer alone."""
    second = [p["id"] for p in shop.people[PER_DAY : PER_DAY + 20]]
    with shop.project.opened() as workspace:
        take_feedback("flow", [{"prediction_id": made, "value": 1.0} for made in second], workspace)
    later = shop.now + 60 * DAY
    assert shop.measured(later) == [("feedback:feedback", START + DAY)]
    with shop.project.opened(Clock(now=lambda: later)) as workspace:
        watch(workspace, "flow", later)
    (one,) = shop.windows("feedback:feedback")
    assert (one.rows, one.findings[0]["evidence"]["level"]["mean"]) == (20, 1.0)
    assert shop.measured(later) == []
    with shop.project.opened() as workspace:
        take_feedback("flow", [{"prediction_id": second[0], "value": 0.0}], workspace)
        take_feedback("flow", [{"prediction_id": second[1], "value": 1.0}], workspace)  # repeated: it changes nothing
        watch(workspace, "flow", later)
    (one,) = shop.windows("feedback:feedback")
    assert one.findings[0]["evidence"]["level"]["mean"] == pytest.approx(0.95)


def test_a_fall_of_all_answers_is_an_alarm_with_its_size(tmp_path: Path) -> None:
    """tO7: what windows ordinarily give is known: a day on which half as many buy is told, with the worst answers."""
    shop = Shop(tmp_path)
    shop.live(14)
    shop.live(2, chance=0.25)
    shop.live(3)
    shop.take_in()
    said = shop.watch(shop.now)
    alarms = {one.start_at: one for one in shop.windows() if one.is_alarm}
    assert START + 14 * DAY in alarms
    assert set(alarms) <= {START + 14 * DAY, START + 15 * DAY}
    fall = alarms[START + 14 * DAY].findings[0]
    assert (fall["kind"], fall["subject"]) == ("quality", "bought")
    assert fall["effect"] < -0.3
    assert fall["p"] < 0.01
    assert fall["evidence"]["expected"] == pytest.approx(0.5, abs=0.06)
    bought = {p["id"]: p["bought"] for p in shop.people}
    assert [bought[made] for made in fall["evidence"]["predictions"]] == [False] * 5
    assert any("Windows ordinarily give 0.5" in one or "Windows ordinarily give 0.4" in one for one in said)


def test_a_bad_subgroup_that_nobody_declared_is_found_in_production(tmp_path: Path) -> None:
    """N8, M4: one region of one tier (6 % of answers) buys nothing any more, and is named with its answers."""
    shop = Shop(tmp_path)
    shop.live(20)
    shop.live(6, lost=("west", "tier1"))
    shop.live(2)
    shop.take_in()
    shop.watch(shop.now)
    found = [f for one in shop.windows() for f in one.findings if f["kind"] == "slice_quality" and f["is_alarm"]]
    assert {f["subject"] for f in found} == {"bought/region=west and tier=tier1"}
    group = {p["id"] for p in shop.people if (p["region"], p["tier"]) == ("west", "tier1")}
    assert set(found[-1]["evidence"]["predictions"]) <= group
    assert found[-1]["evidence"]["mean"] < 0.35
    assert found[-1]["evidence"]["expected"] == pytest.approx(0.5, abs=0.15)
