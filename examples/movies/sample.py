"""Writes a sample like the real thing, from a seed: `python sample.py DIRECTORY` makes ratings and titles in parquet.

A few titles draw most of the ratings; new ones open every week, draw a crowd and fade; people have tastes, which drift.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

START = datetime(2025, 1, 1, tzinfo=UTC)
GENRES = (
    *("Action", "Adventure", "Animation", "Comedy", "Crime", "Documentary", "Drama", "Family", "Fantasy"),
    *("Horror", "Mystery", "Romance", "Sci-Fi", "Thriller"),
)
ADJECTIVES = "Silent Crimson Last Broken Golden Hidden Electric Distant Paper Midnight Burning Quiet".split()  # noqa: SIM905 - a list of words reads best as words
NOUNS = "River Garden Empire Promise Machine Harbour Winter Letter Orchard Mirror Voyage Signal".split()  # noqa: SIM905 - as above
OLD_TITLES = 1500
OPENINGS_PER_WEEK = 12
TASTE = 1.7  # how strongly people follow their genres: at 0 everyone draws from the same list
FADE_DAYS = 16.0

Floats = NDArray[np.float64]


def make(*, days: int = 200, users: int = 6000, per_day: int = 540, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return ratings and titles; about `days * per_day` ratings, the same for the same arguments.

    Args:
        days: How many days the ratings cover, from the start of 2025.
        users: How many people there are; they join over time.
        per_day: How many ratings a day are drawn before repeats are left out.
        seed: Of everything drawn.

    Returns:
        ratings: user_id, movie_id, rating (1 to 10), rated_at (UTC), in the order of time.
        titles: movie_id, title, year, genres; titles that open later are listed from the start, as in a catalogue.
    """
    rng = np.random.default_rng(seed)
    opens = np.concatenate([np.full(OLD_TITLES, -400.0), np.repeat(np.arange(0, days, 7.0), OPENINGS_PER_WEEK)])
    opens[OLD_TITLES:] += 2 + rng.integers(0, 2, len(opens) - OLD_TITLES)
    genres = _genres(rng, len(opens))
    fame = np.concatenate(
        [0.12 * rng.pareto(1.3, OLD_TITLES).clip(max=25), 10 * rng.pareto(1.6, len(opens) - OLD_TITLES).clip(max=12)]
    )
    merit = rng.normal(6.6, 0.9, len(opens))
    taste, later = (_tastes(rng, users) for _ in range(2))
    active = rng.pareto(1.3, users) + 0.15
    joins = np.where(rng.random(users) < 0.4, 0, rng.uniform(0, days, users))
    parts = []
    for day in range(days):
        drift = 0.5 * day / days
        here = active * (joins <= day)
        person = rng.choice(users, size=int(per_day * (1 + 0.3 * (day % 7 in {2, 3}))), p=here / here.sum())
        pull = np.exp(TASTE * ((1 - drift) * taste[person] + drift * later[person]) @ genres.T)
        parts.append(_one_day(rng, day, person, draw=pull * _crowd(fame, day - opens), merit=merit))
    rows = pl.concat(parts).unique(("user_id", "movie_id"), keep="first", maintain_order=True)
    return rows.sort("rated_at", "user_id", "movie_id"), _titles(rng, opens, genres)


def _genres(rng: np.random.Generator, count: int) -> Floats:
    """Return one to three genres per title, adding up to one."""
    order = rng.random((count, len(GENRES))) / np.linspace(1.0, 2.5, len(GENRES))
    ranked = np.argsort(np.argsort(order, axis=1), axis=1)
    chosen = (ranked < rng.integers(1, 4, count)[:, None]).astype(float)
    return chosen / chosen.sum(1, keepdims=True)


def _tastes(rng: np.random.Generator, users: int) -> Floats:
    return np.maximum(-1.5, rng.gamma(0.35, 3.0, (users, len(GENRES))) - 1.0).clip(max=3.0)


def _crowd(fame: Floats, since: Floats) -> Floats:
    """Return how many want to see each title: none before it opens, then a crowd that fades to a few."""
    fading = np.where(since < 0, 0.0, np.exp(-np.maximum(0, since) / FADE_DAYS) + 0.01)
    return fame * np.where(since > 300, 1.0, fading)


def _one_day(
    rng: np.random.Generator, day: int, person: NDArray[np.int64], *, draw: Floats, merit: Floats
) -> pl.DataFrame:
    chance = np.cumsum(draw, axis=1)
    movie = (chance < rng.random(len(person))[:, None] * chance[:, -1:]).sum(1)
    rating = np.clip(np.round(merit[movie] + rng.normal(0, 1.4, len(person))), 1, 10)
    second = day * 86_400 + np.sort(rng.integers(0, 86_400, len(person)))
    return pl.DataFrame(
        {
            "user_id": (person + 1).astype(np.int32),
            "movie_id": (movie + 1).astype(np.int32),
            "rating": rating.astype(np.int8),
            "rated_at": (int(START.timestamp()) + second) * 1_000_000,
        }
    ).with_columns(pl.col("rated_at").cast(pl.Datetime("us", "UTC")))


def _titles(rng: np.random.Generator, opens: Floats, genres: Floats) -> pl.DataFrame:
    old = opens < 0
    year = np.where(old, START.year - 1 - np.minimum(60, rng.exponential(12, len(opens)).astype(int)), START.year)
    names = [
        f"The {ADJECTIVES[n % 12]} {NOUNS[n // 12 % 12]}" + (f" {n // 144 + 1}" if n >= 144 else "")
        for n in rng.permutation(len(opens)).tolist()
    ]
    return pl.DataFrame(
        {
            "movie_id": np.arange(1, len(opens) + 1, dtype=np.int32),
            "title": names,
            "year": year.astype(np.int16),
            "genres": [[GENRES[g] for g in np.flatnonzero(row)] for row in genres],
        }
    )


def write(directory: Path, *, seed: int = 0) -> None:
    """Write `ratings.parquet` and `titles.parquet` to `directory`."""
    ratings, titles = make(seed=seed)
    directory.mkdir(parents=True, exist_ok=True)
    ratings.write_parquet(directory / "ratings.parquet")
    titles.write_parquet(directory / "titles.parquet")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
