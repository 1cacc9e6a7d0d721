"""What is known at a moment: tables of titles, of people, and of how the two go together, as plain arrays.

A `Moment` is made of ratings up to its time only, so a moment in the past is as honest as the present one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[Any]

WINDOWS_DAYS = (0.5, 1, 2, 3, 5, 7, 14, 30, 90)
HALF_LIVES_DAYS = (0.5, 1, 2, 4, 8, 16, 32)
HISTORY_BUCKETS = ((0, 1), (1, 6), (6, 21), (21, 1_000_000))  # how many titles a person had rated before
RECENT = 10  # the last titles of a person that count as recent taste
POPULAR = 2  # place of the two-day half-life in HALF_LIVES_DAYS: the strongest single forecast
PRIOR_RATINGS = 5.0

TITLE_NAMES = (
    *(f"count_{days}d" for days in WINDOWS_DAYS),
    *(f"decayed_{days}d" for days in HALF_LIVES_DAYS),
    *("speeding_up_1d", "speeding_up_2d", "speeding_up_4d"),
    *("days_since_first", "days_since_last", "age_years", "mean_rating", "mean_rating_lately"),
    *("liked_by_new", "liked_by_1_5", "liked_by_6_20", "liked_by_21"),
    *("rank", "count", "growth_this_week", "growth_last_week", "unsteadiness"),
)
PERSON_NAMES = (
    *("history", "days_since_rating", "days_since_joining", "share_of_new_titles", "popularity_of_titles"),
    *("popularity_of_recent", "rated_30d", "rated_7d", "mean_rating_given", "seen_of_top", "spread_of_ratings"),
    "usual_year",
)
PAIR_NAMES = (
    *("like_history", "like_this_month", "like_recent", "like_last_three", "like_well_rated"),
    *("watched_with_recent", "watched_with_history", "genre_lift", "genre_share", "year_gap", "rank_of_unseen"),
)
FEATURES = (*TITLE_NAMES, *PERSON_NAMES, *PAIR_NAMES)


@dataclass(frozen=True, slots=True)
class Log:
    """Ratings as arrays, in the order of time; times in days since 1970."""

    user: Array
    movie: Array
    rating: Array
    day: Array

    def between(self, after: float, until: float) -> "Log":
        """Return the ratings in (after, until]."""
        kept = (self.day > after) & (self.day <= until)
        return Log(self.user[kept], self.movie[kept], self.rating[kept], self.day[kept])


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known at `day`, ready to describe any person against the candidate titles.

    Attributes:
        day: The moment, in days since 1970.
        users: Ids of the U known people, ascending.
        candidates: Ids of the C titles worth recommending now, most watched first.
        titles: float32 (C, len(TITLE_NAMES)).
        years: float32 (C), NaN where unknown.
        genres: float32 (C, G), adding up to 1 for each title.
        people: float32 (U, len(PERSON_NAMES)).
        lift: float32 (U, G), log of the share of a genre in a person's history over everyone's.
        starts: int64 (U + 1), where each person's history begins in the next three.
        history: int64 (N), which of the M titles were rated.
        weights: float32 (N, 6), how much each counts: once, this month, recent, last three, well rated, recent share.
        place: int64 (M), where a title stands among the candidates, -1 when it does not.
        likeness: float32 (M, C), cosine over who watched both.
        pull: float32 (M, C), log of watched together over what chance would give.
        kinds: float32 (M, C), how much of a candidate's genres a title shares.
    """

    day: float
    users: Array
    candidates: Array
    titles: Array
    years: Array
    genres: Array
    people: Array
    lift: Array
    starts: Array
    history: Array
    weights: Array
    place: Array
    likeness: Array
    pull: Array
    kinds: Array


def to_log(ratings: pl.DataFrame) -> Log:
    """Return ratings as arrays; the order of the rows given does not matter."""
    rows = ratings.select("user_id", "movie_id", "rating", "rated_at").sort("rated_at", "user_id", "movie_id")
    return Log(
        user=rows["user_id"].to_numpy().astype(np.int64),
        movie=rows["movie_id"].to_numpy().astype(np.int64),
        rating=rows["rating"].to_numpy().astype(np.float64),
        day=rows["rated_at"].dt.epoch("us").to_numpy() / 86_400e6,
    )


def to_day(moment: datetime) -> float:
    """Return a time as days since 1970."""
    return moment.timestamp() / 86_400


def moment_of(log: Log, titles: pl.DataFrame, *, day: float, candidates: int) -> Moment:
    """Return what is known at `day` from ratings up to then.

    Args:
        log: Ratings; later ones are left out.
        titles: `movie_id`, `year` and `genres` (a list) of each title.
        day: The moment, in days since 1970.
        candidates: How many titles to consider, chosen by decayed counts.
    """
    index = _Index(log.between(-np.inf, day), day)
    genres, years = _genres_and_years(titles, index.movies)
    forecast = index.decayed / index.decayed.sum(0)
    mix = forecast[:, 2] + 0.5 * forecast[:, 4] + 0.1 * forecast[:, 6]
    chosen = np.argsort(-mix, kind="stable")[:candidates]
    chosen = chosen[np.argsort(-index.decayed[chosen, POPULAR], kind="stable")]
    place = np.full(len(index.movies), -1)
    place[chosen] = np.arange(len(chosen))
    share = genres / np.maximum(1, genres.sum(1, keepdims=True))
    likeness, pull = _likeness(index, chosen)
    by_user = np.argsort(index.user, kind="stable")
    return Moment(
        day=day,
        users=index.users,
        candidates=index.movies[chosen],
        titles=_title_table(index, years)[chosen].astype(np.float32),
        years=years[chosen].astype(np.float32),
        genres=share[chosen].astype(np.float32),
        people=_person_table(index, years, place).astype(np.float32),
        lift=_genre_lift(index, share).astype(np.float32),
        starts=np.concatenate([[0], np.cumsum(index.history)]),
        history=index.movie[by_user],
        weights=_history_weights(index)[by_user].astype(np.float32),
        place=place,
        likeness=likeness,
        pull=pull,
        kinds=_product(genres, share[chosen].T).astype(np.float32),
    )


def describe(moment: Moment, users: Array) -> tuple[Array, Array]:
    """Return the features of each user against each candidate, and what each has seen.

    The rows of one user do not depend on who else is asked for.

    Args:
        moment: What is known.
        users: Ids (n); people never seen before get NaN, and a history of 0.

    Returns:
        float32 (n, C, len(FEATURES)) and bool (n, C).
    """
    person = np.minimum(np.searchsorted(moment.users, users), len(moment.users) - 1)
    stranger = moment.users[person] != users
    people = moment.people[person]
    people[stranger] = np.nan
    people[stranger, 0] = 0
    pairs, seen = _pairs(moment, person)
    pairs[:, stranger] = np.nan
    seen[stranger] = False
    titles, persons = len(TITLE_NAMES), len(PERSON_NAMES)
    table = np.empty((len(users), len(moment.candidates), len(FEATURES)), np.float32)
    table[:, :, :titles] = moment.titles
    table[:, :, titles : titles + persons] = people[:, None]
    table[:, :, titles + persons : -2] = pairs.transpose(1, 2, 0)
    table[:, :, -2] = moment.years - people[:, -1:]
    table[:, :, -1] = np.cumsum(~seen, axis=1) - 1
    return table, seen


def _pairs(moment: Moment, person: Array) -> tuple[Array, Array]:
    """Return float32 (columns, n, C), likeness to a person's history and the pull of genres; and bool (n, C), seen."""
    counts = moment.starts[person + 1] - moment.starts[person]
    bounds = np.concatenate([[0], np.cumsum(counts)])
    entries = np.repeat(moment.starts[person] - bounds[:-1], counts) + np.arange(bounds[-1])
    movie, weights = moment.history[entries], moment.weights[entries]
    shape = (len(person), len(moment.place))

    def total(column: int, of: Array) -> Array:
        return np.asarray(sparse.csr_matrix((weights[:, column], movie, bounds), shape=shape) @ of)

    size = np.maximum(1, counts).astype(np.float32)[:, None]
    pairs = np.stack(
        [
            *(total(column, moment.likeness) for column in range(5)),
            total(5, moment.pull),
            total(0, moment.pull) / size,
            _product(moment.lift[person], moment.genres.T),
            total(0, moment.kinds) / size,
        ]
    )
    seen = np.zeros(pairs.shape[1:], bool)
    place = moment.place[movie]
    seen[np.repeat(np.arange(len(person)), counts)[place >= 0], place[place >= 0]] = True
    return pairs, seen


class _Index:
    """The ratings of a moment, numbered, with the counts that several tables share."""

    def __init__(self, log: Log, day: float) -> None:
        self.day = day
        self.log = log
        self.age = day - log.day
        self.users, self.user = np.unique(log.user, return_inverse=True)
        self.movies, self.movie = np.unique(log.movie, return_inverse=True)
        self.history = np.bincount(self.user, minlength=len(self.users))
        self.nth = _nth(self.user, self.history)
        self.watched = self.matrix(np.ones(len(self.user)))
        self.count = self.per_movie(np.ones(len(self.movie)))
        self.decayed = np.stack([self.per_movie(np.exp2(-self.age / days)) for days in HALF_LIVES_DAYS], 1)
        self.from_last = self.history[self.user] - 1 - self.nth

    def per_movie(self, weights: Array) -> Array:
        return np.bincount(self.movie, weights=weights, minlength=len(self.movies))

    def per_user(self, weights: Array) -> Array:
        return np.bincount(self.user, weights=weights, minlength=len(self.users))

    def matrix(self, weights: Array) -> sparse.csr_matrix:
        shape = (len(self.users), len(self.movies))
        return sparse.csr_matrix((weights.astype(np.float32), (self.user, self.movie)), shape=shape)


def _nth(user: Array, history: Array) -> Array:
    """Return for each rating how many its user had given before."""
    order = np.argsort(user, kind="stable")
    start = np.cumsum(history) - history
    nth = np.empty(len(user), np.int64)
    nth[order] = np.arange(len(user)) - np.repeat(start, history)
    return nth


def _genres_and_years(titles: pl.DataFrame, movies: Array) -> tuple[Array, Array]:
    """Return 0/1 per title and genre, and the year of each title (NaN where unknown)."""
    known = pl.DataFrame({"movie_id": movies}).with_row_index("place")
    titles = titles.with_columns(pl.col("movie_id").cast(pl.Int64)).unique("movie_id", keep="last", maintain_order=True)
    rows = known.join(titles.select("movie_id", "year", "genres"), on="movie_id", how="left").sort("place")
    years = rows["year"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    words = titles["genres"].explode().drop_nulls().unique().sort()
    genres = np.zeros((len(movies), max(1, len(words))))
    long = rows.select("place", "genres").explode("genres").drop_nulls()
    genres[long["place"].to_numpy(), words.search_sorted(long["genres"])] = 1
    return genres, years


def _title_table(index: _Index, years: Array) -> Array:
    age, count = index.age, index.count
    windows = np.stack([index.per_movie((age < days) * 1.0) for days in WINDOWS_DAYS], 1)
    weeks = np.stack([index.per_movie(((age >= 7 * k) & (age < 7 * k + 7)) * 1.0) for k in range(3)], 1)
    days = np.stack([index.per_movie(((age >= k) & (age < k + 1)) * 1.0) for k in range(7)], 1)
    decayed = np.log(index.decayed / index.decayed.sum(0) + 1e-5)
    first = np.full(len(index.movies), np.inf)
    np.minimum.at(first, index.movie, index.log.day)
    last = np.full(len(index.movies), -np.inf)
    np.maximum.at(last, index.movie, index.log.day)
    rank = np.empty(len(index.movies))
    rank[np.argsort(-index.decayed[:, POPULAR], kind="stable")] = np.arange(len(rank))
    return np.column_stack(
        [
            np.log1p(windows) - np.log1p(windows.sum(0)),
            decayed,
            decayed[:, 1:4] - decayed[:, 3:6],
            index.day - first,
            index.day - last,
            1970 + index.day / 365.25 - years,
            _mean_rating(index, np.ones(len(age))),
            _mean_rating(index, np.exp2(-age / 14)),
            _liked_by(index),
            rank,
            np.log1p(count),
            np.log((weeks[:, 0] + 1) / (weeks[:, 1] + 1)),
            np.log((weeks[:, 1] + 1) / (weeks[:, 2] + 1)),
            days.std(1) / (days.mean(1) + 0.1),
        ]
    )


def _mean_rating(index: _Index, weights: Array) -> Array:
    """Return the mean rating of each title, drawn to the mean of all by a few ratings' worth."""
    everyone = index.log.rating.mean()
    total = index.per_movie(weights * index.log.rating) + PRIOR_RATINGS * everyone
    return total / (index.per_movie(weights) + PRIOR_RATINGS)


def _liked_by(index: _Index) -> Array:
    """Return by how much each title is watched more by newcomers, by regulars... than titles are in general."""
    lately = np.exp2(-index.age / 4)
    groups = [(index.nth >= low) & (index.nth < high) for low, high in HISTORY_BUCKETS]
    share = np.array([(lately * group).sum() for group in groups]) + 1e-9
    share /= share.sum()
    counts = np.stack([index.per_movie(lately * group) for group in groups], 1)
    return np.log((counts + share) / ((counts.sum(1, keepdims=True) + 1) * share))


def _person_table(index: _Index, years: Array, place: Array) -> Array:
    history, rating = index.history, index.log.rating
    recent = index.from_last < RECENT
    recent_count = np.minimum(history, RECENT)
    mean = index.per_user(rating) / history
    spread = np.sqrt(np.maximum(0, index.per_user(rating**2) / history - mean**2))
    last = np.full(len(history), -np.inf)
    np.maximum.at(last, index.user, index.log.day)
    first = np.full(len(history), np.inf)
    np.minimum.at(first, index.user, index.log.day)
    year = np.nan_to_num(years, nan=2000.0)[index.movie]
    fame = np.log(index.count)[index.movie]
    this_year = 1970 + index.day / 365.25
    return np.column_stack(
        [
            np.log1p(history),
            index.day - last,
            index.day - first,
            index.per_user((this_year - year < 1.9) * 1.0) / history,
            index.per_user(fame) / history,
            index.per_user(fame * recent) / recent_count,
            np.log1p(index.per_user((index.age < 30) * 1.0)),
            np.log1p(index.per_user((index.age < 7) * 1.0)),
            mean,
            index.per_user(np.isin(place[index.movie], np.arange(20)) * 1.0),
            spread,
            index.per_user(year * recent) / recent_count,
        ]
    )


def _history_weights(index: _Index) -> Array:
    recent = index.from_last < RECENT
    return np.column_stack(
        [
            np.ones(len(index.age)),
            np.exp2(-index.age / 20),
            recent,
            index.from_last < 3,
            index.log.rating - index.log.rating.mean(),
            recent / np.minimum(index.history, RECENT)[index.user],
        ]
    )


def _genre_lift(index: _Index, share: Array) -> Array:
    usual = index.count @ share + 1e-6
    usual /= usual.sum()
    taste = (index.watched @ share + 3 * usual) / (index.history[:, None] + 3)
    return np.log(taste / usual)


def _likeness(index: _Index, chosen: Array) -> tuple[Array, Array]:
    """Return (I, C) cosine, shrunk, and (I, C) log of watched-together over what chance would give.

    In the second, people count by one over the root of their history, so that those who rate everything do not decide.
    """
    watched = index.watched
    own = (chosen, np.arange(len(chosen)))
    together = (watched.T @ watched[:, chosen]).toarray().astype(np.float64)
    together[own] = 0
    expected = index.count[:, None] * index.count[chosen]
    careful = sparse.diags(1 / np.sqrt(index.history)).astype(np.float32) @ watched
    weighted = (careful.T @ careful[:, chosen]).toarray().astype(np.float64)
    weighted[own] = 0
    cosine = together / (np.sqrt(expected) + 10)
    pull = np.log((weighted + 2) / (expected / len(index.users) + 2))
    return cosine.astype(np.float32), pull.astype(np.float32)


def _product(left: Array, right: Array) -> Array:
    # Added up in a fixed order: a threaded matrix product may round differently from one machine to the next.
    return np.asarray(sparse.csr_matrix(left) @ right)
