"""What should I watch? A ranker over what people rate, retrained as new ratings come in.

Each function can be called by itself; see README.md beside this file for what is measured and how.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from ranker import Popularity, Ranker, Recommender

from penstock import Pipeline, Row

movies = Pipeline("movies", goal="People find something to watch within a fortnight.")

TOP = 10
DISCOUNT = 1 / np.log2(np.arange(2, TOP + 2))


@movies.dataset(key=("user_id", "movie_id"), time="rated_at")
def ratings(since: datetime | None, *, path: str = "data/ratings.parquet") -> pl.LazyFrame:
    """One row per user and title, from parquet or CSV: user_id, movie_id, rating (0 to 10), rated_at (UTC)."""
    rows = _scan(path)
    if "timestamp" in rows.collect_schema():
        rows = rows.rename({"timestamp": "rated_at"})
    rows = rows.select("user_id", "movie_id", "rating", _in_utc(rows.collect_schema()["rated_at"]))
    return rows if since is None else rows.filter(pl.col("rated_at") > since)


@movies.dataset(key="movie_id")
def titles(*, path: str = "data/titles.parquet") -> pl.LazyFrame:
    """One row per title: movie_id, title, year, genres (a list, or in CSV words joined by "|")."""
    rows = _scan(path)
    if rows.collect_schema()["genres"] == pl.String:
        rows = rows.with_columns(pl.col("genres").str.split("|"))
    return rows.select("movie_id", "title", "year", "genres")


@movies.check
def ratings_are_on_the_scale(ratings: pl.DataFrame) -> None:
    assert ratings["rating"].is_between(0, 10).all()


@movies.step(outputs=("train", "test"))
def split(ratings: pl.DataFrame, now: datetime, *, holdout_days: int = 14) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Hold out the last days before `now`, or before the newest rating when that is older.

    `history` in `test` is how many titles the user had rated before the cut.
    """
    known = ratings.filter(pl.col("rated_at") <= now)
    cut = known.select(pl.col("rated_at").max()).item() - timedelta(days=holdout_days)
    train = known.filter(pl.col("rated_at") <= cut)
    history = train.group_by("user_id").agg(pl.len().alias("history"))
    test = known.filter(pl.col("rated_at") > cut).join(history, on="user_id", how="left", maintain_order="left")
    return train, test.with_columns(pl.col("history").fill_null(0))


@movies.baseline
def most_watched_lately(train: pl.DataFrame) -> Popularity:
    return Popularity.fit(train, days=3)


@movies.model
def recommender(
    train: pl.DataFrame,
    titles: pl.DataFrame,
    *,
    candidates: int = 100,
    weeks: int = 18,
    trees: int = 200,
    seed: int = 0,
) -> Ranker:
    return Ranker.fit(train, titles, candidates=candidates, weeks=weeks, trees=trees, seed=seed)


@movies.step
def current(recommender: Ranker, ratings: pl.DataFrame, titles: pl.DataFrame, now: datetime) -> Ranker:
    """What answers: the trees that were judged on the held-out days, and all that is known now, those days included."""
    return recommender.knowing(ratings.filter(pl.col("rated_at") <= now), titles)


@movies.step
def watched_lately(ratings: pl.DataFrame, now: datetime) -> Popularity:
    """What answers when the ranker cannot: the titles watched most in the last days before now."""
    return Popularity.fit(ratings.filter(pl.col("rated_at") <= now), days=3)


@movies.evaluate(metric="ndcg_at_10", slices=("genre", "decade", "user_history"), key="user_id")
def quality(
    model: Recommender, train: pl.DataFrame, test: pl.DataFrame, titles: pl.DataFrame, *, newcomers: bool = False
) -> pl.DataFrame:
    """One row per held-out user: NDCG@10 and hit rate of ten titles, all asked for at the moment of the cut.

    Every title the user rated in the held-out days is relevant, whatever the rating (binary gain, Järvelin and
    Kekäläinen 2002; the ideal is as many of them as fit in ten). The model leaves out titles rated before the cut.
    Users without a rating before the cut are left out unless `newcomers`: nobody can recommend to them but by counting.

    People are sliced by what they rated before the cut. By what they watched after it, any model that gives up a title
    would be worse for those who then watched it, however much better it is for everybody else.
    """
    people = _people(train, test if newcomers else test.filter(pl.col("history") > 0), titles)
    ranked = model.rank(people["user_id"].to_list(), TOP)
    relevant = people["watched"].to_list()
    hits = [[movie in set(wanted) for movie, _ in best] for best, wanted in zip(ranked, relevant, strict=True)]
    return people.drop("watched").with_columns(
        pl.Series("ndcg_at_10", [_ndcg(hit, len(wanted)) for hit, wanted in zip(hits, relevant, strict=True)]),
        pl.Series("hit_at_10", [float(any(hit)) for hit in hits], dtype=pl.Float64),
    )


@movies.check
def better_than_lately(quality) -> None:  # noqa: ANN001 - the platform gives the evaluation, with its statistics
    assert quality.lift("recommender", over="most_watched_lately").low > 0


class Movie(Row):
    movie_id: int
    title: str
    score: float


@movies.serve
def recommend(current: Ranker, titles: pl.DataFrame, *, user_id: int, k: int = 10) -> list[Movie]:
    return _named(current.recommend(user_id, k), titles)


@movies.fallback(deadline_ms=50)
def popular(watched_lately: Popularity, titles: pl.DataFrame, *, user_id: int, k: int = 10) -> list[Movie]:
    return _named(watched_lately.recommend(user_id, k), titles)


@movies.outcome(within="14d", value=0.30)
def watched(predictions: pl.DataFrame, ratings: pl.DataFrame, titles: pl.DataFrame) -> pl.DataFrame:
    """For each prediction (prediction_id, at, user_id, answer), how many of its titles were rated in the fortnight.

    Beside it what it is looked at by: the genre of the first title, and how much the user had rated by then.
    """
    shown = pl.col("answer").list.eval(pl.element().struct.field("movie_id")).alias("movie_id")
    asked = predictions.select("prediction_id", "user_id", "at", shown)
    rows = asked.explode("movie_id")
    rated = rows.join(ratings.select("user_id", "movie_id", "rated_at"), on=("user_id", "movie_id"), how="left")
    late = pl.col("rated_at") - pl.col("at")
    counted = late.is_between(timedelta(0), timedelta(days=14), closed="right").fill_null(value=False)
    found = rated.group_by("prediction_id", maintain_order=True).agg(counted.sum().cast(pl.Float64).alias("outcome"))
    return found.join(_circumstances(asked, ratings, titles), on="prediction_id", how="left", maintain_order="left")


def _circumstances(asked: pl.DataFrame, ratings: pl.DataFrame, titles: pl.DataFrame) -> pl.DataFrame:
    """One row per prediction: the genre of its first title, and a bucket of how many ratings its user had made."""
    genres = titles.select("movie_id", genre=pl.col("genres").list.first())
    first = asked.select("prediction_id", "user_id", "at", pl.col("movie_id").list.first())
    by_time = ratings.select("user_id", at="rated_at").sort("at")
    counts = by_time.with_columns(pl.int_range(1, pl.len() + 1).over("user_id").alias("history"))
    users = first.cast({"user_id": ratings.schema["user_id"]}).sort("at")
    known = users.join_asof(counts, on="at", by="user_id", check_sortedness=False)
    known = known.cast({"movie_id": titles.schema["movie_id"]}).join(genres, on="movie_id", how="left")
    history = _bucket(pl.col("history").fill_null(0)).alias("user_history")
    return known.select("prediction_id", pl.col("genre").fill_null("unknown"), history)


def _scan(path: str) -> pl.LazyFrame:
    return pl.scan_csv(path, try_parse_dates=True) if path.endswith(".csv") else pl.scan_parquet(path)


def _in_utc(kind: pl.DataType) -> pl.Expr:
    column = pl.col("rated_at")
    if isinstance(kind, pl.Datetime):
        zoned = column.dt.replace_time_zone("UTC") if kind.time_zone is None else column.dt.convert_time_zone("UTC")
        return zoned.dt.cast_time_unit("us")
    return pl.from_epoch(column, time_unit="s").dt.replace_time_zone("UTC").dt.cast_time_unit("us")


def _people(train: pl.DataFrame, test: pl.DataFrame, titles: pl.DataFrame) -> pl.DataFrame:
    """One row per held-out user: what was watched, and of the history genre and decade rated most, and its length."""
    people = test.group_by("user_id").agg(pl.col("movie_id").sort().alias("watched"), pl.col("history").first())
    about = titles.select("movie_id", "genres", decade=pl.col("year") // 10 * 10)
    rows = train.join(people, on="user_id", how="semi").join(about, on="movie_id", how="left")
    genre = _most_common(rows.select("user_id", genre="genres").explode("genre"), "genre")
    decade = _most_common(rows.select("user_id", pl.format("{}s", "decade").alias("decade")), "decade")
    people = people.join(genre, on="user_id", how="left").join(decade, on="user_id", how="left")
    return people.select(
        "user_id",
        "watched",
        pl.col("genre", "decade").fill_null("unknown"),
        _bucket(pl.col("history")).alias("user_history"),
    ).sort("user_id")


def _bucket(history: pl.Expr) -> pl.Expr:
    return (
        pl.when(history == 0).then(pl.lit("new"))
        .when(history <= 5).then(pl.lit("1-5"))
        .when(history <= 20).then(pl.lit("6-20"))
        .otherwise(pl.lit("21+"))
    )  # fmt: skip


def _most_common(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    counts = rows.drop_nulls().group_by("user_id", column).agg(pl.len().alias("count"))
    ordered = counts.sort("user_id", "count", column, descending=[False, True, False])
    return ordered.unique("user_id", keep="first", maintain_order=True).drop("count")


def _ndcg(hits: Sequence[bool], relevant: int) -> float:
    ideal = DISCOUNT[: min(relevant, TOP)].sum()
    return float(DISCOUNT[: len(hits)] @ np.asarray(hits, float) / ideal)


def _named(ranking: list[tuple[int, float]], titles: pl.DataFrame) -> list[Movie]:
    wanted = titles.filter(pl.col("movie_id").is_in([movie for movie, _ in ranking]))
    names = dict(zip(wanted["movie_id"].to_list(), wanted["title"].to_list(), strict=True))
    return [Movie(movie_id=movie, title=names.get(movie, "unknown"), score=score) for movie, score in ranking]
