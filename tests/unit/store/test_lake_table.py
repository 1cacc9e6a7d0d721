"""Versions of a dataset: what an intake makes of rows, and what upkeep must not change."""

# ruff: noqa: DTZ001 - columns without a zone are the case under test

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from penstock.core.errors import DamagedError, InputError, LeaseLostError, NotFoundError
from penstock.core.records import DatasetVersion
from penstock.store.lake import IntakeRules, Lake, Table, hidden, since


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Lake(tmp_path).table("movies", "ratings")


def _rows(users: list[int], ratings: list[int], day: int = 1) -> pl.DataFrame:
    at = [datetime(2024, 1, day, second=number) for number in range(len(users))]
    return pl.DataFrame({"user_id": users, "rating": ratings, "at": at})


def _take(table: Table, *frames: pl.DataFrame, key: tuple[str, ...] = ("user_id",)) -> DatasetVersion:
    latest = table.latest()
    number = latest.version if latest else 0
    version = table.intake(iter(frames), IntakeRules(key=key, time="at", expected_version=number))
    assert version is not None
    return version


def test_nothing_is_there_before_the_first_intake(table: Table, tmp_path: Path) -> None:
    """An unused table answers, and an intake of nothing makes no version."""
    assert table.latest() is None
    assert table.versions() == []
    assert table.check() == []
    assert table.quarantine().collect().height == 0
    assert table.intake(iter([]), IntakeRules()) is None
    assert table.intake(iter([_rows([], [])]), IntakeRules()) is None
    assert table.compact() is None
    assert Lake(tmp_path).tables() == []
    with pytest.raises(NotFoundError, match="nothing was taken in yet"):
        table.version(1)


def test_each_version_stays_readable(table: Table, tmp_path: Path) -> None:
    """A later intake changes nothing that an earlier version says."""
    first = _take(table, _rows([1, 2], [5, 6]))
    second = _take(table, _rows([2, 3], [7, 8], day=2))
    assert (second.version, second.rows, second.rows_added, second.replaced) == (2, 4, 2, 1)
    assert table.scan(first).collect()["rating"].to_list() == [5, 6]
    assert table.scan(second).collect()["rating"].to_list() == [5, 7, 8]
    assert table.count(second) == 3
    assert table.versions() == [first, second]
    assert table.version(1) == first
    assert table.latest() == second
    assert Lake(tmp_path).tables() == [("movies", "ratings")]
    with pytest.raises(NotFoundError, match=r"ratings@3.*there are 1 to 2"):
        table.version(3)


def test_the_last_row_of_a_key_wins_within_one_intake(table: Table) -> None:
    """Keys that come twice are counted as replaced, the later row stays, in order of arrival."""
    version = _take(table, _rows([1, 2, 1], [5, 6, 7]), _rows([3, 2], [8, 9]))
    assert version.replaced == 2
    assert table.scan(version).collect().select("user_id", "rating").rows() == [(1, 7), (3, 8), (2, 9)]


def test_without_a_key_every_row_stays(table: Table) -> None:
    """Equal rows are kept as often as they came."""
    _take(table, _rows([1, 1], [5, 5]), key=())
    version = _take(table, _rows([1], [5]), key=())
    assert table.scan(version).collect().height == 3
    assert version.replaced == 0


def test_upserts_again_and_again_equal_a_plain_dictionary(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small intakes, with lists merged, compaction between and several passes over the keys, lose nothing."""
    monkeypatch.setattr(hidden, "ROWS_PER_PASS", 4)
    monkeypatch.setattr(hidden, "MERGE_AFTER", 3)
    newest: dict[int, int] = {}
    for number in range(24):
        users = [(number * 7 + step * step) % 30 for step in range(10)]
        ratings = [number * 10 + step for step in range(10)]
        before = {user: newest.get(user) for user in users}
        for user, rating in zip(users, ratings, strict=True):
            newest.pop(user, None)
            newest[user] = rating
        version = _take(table, _rows(users, ratings))
        known = sum(value is not None for value in before.values())
        assert version.replaced == known + len(users) - len(set(users))
        if number % 10 == 9:
            table.compact()
        assert table.scan(version).collect().select("user_id", "rating").rows() == list(newest.items())
        assert table.count(version) == len(newest)
    assert table.check() == []


def test_the_watermark_is_the_largest_time_and_never_goes_back(table: Table) -> None:
    """Late rows are rows like any other; `since` stays at the largest time seen, as a value of the column's type."""
    assert since(None) is None
    first = _take(table, _rows([1], [5], day=9))
    assert since(first) == datetime(2024, 1, 9)
    late = _take(table, _rows([2], [5], day=3))
    assert late.rows == 2
    assert since(late) == datetime(2024, 1, 9)


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 1, 1, 1, 2, 3, 4),
        datetime(2024, 7, 1, tzinfo=UTC),
        date(2024, 1, 1),
        timedelta(days=3, microseconds=7),
        7,
        0.5,
        "2024-w01",
    ],
)
def test_since_has_the_type_of_the_time_column(table: Table, value: object) -> None:
    """Whatever type says when, `since` can be compared with it."""
    frame = pl.DataFrame({"at": [value]})
    version = table.intake(iter([frame]), IntakeRules(time="at"))
    assert since(version) == value


def test_a_cursor_wins_over_the_time_column(table: Table) -> None:
    """A source that keeps a cursor is asked when its rows are all read."""
    seen: list[str] = []

    def batches() -> Iterator[pl.DataFrame]:
        yield _rows([1], [5])
        seen.append("all read")

    version = table.intake(batches(), IntakeRules(time="at", cursor=lambda: {"files": len(seen)}))
    assert version is not None
    assert version.watermark == {"files": 1}
    assert since(version) == {"files": 1}


def test_an_intake_upon_an_older_version_is_refused(table: Table) -> None:
    """A stale writer is told before and at the commit, and leaves nothing."""
    _take(table, _rows([1], [5]))
    with pytest.raises(LeaseLostError, match="at version 1, but this intake builds upon 0"):
        table.intake(iter([_rows([2], [5])]), IntakeRules(key=("user_id",)))

    def overtaken() -> Iterator[pl.DataFrame]:
        yield _rows([2], [5])
        _take(table, _rows([3], [5]))

    with pytest.raises(LeaseLostError, match="at version 2, but this intake builds upon 1"):
        table.intake(overtaken(), IntakeRules(expected_version=1, key=("user_id",)))
    latest = table.latest()
    assert latest is not None
    assert table.scan(latest).collect()["user_id"].to_list() == [1, 3]
    assert table.check() == []


def test_the_fence_has_the_last_word(table: Table) -> None:
    """A fence that raises right before the commit leaves nothing."""

    def fence() -> None:
        raise LeaseLostError("taken over")

    with pytest.raises(LeaseLostError, match="taken over"):
        table.intake(iter([_rows([1], [5])]), IntakeRules(fence=fence))
    assert table.latest() is None
    assert table.check() == []


def test_compaction_during_an_intake_hides_the_right_rows(table: Table) -> None:
    """Rows that moved while an intake was under way are found at their new places."""
    _take(table, _rows([1, 2], [1, 2]))
    _take(table, _rows([2, 3], [3, 4]))

    def compacted_meanwhile() -> Iterator[pl.DataFrame]:
        yield _rows([3, 1], [9, 9])
        assert table.compact() is not None

    rules = IntakeRules(key=("user_id",), time="at", expected_version=2)
    version = table.intake(compacted_meanwhile(), rules)
    assert version is not None
    assert version.replaced == 2
    assert table.scan(version).collect().select("user_id", "rating").rows() == [(2, 3), (3, 9), (1, 9)]


def test_an_error_of_the_source_passes_untouched_and_leaves_nothing(table: Table) -> None:
    """The user sees their own exception; no file of the intake remains."""

    def broken() -> Iterator[pl.DataFrame]:
        yield _rows([1], [5])
        yield _rows([2], [5]).with_columns(extra=1).drop("extra").with_columns(pl.col("rating").cast(pl.Int8()))
        raise FileNotFoundError("the user's file")

    with pytest.raises(FileNotFoundError, match="the user's file"):
        table.intake(broken(), IntakeRules())
    assert table.latest() is None
    assert table.check() == []


def test_equal_rows_give_equal_digests_in_any_batches(tmp_path: Path) -> None:
    """Two lakes that took the same rows agree; one more row and they do not."""
    lake = Lake(tmp_path)
    frame = _rows([1, 2, 3], [1, 2, 3])
    whole = _take(lake.table("p", "a"), frame)
    pieces = _take(lake.table("p", "b"), frame[:1], frame[1:])
    other = _take(lake.table("p", "c"), frame[:2])
    assert whole.digest == pieces.digest != other.digest


def test_compaction_keeps_what_a_version_says(table: Table) -> None:
    """Number, digest and rows stay; files become few; a second compaction has nothing to do."""
    for number in range(5):
        version = _take(table, _rows([number, number + 1], [number, number]))
    before = table.scan(version).collect()
    compacted = table.compact()
    assert compacted is not None
    assert (compacted.version, compacted.digest, compacted.rows) == (version.version, version.digest, version.rows)
    assert table.scan(compacted).collect().equals(before)
    assert table.scan(version).collect().equals(before)
    assert table.latest() == compacted
    assert table.compact() is None


def test_vacuum_keeps_what_is_pinned(table: Table, tmp_path: Path) -> None:
    """Pinned and newest versions stay readable; others say that their files are gone."""
    versions = [_take(table, _rows([1, number], [number, number])) for number in range(4)]
    wanted = table.scan(versions[1]).collect()
    table.compact()
    orphan = tmp_path / "movies" / "ratings" / "00000009-dead0000-00000.parquet"
    orphan.write_bytes(b"left by a dead process")
    assert any("belongs to no commit" in fault for fault in table.check())
    assert table.vacuum(keep=[2], grace_s=3600, dry_run=False) == []
    announced = table.vacuum(keep=[2], grace_s=0, dry_run=True)
    assert orphan.exists()
    assert table.vacuum(keep=[2], grace_s=0, dry_run=False) == announced
    assert not orphan.exists()
    assert table.scan(versions[1]).collect().equals(wanted)
    assert table.scan(versions[3]).collect().height == table.count(versions[3])
    with pytest.raises(NotFoundError, match="which is gone"):
        table.scan(versions[2])
    assert table.check() == []


def test_damage_is_found(table: Table, tmp_path: Path) -> None:
    """A flipped byte is found by check, a shortened file before it is read, a foreign digest at once."""
    version = _take(table, _rows([1, 2], [5, 6]))
    (path,) = (tmp_path / "movies" / "ratings").glob("*.parquet")
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)
    assert any("is damaged" in fault for fault in table.check())
    path.write_bytes(data[:-1])
    with pytest.raises(DamagedError, match="bytes, but ratings@1 recorded"):
        table.scan(version)
    path.unlink()
    assert any("is missing" in fault for fault in table.check())


def test_other_tools_read_the_newest_files(table: Table, tmp_path: Path) -> None:
    """The table is plain Delta: after compaction any reader sees the newest row per key."""
    _take(table, _rows([1, 2], [5, 6]))
    version = _take(table, _rows([2], [7]))
    table.compact()
    delta = DeltaTable(tmp_path / "movies" / "ratings")
    assert delta.version() == version.delta_version + 1
    assert pl.read_delta(delta).equals(table.scan(version).collect())


@pytest.mark.parametrize("name", ["..", "a/b", "", "A", "x" * 129])
def test_names_never_leave_the_lake(name: str, tmp_path: Path) -> None:
    """A name is a plain name, not a path."""
    with pytest.raises(InputError, match="not a usable dataset"):
        Lake(tmp_path).table("movies", name)
