"""The models of the example: counting what is watched now, and a ranker that learns whom that suits.

Both offer `rank(users, k)` for many people and `recommend(user_id, k)` for one, and are stored without pickle.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Protocol

import lightgbm as lgb
import numpy as np
import polars as pl
from features import FEATURES, Array, Log, Moment, describe, moment_of, to_day, to_log

Ranking = list[tuple[int, float]]
BATCH = 512  # people described at a time: bounds memory at about 12 MB per hundred candidates
WINDOW_DAYS = 14.0
STEPS, LARGEST_STEP = 16.0, 0.2  # fewer trees take larger steps each, up to a limit
CERTAIN = 20  # each person's first titles are all learned from, the rest by a sample
SAMPLED = 0.2
FORECAST = FEATURES.index("decayed_2d")
UNSEEN = FEATURES.index("rank_of_unseen")

LEARNING = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 30,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "lambda_l2": 5.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "max_bin": 63,
    # The same trees each time: sums in a fixed order. One thread, because steps run side by side: threads that wait for
    # each other on cores in use took twice the processor time and longer by the clock.
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


class Recommender(Protocol):
    """What `quality` and the server ask of a model."""

    def rank(self, users: Sequence[int], k: int = 10) -> list[Ranking]:
        """Return for each user the best `k` titles not rated yet, with scores, best first."""

    def recommend(self, user_id: int, k: int = 10) -> Ranking:
        """Return the same for one user."""


class Popularity:
    """Titles in the order in which they were watched in the last days; equal counts in the order of the newest rating.

    Args:
        movies: Ids, best first.
        scores: Their counts.
        users: Id of the user of each earlier rating, ascending.
        rated: Id of its title.
    """

    def __init__(self, movies: Array, scores: Array, users: Array, rated: Array) -> None:
        self.movies, self.scores, self.users, self.rated = movies, scores, users, rated

    @classmethod
    def fit(cls, train: pl.DataFrame, *, days: float) -> "Popularity":
        """Count the ratings of each title in the last `days` before the newest rating."""
        end = train["rated_at"].max()
        counts = (
            train.group_by("movie_id")
            .agg(
                ((pl.lit(end) - pl.col("rated_at")).dt.total_seconds() < days * 86_400).sum().alias("score"),
                pl.col("rated_at").max().alias("newest"),
            )
            .sort("score", "newest", "movie_id", descending=[True, True, True])
        )
        seen = train.select("user_id", "movie_id").sort("user_id", "movie_id")
        return cls(
            counts["movie_id"].to_numpy().astype(np.int64),
            counts["score"].to_numpy().astype(np.float64),
            seen["user_id"].to_numpy().astype(np.int64),
            seen["movie_id"].to_numpy().astype(np.int64),
        )

    def rank(self, users: Sequence[int], k: int = 10) -> list[Ranking]:
        """Return for each user the `k` titles watched most lately that the user has not rated."""
        return [self.recommend(user, k) for user in users]

    def recommend(self, user_id: int, k: int = 10) -> Ranking:
        """Return the same for one user."""
        low, high = np.searchsorted(self.users, [user_id, user_id + 1])
        seen = self.rated[low:high]
        top = slice(0, k + len(seen))
        unseen = ~np.isin(self.movies[top], seen)
        return _pairs(self.movies[top][unseen][:k], self.scores[top][unseen][:k])

    def save(self, path: str | Path) -> None:
        """Write the fields to the directory `path`."""
        Path(path).mkdir(parents=True, exist_ok=True)
        for name in ("movies", "scores", "users", "rated"):
            np.save(Path(path) / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, path: str | Path) -> "Popularity":
        """Read what `save` wrote."""
        return cls(*(np.load(Path(path) / f"{name}.npy") for name in ("movies", "scores", "users", "rated")))


class Ranker:
    """Trees that put the titles of the moment in order for a person; titles beyond the candidates follow by popularity.

    Args:
        trees: The LightGBM booster; it adds to the log of the decayed count.
        moment: What was known when the model was made.
    """

    def __init__(self, trees: lgb.Booster, moment: Moment) -> None:
        self.trees, self.moment = trees, moment

    @classmethod
    def fit(
        cls, train: pl.DataFrame, titles: pl.DataFrame, *, candidates: int, weeks: int, trees: int, seed: int
    ) -> "Ranker":
        """Learn from earlier weeks what people went on to watch.

        At each of `weeks` moments, a week apart, the last of them a fortnight before the newest rating, everyone
        active in the fortnight that followed is described by what was known before it; the trees learn (LambdaMART,
        Burges 2010) to put what they then rated in front.

        Args:
            train: Ratings up to now.
            titles: `movie_id`, `year` and `genres` of each title.
            candidates: How many titles to choose from.
            weeks: How many moments to learn from; fewer when the ratings do not reach back so far.
            trees: How many trees.
            seed: Of the samples drawn.
        """
        log = to_log(train)
        now = to_day(_newest(train))
        rng = np.random.default_rng(seed)
        moments = [now - WINDOW_DAYS - 7 * week for week in range(weeks)]
        lessons = [
            _lesson(log, moment_of(log, titles, day=day, candidates=candidates), rng)
            for day in moments
            if day > log.day[0] + WINDOW_DAYS
        ]
        if not lessons:
            raise ValueError(f"ratings span {log.day[-1] - log.day[0]:.0f} days; a ranker needs at least 28")
        rows, targets, sizes = (np.concatenate(part) for part in zip(*lessons, strict=True))
        learning = {**LEARNING, "learning_rate": min(LARGEST_STEP, STEPS / trees), "seed": seed}
        data = lgb.Dataset(rows, targets, group=sizes, init_score=_start(rows), params=learning)
        learned = lgb.train(learning, data, num_boost_round=trees)
        return cls(learned, moment_of(log, titles, day=now, candidates=candidates))

    def knowing(self, ratings: pl.DataFrame, titles: pl.DataFrame) -> "Ranker":
        """Return the same trees with what these ratings say, the newest and their titles included."""
        day = to_day(_newest(ratings))
        return Ranker(self.trees, moment_of(to_log(ratings), titles, day=day, candidates=len(self.moment.candidates)))

    def rank(self, users: Sequence[int], k: int = 10) -> list[Ranking]:
        """Return for each user the best `k` titles not rated yet, with scores, best first."""
        ranked: list[Ranking] = []
        for start in range(0, len(users), BATCH):
            ids = np.asarray(users[start : start + BATCH], np.int64)
            scores = self._score(ids)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            for best, row in zip(order, scores, strict=True):
                kept = best[np.isfinite(row[best])]
                ranked.append(_pairs(self.moment.candidates[kept], row[kept]))
        return ranked

    def recommend(self, user_id: int, k: int = 10) -> Ranking:
        """Return the same for one user."""
        return self.rank([user_id], k)[0]

    def _score(self, users: Array) -> Array:
        rows, seen = describe(self.moment, users)
        flat = rows.reshape(-1, rows.shape[2])
        scores = (self.trees.predict(flat, num_threads=1) + _start(flat)).reshape(seen.shape)
        return np.where(seen, -np.inf, scores)

    def save(self, path: str | Path) -> None:
        """Write the trees as text and what was known as arrays to the directory `path`."""
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / "trees.txt").write_text(self.trees.model_to_string(), encoding="utf-8")
        for field in fields(Moment):
            np.save(Path(path) / f"{field.name}.npy", np.asarray(getattr(self.moment, field.name)))

    @classmethod
    def load(cls, path: str | Path) -> "Ranker":
        """Read what `save` wrote."""
        known = {field.name: np.load(Path(path) / f"{field.name}.npy") for field in fields(Moment)}
        trees = lgb.Booster(model_str=(Path(path) / "trees.txt").read_text(encoding="utf-8"))
        return cls(trees, Moment(**{**known, "day": float(known["day"])}))


def _lesson(log: Log, moment: Moment, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return the rows of everyone active in the fortnight after `moment`: features, rated or not, rows per person."""
    after = log.between(moment.day, moment.day + WINDOW_DAYS)
    users, user = np.unique(after.user, return_inverse=True)
    known = np.argsort(moment.candidates)
    place = np.minimum(np.searchsorted(moment.candidates[known], after.movie), len(known) - 1)
    hit = moment.candidates[known][place] == after.movie
    rated = np.zeros((len(users), len(known)), bool)
    rated[user[hit], known[place[hit]]] = True
    rows, seen = describe(moment, users)
    # Far down the list a sample is enough, drawn without a look at what was rated: keeping every hit there would teach
    # that the bottom of the list is where the hits are.
    kept = ~seen & ((rows[:, :, UNSEEN] < CERTAIN) | (rng.random(rated.shape) < SAMPLED))
    kept &= (kept & rated).any(axis=1, keepdims=True)
    sizes = kept.sum(axis=1)
    return rows[kept], rated[kept].astype(np.float32), sizes[sizes > 0]


def _start(rows: Array) -> Array:
    return rows[:, FORECAST].astype(np.float64)


def _newest(train: pl.DataFrame) -> datetime:
    newest = train["rated_at"].max()
    if not isinstance(newest, datetime):
        raise TypeError(f"rated_at must hold times, not {train['rated_at'].dtype}")
    return newest


def _pairs(movies: Array, scores: Array) -> Ranking:
    return list(zip(movies.tolist(), scores.tolist(), strict=True))
