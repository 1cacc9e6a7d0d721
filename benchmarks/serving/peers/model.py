"""The model of the comparison, as every peer loads it: rows of 30 numbers in, probabilities out.

Run by itself it prints the resident bytes of a Python that holds the model and nothing else.
"""

import os
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]


def load() -> Predict:
    """Return the model that `SERVING_MODEL` names: a file of joblib, or LightGBM's own text."""
    path = os.environ["SERVING_MODEL"]
    if path.endswith(".txt"):
        import lightgbm  # noqa: PLC0415  # a server of the other model does not hold this library

        predict: Predict = lightgbm.Booster(model_file=path).predict
        return predict
    pipeline = joblib.load(path)
    return lambda rows: pipeline.predict_proba(rows)[:, 1]


if __name__ == "__main__":
    load()(np.zeros((1, 30)))
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    print(int(pages) * os.sysconf("SC_PAGE_SIZE"))
