"""The example's modules, importable as its own files import each other, and its data."""

import os
import sys
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "data" / "movietweetings"


# At import, because the test modules import the example by name while they are collected.
sys.path.insert(0, str(ROOT / "examples" / "movies"))

import sample  # noqa: E402 - as above

import movies  # noqa: E402 - found only with the folder on the path


@pytest.fixture(scope="session")
def real_data() -> tuple[pl.DataFrame, pl.DataFrame]:
    """MovieTweetings: ratings and titles as the example reads them."""
    if not REAL.exists():
        reason = f"MovieTweetings is not at {REAL}"
        assert os.environ.get("CI") != "true", reason
        pytest.skip(reason)
    ratings = movies.ratings(None, path=str(REAL / "ratings.parquet")).collect()
    return ratings, movies.titles(path=str(REAL / "movies.parquet")).collect()


@pytest.fixture(scope="session")
def sample_data() -> tuple[pl.DataFrame, pl.DataFrame]:
    """A small generated sample."""
    return sample.make(days=80, users=1500, per_day=250, seed=3)
