"""A scaler and a logistic regression on 30 numbers, served by rows and by typed fields."""

import numpy as np
import polars as pl
from sklearn import pipeline as sk
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from penstock import Pipeline

linear = Pipeline("linear", goal="Score 30 numbers.")
FEATURES = [f"x{number}" for number in range(30)]


@linear.dataset(key="key")
def samples(*, path: str = "samples.parquet") -> pl.LazyFrame:
    return pl.scan_parquet(path)


@linear.model
def classifier(samples: pl.DataFrame) -> sk.Pipeline:
    features = samples.sort("key").select(FEATURES).to_numpy()
    return sk.make_pipeline(StandardScaler(), LogisticRegression()).fit(features, samples.sort("key")["label"])


@linear.evaluate(metric="accuracy", key="key")
def quality(model: sk.Pipeline, samples: pl.DataFrame) -> pl.DataFrame:
    found = model.predict(samples.select(FEATURES).to_numpy())
    return samples.select("key", accuracy=(pl.col("label") == pl.Series(found)).cast(pl.Float64))


@linear.serve(columns=FEATURES)
def score(classifier: sk.Pipeline, *, rows: np.ndarray) -> np.ndarray:
    return classifier.predict_proba(rows)[:, 1]


@linear.serve
def score_one(classifier: sk.Pipeline, *, values: list[float]) -> float:
    return float(classifier.predict_proba(np.array([values]))[0, 1])
