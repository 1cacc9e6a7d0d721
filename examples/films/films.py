"""What to watch: what is watched lately in the genre that a person likes best."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from penstock import Pipeline, Row

films = Pipeline("films", goal="People find something to watch.")


@films.dataset(key=("user_id", "movie_id"), time="rated_at")
def ratings(since: datetime | None, *, path: str = "data/ratings.parquet") -> pl.LazyFrame:
    rows = pl.scan_parquet(path).select("user_id", "movie_id", "rating", "rated_at")
    return rows if since is None else rows.filter(pl.col("rated_at") > since)


@films.dataset(key="movie_id")
def titles(*, path: str = "data/titles.parquet") -> pl.LazyFrame:
    return pl.scan_parquet(path).select("movie_id", "title", genre=pl.col("genres").list.first())


def likes(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per person: the genre rated most."""
    counts = rows.group_by("user_id", "genre").len().sort("len", "genre", descending=[True, False])
    return counts.unique("user_id", keep="first", maintain_order=True).sort("user_id")


class Taste:
    """Titles by genre, the most watched lately first, and the genre each person rated most."""

    def __init__(self, ranked: pl.DataFrame, likes: pl.DataFrame) -> None:
        self.ranked, self.likes = ranked, likes
        self._of = dict(likes.select("user_id", "genre").iter_rows())
        self._best = {genre: part["movie_id"].to_list() for (genre,), part in ranked.group_by("genre")}

    @classmethod
    def fit(cls, ratings: pl.DataFrame, titles: pl.DataFrame, days: float) -> "Taste":
        age = (pl.col("rated_at").max() - pl.col("rated_at")).dt.total_seconds() / 86_400
        rows = ratings.with_columns(weight=(-age / days).exp()).join(titles, on="movie_id")
        ranked = rows.group_by("genre", "movie_id").agg(score=pl.col("weight").sum())
        every = ranked.group_by("movie_id").agg(pl.col("score").max()).with_columns(genre=pl.lit(""))
        ranked = pl.concat([ranked, every.select(ranked.columns)]).sort("score", "movie_id", descending=[True, False])
        return cls(ranked.group_by("genre", maintain_order=True).head(40), likes(rows))

    def best(self, user_id: int, count: int) -> list[int]:
        return self._best.get(self._of.get(user_id, ""), self._best[""])[:count]

    def save(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.ranked.write_parquet(path / "ranked.parquet")
        self.likes.write_parquet(path / "likes.parquet")

    @classmethod
    def load(cls, path: Path) -> "Taste":
        return cls(pl.read_parquet(path / "ranked.parquet"), pl.read_parquet(path / "likes.parquet"))


@films.step(outputs=("train", "test"))
def split(ratings: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    cut = ratings["rated_at"].max() - timedelta(days=2)
    return ratings.filter(pl.col("rated_at") <= cut), ratings.filter(pl.col("rated_at") > cut)


@films.baseline
def of_all_times(train: pl.DataFrame, titles: pl.DataFrame) -> Taste:
    return Taste.fit(train, titles.with_columns(genre=pl.lit("any")), days=1000)


@films.model
def lately(train: pl.DataFrame, titles: pl.DataFrame) -> Taste:
    return Taste.fit(train, titles, days=5.0)


@films.evaluate(metric="hits", slices=("genre",), key="user_id")
def quality(model: Taste, train: pl.DataFrame, test: pl.DataFrame, titles: pl.DataFrame) -> pl.DataFrame:
    """One row per person; sliced by what is known of them when they ask, and not by what they then watched."""
    known = likes(train.join(titles, on="movie_id")).select("user_id", "genre")
    people = test.group_by("user_id").agg(pl.col("movie_id").alias("watched"))
    people = people.join(known, on="user_id", how="left").with_columns(pl.col("genre").fill_null("new")).sort("user_id")
    hits = [
        float(bool(set(model.best(user, 10)) & set(watched)))
        for user, watched in people.select("user_id", "watched").iter_rows()
    ]
    return people.select("user_id", "genre", hits=pl.Series(hits))


@films.step
def current(ratings: pl.DataFrame, titles: pl.DataFrame) -> Taste:
    """What is served: fitted like the model that was judged, and of the newest days too."""
    return Taste.fit(ratings, titles, days=5.0)


class Film(Row):
    movie_id: int
    title: str


@films.serve
def recommend(current: Taste, titles: pl.DataFrame, *, user_id: int, k: int = 10) -> list[Film]:
    names = dict(titles.select("movie_id", "title").iter_rows())
    return [Film(movie_id=movie, title=names.get(movie, "unknown")) for movie in current.best(user_id, k)]


@films.outcome(within="4d")
def watched(predictions: pl.DataFrame, ratings: pl.DataFrame) -> pl.DataFrame:
    shown = predictions.select(
        "prediction_id", "user_id", "at", movie_id=pl.col("answer").list.eval(pl.element().struct.field("movie_id"))
    ).explode("movie_id")
    later = pl.col("rated_at") - pl.col("at")
    is_hit = later.is_between(timedelta(0), timedelta(days=4), closed="right").fill_null(value=False)
    rows = shown.join(ratings.select("user_id", "movie_id", "rated_at"), on=("user_id", "movie_id"), how="left")
    return rows.group_by("prediction_id", maintain_order=True).agg(is_hit.sum().cast(pl.Float64).alias("outcome"))
