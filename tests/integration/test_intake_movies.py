"""Real ratings, taken in week by week, equal the ratings as a whole."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from penstock import sources
from penstock.core.records import DatasetVersion
from penstock.store.lake import IntakeRules, Lake, since

DATA = Path(__file__).parents[3] / "shared" / "data" / "movietweetings"


@pytest.fixture(scope="module", autouse=True)
def _data() -> None:
    if not DATA.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{DATA} must be there in CI")
        pytest.skip(f"the real ratings are not there: {DATA}")


def _until(value: Any, moment: Any) -> pl.LazyFrame:
    rows = pl.scan_parquet(DATA / "ratings.parquet").filter(pl.col("timestamp") <= moment)
    return rows if value is None else rows.filter(pl.col("timestamp") > value)


def _weekly(lake: Path) -> Iterator[DatasetVersion]:
    table = Lake(lake).table("movies", "ratings")
    first, last = (
        pl.scan_parquet(DATA / "ratings.parquet")
        .select(first=pl.col("timestamp").min(), last=pl.col("timestamp").max())
        .collect()
        .row(0)
    )
    version = None
    moment = first
    while moment < last:
        moment += timedelta(days=30)
        batches, cursor = sources.to_batches(_until(since(version), moment), None)
        assert cursor is None
        number = version.version if version else 0
        rules = IntakeRules(
            key=("user_id", "movie_id"),
            time="timestamp",
            contract={"rating": {"min": 0, "max": 10}},
            expected_version=number,
        )
        version = table.intake(batches, rules)
        assert version is not None
        yield version


def test_ratings_by_month_equal_the_ratings_as_a_whole(tmp_path: Path) -> None:
    """Nothing is lost, doubled or reordered, and the types stay."""
    whole = pl.read_parquet(DATA / "ratings.parquet")
    versions = list(_weekly(tmp_path))
    table = Lake(tmp_path).table("movies", "ratings")
    expected = whole.sort("timestamp", maintain_order=True).unique(
        ["user_id", "movie_id"], keep="last", maintain_order=True
    )
    rows = table.scan(versions[-1]).collect()
    assert rows.schema == whole.schema
    assert rows.sort("user_id", "movie_id").equals(expected.sort("user_id", "movie_id"))
    assert sum(version.rows_added for version in versions) == whole.height
    assert table.scan(versions[0]).collect().height < 30_000
    assert table.check() == []


def test_titles_with_lists_of_genres(tmp_path: Path) -> None:
    """List columns and small integers come back as they were."""
    whole = pl.read_parquet(DATA / "movies.parquet")
    table = Lake(tmp_path).table("movies", "titles")
    version = table.intake(iter([whole]), IntakeRules(key=("movie_id",)))
    assert version is not None
    assert table.scan(version).collect().equals(whole)
