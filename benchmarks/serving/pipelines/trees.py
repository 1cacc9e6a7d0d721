"""A LightGBM model of 200 trees on 30 numbers, served by rows and by typed fields."""

import lightgbm
import numpy as np
import polars as pl

from penstock import Pipeline

trees = Pipeline("trees", goal="Score 30 numbers.")
FEATURES = [f"x{number}" for number in range(30)]


@trees.dataset(key="key")
def samples(*, path: str = "samples.parquet") -> pl.LazyFrame:
    return pl.scan_parquet(path)


@trees.model
def booster(samples: pl.DataFrame) -> lightgbm.Booster:
    ordered = samples.sort("key")
    data = lightgbm.Dataset(ordered.select(FEATURES).to_numpy(), ordered["label"].to_numpy())
    parameters = {"objective": "binary", "num_threads": 1, "seed": 0, "deterministic": True, "verbosity": -1}
    return lightgbm.train(parameters, data, num_boost_round=200)


@trees.evaluate(metric="accuracy", key="key")
def quality(model: lightgbm.Booster, samples: pl.DataFrame) -> pl.DataFrame:
    chance = model.predict(samples.select(FEATURES).to_numpy())
    return samples.select("key", accuracy=(pl.col("label") == pl.Series(chance > 0.5)).cast(pl.Float64))


@trees.serve(columns=FEATURES)
def score(booster: lightgbm.Booster, *, rows: np.ndarray) -> np.ndarray:
    return booster.predict(rows)


@trees.serve
def score_one(booster: lightgbm.Booster, *, values: list[float]) -> float:
    return float(booster.predict(np.array([values]))[0])
