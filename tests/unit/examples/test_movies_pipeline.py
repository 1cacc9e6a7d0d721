"""The functions of the movies example, called as a user would call them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from ranker import Popularity

import movies

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


@pytest.fixture
def ratings() -> pl.DataFrame:
    """Title 1 was watched long ago by many, title 2 lately; user 9 is new in the held-out days."""
    rows = [(user, 1, 8, days_ago(60)) for user in range(1, 6)]
    rows += [(1, 2, 7, days_ago(16)), (2, 2, 7, days_ago(15)), (2, 3, 5, days_ago(14))]
    rows += [(3, 2, 9, days_ago(5)), (4, 4, 6, days_ago(4)), (9, 2, 6, days_ago(0))]
    return pl.DataFrame(rows, schema=["user_id", "movie_id", "rating", "rated_at"], orient="row")


@pytest.fixture
def titles() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "movie_id": [1, 2, 3, 4],
            "title": ["One", "Two", "Three", "Four"],
            "year": [1999, 2025, 2024, 2013],
            "genres": [["Drama"], ["Comedy", "Drama"], ["Comedy"], None],
        }
    )


def test_ratings_come_with_utc_times_whatever_the_source_calls_them(tmp_path: Path) -> None:
    source = pl.DataFrame({"user_id": [1], "movie_id": [2], "rating": [3], "timestamp": [datetime(2026, 1, 1)]})  # noqa: DTZ001 - as the real source has them
    source.write_parquet(tmp_path / "ratings.parquet")
    source.write_csv(tmp_path / "ratings.csv")
    for name in ("ratings.parquet", "ratings.csv"):
        rows = movies.ratings(None, path=str(tmp_path / name)).collect()
        assert rows.columns == ["user_id", "movie_id", "rating", "rated_at"]
        assert rows["rated_at"].item() == datetime(2026, 1, 1, tzinfo=UTC)


def test_only_ratings_after_the_watermark_are_taken_in(tmp_path: Path, ratings: pl.DataFrame) -> None:
    ratings.write_parquet(tmp_path / "ratings.parquet")
    rows = movies.ratings(days_ago(5), path=str(tmp_path / "ratings.parquet")).collect()
    assert rows["movie_id"].to_list() == [4, 2]


def test_genres_in_csv_are_words_joined_by_bars(tmp_path: Path) -> None:
    (tmp_path / "titles.csv").write_text("movie_id,title,year,genres\n1,One,1999,Drama|Comedy\n", encoding="utf-8")
    rows = movies.titles(path=str(tmp_path / "titles.csv")).collect()
    assert rows["genres"].to_list() == [["Drama", "Comedy"]]


def test_a_rating_off_the_scale_fails_the_check(ratings: pl.DataFrame) -> None:
    movies.ratings_are_on_the_scale(ratings)
    with pytest.raises(AssertionError, match=r"^$"):  # the platform adds the values to a plain assert
        movies.ratings_are_on_the_scale(ratings.with_columns(rating=pl.lit(11)))


def test_the_split_is_by_time_and_knows_each_history(ratings: pl.DataFrame) -> None:
    train, test = movies.split(ratings, NOW)
    assert train["rated_at"].max() == days_ago(14)
    assert test.select("user_id", "history").rows() == [(3, 1), (4, 1), (9, 0)]


def test_the_split_counts_from_the_newest_rating_when_that_is_older_than_now(ratings: pl.DataFrame) -> None:
    late = movies.split(ratings, NOW + timedelta(days=400))
    assert late[1].equals(movies.split(ratings, NOW)[1])


def test_the_split_does_not_look_past_now(ratings: pl.DataFrame) -> None:
    _, test = movies.split(ratings, days_ago(4.5))
    assert test["rated_at"].max() == days_ago(5)


def test_popularity_recommends_what_was_watched_lately_and_not_rated_yet(ratings: pl.DataFrame) -> None:
    train, _ = movies.split(ratings, NOW)
    model = movies.most_watched_lately(train)
    assert [movie for movie, _ in model.recommend(77, 3)] == [2, 3, 1]
    assert [movie for movie, _ in model.recommend(1, 3)] == [3]


def test_popularity_is_the_same_after_saving(tmp_path: Path, ratings: pl.DataFrame) -> None:
    model = movies.most_watched_lately(ratings)
    model.save(tmp_path / "model")
    assert Popularity.load(tmp_path / "model").rank([1, 9, 77]) == model.rank([1, 9, 77])


class Fixed:
    """A model with one answer for all."""

    def __init__(self, answer: list[int]) -> None:
        self.answer = answer

    def recommend(self, user: int, k: int = 10) -> list[tuple[int, float]]:
        return self.rank([user], k)[0]

    def rank(self, users: Sequence[int], k: int = 10) -> list[list[tuple[int, float]]]:
        return [[(movie, 0.0) for movie in self.answer[:k]] for _ in users]


def test_quality_has_one_row_per_held_out_user(ratings: pl.DataFrame, titles: pl.DataFrame) -> None:
    """They are described by what they had rated before the cut, and not by what they came to watch."""
    train, test = movies.split(ratings, NOW)
    rows = movies.quality(Fixed([1, 2]), train, test, titles)
    assert rows.select("user_id", "genre", "decade", "user_history", "hit_at_10").rows() == [
        (3, "Drama", "1990s", "1-5", 1.0),
        (4, "Drama", "1990s", "1-5", 0.0),
    ]
    # The only relevant title stands second: 1 / log2(3), over an ideal of 1.
    assert rows["ndcg_at_10"].to_list() == pytest.approx([0.6309, 0.0], abs=1e-4)


def test_newcomers_are_evaluated_when_asked_for(ratings: pl.DataFrame, titles: pl.DataFrame) -> None:
    train, test = movies.split(ratings, NOW)
    rows = movies.quality(Fixed([2]), train, test, titles, newcomers=True)
    newcomer = rows.filter(pl.col("user_id") == 9).select("genre", "user_history", "ndcg_at_10")
    assert newcomer.rows() == [("unknown", "new", 1.0)]


def test_popular_answers_with_titles(ratings: pl.DataFrame, titles: pl.DataFrame) -> None:
    answer = movies.popular(movies.watched_lately(ratings, NOW), titles, user_id=5, k=2)
    assert [movie.title for movie in answer] == ["Two", "Four"]


def test_an_outcome_counts_the_titles_rated_within_a_fortnight_after_being_shown(
    ratings: pl.DataFrame, titles: pl.DataFrame
) -> None:
    """And says by what it may be looked at: the genre of the first title, and how much the user had rated by then."""
    predictions = pl.DataFrame(
        {
            "prediction_id": ["a", "b", "c"],
            "user_id": [3, 1, 9],
            "at": [days_ago(10), days_ago(40), days_ago(20)],
            "answer": [
                [{"movie_id": 1, "title": "One"}, {"movie_id": 2, "title": "Two"}],
                [{"movie_id": 4, "title": "x"}],
                [{"movie_id": 2, "title": "Two"}],
            ],
        }
    )
    found = movies.watched(predictions, ratings, titles)
    assert found.columns == ["prediction_id", "outcome", "genre", "user_history"]
    assert found.rows() == [("a", 1.0, "Drama", "1-5"), ("b", 0.0, "unknown", "1-5"), ("c", 0.0, "Comedy", "new")]


def test_three_day_popularity_reproduces_the_reference(real_data: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    """NDCG@10 of 0.1545 on MovieTweetings' last fortnight, known users only."""
    ratings, titles = real_data
    train, test = movies.split(ratings, NOW)
    rows = movies.quality(movies.most_watched_lately(train), train, test, titles)
    assert len(rows) == 2586
    assert rows["ndcg_at_10"].mean() == pytest.approx(0.1545, abs=0.001)
