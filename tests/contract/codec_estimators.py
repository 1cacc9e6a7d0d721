"""Estimators and boosters that must come back as they were."""

from typing import Any

import lightgbm
import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def _xy() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    x = np.random.default_rng(0).random((80, 4))
    return x, (x[:, 0] + x[:, 1] > 1).astype(int)


def logistic() -> Any:
    return LogisticRegression().fit(*_xy())


def forest() -> Any:
    return RandomForestClassifier(5, random_state=0).fit(*_xy())


def boosted() -> Any:
    return GradientBoostingClassifier(n_estimators=3, random_state=0).fit(*_xy())


def hist_boosted() -> Any:
    return HistGradientBoostingClassifier(max_iter=3, random_state=0).fit(*_xy())


def neighbours() -> Any:
    columns = ColumnTransformer(
        [("scaled", StandardScaler(), [0, 1, 2]), ("hot", OneHotEncoder(handle_unknown="ignore"), [3])]
    )
    return make_pipeline(columns, KNeighborsClassifier()).fit(*_xy())


def stochastic() -> Any:
    return SGDClassifier(random_state=0).fit(*_xy())


def words() -> Any:
    return TfidfVectorizer().fit(["a bb ccc", "bb dd"])


def lightgbm_classifier() -> Any:
    model = lightgbm.LGBMClassifier(n_estimators=3, min_child_samples=5, verbose=-1, n_jobs=1, random_state=0)
    return model.fit(*_xy())


def booster() -> Any:
    x, y = _xy()
    settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5, "seed": 0}
    return lightgbm.train(settings, lightgbm.Dataset(x, y), 5)


def model_in_a_dict() -> dict[str, object]:
    return {"model": logistic(), "weights": np.ones(3), "nested": [{"name": "a"}, (booster(),)]}
