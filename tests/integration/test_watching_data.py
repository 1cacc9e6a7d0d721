"""Monitors of datasets on real ratings: what is ordinary is not told, what is planted is."""

import os
import sys
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.core.errors import SchemaError
from watch_films import DATA, DAY, RELEASED, Films, films


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Films:
    """A pipeline released from real ratings, and four further days that were watched."""
    if not DATA.is_file():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{DATA} must be there in CI")
        pytest.skip(f"the real ratings are not there: {DATA}")
    made = films(tmp_path_factory.mktemp("released"))
    for _ in range(4):
        made.live_a_day(entries=[])
        assert made.alarms() == []
    return made


def until_noon(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the ratings of the first half of a day."""
    return rows.filter(pl.col("rated_at").dt.hour() < 12)


def test_windows_are_there_at_release(world: Films) -> None:
    """M1, M6, Q7: eight weeks of the rows trained on are laid out with their profiles, and raise no alarm."""
    kept = world.kept("data:ratings")
    assert kept[0].start_at == RELEASED - 57 * DAY
    assert [one.start_at for one in kept] == [kept[0].start_at + k * DAY for k in range(len(kept))]
    real = {one.start_at: world.of_day(one.start_at).height for one in kept}
    assert {one.start_at: one.rows for one in kept} == real
    assert all(one.profile is not None and one.findings == [] for one in kept)
    assert kept[-1].end_at == world.now
    assert [one.release for one in (kept[0], kept[-1])] == [None, "films@1"]


def test_an_unchanged_pipeline_is_not_computed_again(world: Films, tmp_path: Path) -> None:
    """Q39: a look without news finds nothing, records nothing, and leaves what is recorded as it is."""
    own = world.copied(tmp_path)
    before = own.kept("data:ratings")
    own.now += timedelta(hours=5)
    assert own.watch() == []
    assert own.kept("data:ratings") == before


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (pl.when(pl.int_range(pl.len()) % 5 == 0).then(None).otherwise(pl.col("rating")), "missing"),
        (pl.when(pl.int_range(pl.len()) == 9).then(11.0).otherwise(pl.col("rating")), "range"),
        (pl.when(pl.int_range(pl.len()) % 10 == 0).then(float("nan")).otherwise(pl.col("rating")), "numeric"),
        ((pl.col("rating") - 2).clip(0, 10), "data_drift"),
    ],
)
def test_what_is_wrong_with_a_column_is_found(world: Films, tmp_path: Path, change: pl.Expr, kind: str) -> None:
    """M1, M6: a burst of nulls, an eleven on a scale to ten, NaN, a shift: with the column, its size and its rows."""
    own = world.copied(tmp_path)
    wrong = own.of_day(own.now).with_columns(change.alias("rating"))
    found = own.live_a_day(wrong, [])
    (finding, *_) = [finding for finding in found if finding.kind == kind]
    assert (finding.subject, finding.is_alarm) == ("ratings.rating", True)
    assert {"before", "after"} <= finding.evidence.keys()
    assert all(finding.subject == "ratings.rating" for finding in found)


def test_half_a_day_without_rows_is_a_broken_feed(world: Films, tmp_path: Path) -> None:
    """M2: the ratings that came are ordinary; that none came after noon is told."""
    own = world.copied(tmp_path)
    day = own.now
    own.live_a_day(pl.concat([until_noon(own.of_day(day)), own.of_day(day).tail(1)]), [])
    assert {kind for kind, _ in own.alarms()} == {"broken_feed"}
    assert {subject for _, subject in own.alarms()} == {"ratings", "ratings.rated_at"}


def test_a_tenth_of_the_rows_is_a_broken_feed(world: Films, tmp_path: Path) -> None:
    """M2: rows of all hours, but few of them; the finding says how many were expected."""
    own = world.copied(tmp_path)
    day = own.now
    is_kept = (pl.int_range(pl.len()) % 10 == 0) | (pl.int_range(pl.len()) == pl.len() - 1)
    own.live_a_day(own.of_day(day).filter(is_kept), [])
    (finding,) = [finding for finding in own.found if finding.subject == "ratings"]
    assert (finding.kind, finding.is_alarm) == ("broken_feed", True)
    assert finding.evidence["expected"] == pytest.approx(own.of_day(day).height, rel=0.4)


def test_a_feed_that_stops_is_told_and_so_is_that_it_is_back(world: Films, tmp_path: Path) -> None:
    """M2, M9: a column that is gone is refused whole, so no rows come; within two days it is told, until they come."""
    own = world.copied(tmp_path)
    gone = own.of_day(own.now).drop("rating")
    with pytest.raises(SchemaError, match="rating"):
        own.take_in(gone)
    silent = own.rows.clear()
    own.live_a_day(silent, [])
    own.live_a_day(silent, [])
    assert {kind for kind, _ in own.alarms()} == {"broken_feed", "stale_data"}
    empty = [one for one in own.kept("data:ratings") if not one.rows]
    assert [one.start_at for one in empty] == [own.now - 2 * DAY]
    own.live_a_day(entries=[])
    assert ("stale_data", "ratings") not in own.alarms()


def test_late_rows_have_their_window_looked_at_again(world: Films, tmp_path: Path) -> None:
    """M9: rows of a day that come with the next one's belong to their day, which is compared again, once."""
    own = world.copied(tmp_path)
    day = own.now
    rows = own.of_day(day)
    early = pl.concat([until_noon(rows), rows.tail(1)])
    own.live_a_day(early, [])
    assert {kind for kind, _ in own.alarms()} == {"broken_feed"}
    late = pl.concat([rows.join(early, on=rows.columns, how="anti"), own.of_day(day + DAY)])
    own.live_a_day(late, [])
    assert own.alarms() == []
    kept = {one.start_at: one for one in own.kept("data:ratings")}
    assert (kept[day].rows, kept[day].findings) == (rows.height, [])
    assert len(own.kept("data:ratings")) == len(world.kept("data:ratings")) + 2


def test_a_change_that_lasts_is_how_things_are_now(world: Films, tmp_path: Path) -> None:
    """M6, N13: an alarm that stands for eight windows is told for eight windows, and not for ever."""
    own = world.copied(tmp_path)
    told = []
    for _ in range(12):
        harsher = own.of_day(own.now).with_columns((pl.col("rating") - 3).clip(0, 10))
        own.live_a_day(harsher, [])
        told.append(bool(own.alarms()))
    assert told == [*[True] * 8, *[False] * 4]


def test_a_dataset_without_time_is_looked_at_by_intake(world: Films, tmp_path: Path) -> None:
    """M1: one window per intake; a list of titles that comes without years is told."""
    own = world.copied(tmp_path)
    known = pl.read_parquet(own.project.root / "titles.parquet")
    for number in range(10):
        own.now += timedelta(hours=1)
        own.take_in(known.sample(2000, seed=number), "titles")
        assert [f for f in own.watch() if f.is_alarm] == []
    assert [one.rows for one in own.kept("data:titles")] == [3000, *[2000] * 10]
    own.now += timedelta(hours=1)
    own.take_in(
        known.head(2000).with_columns(year=pl.when(pl.int_range(pl.len()) < 600).then(None).otherwise("year")), "titles"
    )
    assert ("missing", "titles.year") in [(finding.kind, finding.subject) for finding in own.watch()]
