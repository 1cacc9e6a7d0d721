"""Recommenders that must come back as they were."""

from typing import Any

import numpy as np
import scipy.sparse as sp
from implicit.als import AlternatingLeastSquares
from implicit.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender


def interactions() -> sp.csr_matrix:
    return sp.csr_matrix(sp.random(30, 20, 0.3, format="csr", dtype=np.float32, random_state=0))


def als() -> Any:
    model = AlternatingLeastSquares(4, iterations=2, random_state=0, num_threads=1)
    model.fit(interactions(), show_progress=False)
    return model


def bpr() -> Any:
    model = BayesianPersonalizedRanking(4, iterations=2, random_state=0, num_threads=1)
    model.fit(interactions(), show_progress=False)
    return model


def cosine() -> Any:
    model = CosineRecommender(5, num_threads=1)
    model.fit(interactions(), show_progress=False)
    return model


def bm25() -> Any:
    model = BM25Recommender(5, num_threads=1)
    model.fit(interactions(), show_progress=False)
    return model
