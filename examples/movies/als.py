"""A personalised model that loses to counting: implicit ALS on the data of the movies pipeline.

It is here to be refused: its own check says that it must beat the titles most watched lately, and it does not.
Needs the extra `implicit`. It stands beside `movies.py` because a release keeps the files of one project folder.
"""

from collections.abc import Sequence
from pathlib import Path

import implicit.cpu.als
import numpy as np
import polars as pl
from scipy import sparse

import movies
from penstock import Pipeline

als = Pipeline("als", goal="Show that a model which loses to counting is not released.")
als.dataset(key=("user_id", "movie_id"), time="rated_at")(movies.ratings)
als.dataset(key="movie_id")(movies.titles)
als.step(outputs=("train", "test"))(movies.split)
als.baseline(movies.most_watched_lately)
als.evaluate(metric="ndcg_at_10", slices=("user_history",), key="user_id")(movies.quality)


class Factors:
    """Factors of people and titles, and what each person has rated."""

    NAMES = ("users", "movies", "people", "titles", "starts", "rated")

    def __init__(self, **arrays: np.ndarray) -> None:
        self.arrays = arrays

    def rank(self, users: Sequence[int], k: int = 10) -> list[list[tuple[int, float]]]:
        """Return for each user the best `k` titles not rated yet; nothing for people never seen."""
        return [self.recommend(user, k) for user in users]

    def recommend(self, user_id: int, k: int = 10) -> list[tuple[int, float]]:
        """Return the same for one user."""
        known = self.arrays
        person = int(np.searchsorted(known["users"], user_id))
        if person == len(known["users"]) or known["users"][person] != user_id:
            return []
        scores = known["titles"] @ known["people"][person]
        scores[known["rated"][known["starts"][person] : known["starts"][person + 1]]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:k]
        return list(zip(known["movies"][best].tolist(), scores[best].tolist(), strict=True))

    def save(self, path: str | Path) -> None:
        """Write the arrays to the directory `path`."""
        Path(path).mkdir(parents=True, exist_ok=True)
        for name in self.NAMES:
            np.save(Path(path) / f"{name}.npy", self.arrays[name])

    @classmethod
    def load(cls, path: str | Path) -> "Factors":
        """Read what `save` wrote."""
        return cls(**{name: np.load(Path(path) / f"{name}.npy") for name in cls.NAMES})


@als.model
def recommender(train: pl.DataFrame, *, factors: int = 64, seed: int = 0) -> Factors:
    rows = train.sort("user_id", "movie_id")
    users, user = np.unique(rows["user_id"].to_numpy(), return_inverse=True)
    titles, title = np.unique(rows["movie_id"].to_numpy(), return_inverse=True)
    rated = sparse.csr_matrix((np.ones(len(rows), np.float32), (user, title)), shape=(len(users), len(titles)))
    model = implicit.cpu.als.AlternatingLeastSquares(factors=factors, random_state=seed, num_threads=2)
    model.fit(rated, show_progress=False)
    return Factors(
        users=users,
        movies=titles,
        people=model.user_factors,
        titles=model.item_factors,
        starts=rated.indptr,
        rated=rated.indices,
    )


@als.check
def better_than_lately(quality) -> None:  # noqa: ANN001 - the platform gives the evaluation, with its statistics
    assert quality.lift("recommender", over="most_watched_lately").low > 0
