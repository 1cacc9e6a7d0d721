"""The variant that loses to counting, so that there is something to refuse."""

from pathlib import Path

import als
import polars as pl
import pytest

import movies


@pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")  # advice on speed, not needed here
def test_als_loses_to_counting_and_survives_saving(
    tmp_path: Path, sample_data: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    ratings, titles = sample_data
    train, test = movies.split(ratings, ratings.select(pl.max("rated_at")).item())
    model = als.recommender(train, factors=16)
    ours = movies.quality(model, train, test, titles)["ndcg_at_10"]
    lift = (ours - movies.quality(movies.most_watched_lately(train), train, test, titles)["ndcg_at_10"]).to_numpy()
    assert lift.mean() + 1.96 * lift.std(ddof=1) / len(lift) ** 0.5 < 0
    model.save(tmp_path / "model")
    assert als.Factors.load(tmp_path / "model").rank([1, 2, 10**9]) == model.rank([1, 2, 10**9])
