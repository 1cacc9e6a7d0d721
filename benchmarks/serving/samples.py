"""The two models of the comparison and the requests that all servers get.

Belongs here: training data, models as files for the peers, and a request's body in each form that a server reads.
"""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

COLUMNS = tuple(f"x{number}" for number in range(30))
BODIES = 64  # requests that are sent in turn, so that nobody answers from a cache
BATCH = 1_000
_SEED = 7
_ROWS = 4_000
_TREES = 200

Predict = Callable[[np.ndarray], np.ndarray]


def training() -> pl.DataFrame:
    """Return 4,000 rows of 30 floats and a label that depends on them, partly not linearly."""
    random = np.random.default_rng(_SEED)
    x = random.normal(size=(_ROWS, len(COLUMNS))).round(4)
    chance = 1 / (1 + np.exp(-(x @ random.normal(size=len(COLUMNS)) / 3 + x[:, 0] * x[:, 1])))
    frame = pl.DataFrame(x, schema=list(COLUMNS))
    return frame.with_columns(key=pl.int_range(pl.len()), label=pl.Series((random.random(_ROWS) < chance).astype(int)))


def requests(count: int) -> np.ndarray:
    """Return `count` rows of 30 floats with four decimals, as measurements are written down."""
    return np.random.default_rng(_SEED + 1).normal(size=(count, len(COLUMNS))).round(4)


def write_models(folder: Path) -> dict[str, Path]:
    """Train both models as the pipelines do, and write them as files that the peers read."""
    data = training()
    x, y = data.select(COLUMNS).to_numpy(), data["label"].to_numpy()
    folder.mkdir(parents=True, exist_ok=True)
    files = {"linear": folder / "linear.joblib", "trees": folder / "trees.txt"}
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y), files["linear"])
    lightgbm.train(tree_parameters(), lightgbm.Dataset(x, y), num_boost_round=_TREES).save_model(files["trees"])
    return files


def tree_parameters() -> dict[str, object]:
    """Return the parameters of the LightGBM model."""
    return {"objective": "binary", "num_threads": 1, "seed": 0, "deterministic": True, "verbosity": -1}


def read_model(path: Path) -> Predict:
    """Return the model in a file of `write_models` as a function from rows to probabilities."""
    if path.suffix == ".txt":
        booster = lightgbm.Booster(model_file=path)
        return lambda rows: np.asarray(booster.predict(rows))
    pipeline = joblib.load(path)
    return lambda rows: pipeline.predict_proba(rows)[:, 1]


def _oip(rows: np.ndarray) -> dict[str, object]:
    tensor = {"name": "rows", "shape": list(rows.shape), "datatype": "FP64", "data": rows.ravel().tolist()}
    return {"inputs": [tensor]}


def _named(rows: np.ndarray) -> dict[str, object]:
    return {"dataframe_split": {"columns": list(COLUMNS), "data": rows.tolist()}}


_FORMS: dict[str, Callable[[np.ndarray], object]] = {
    "rows": lambda rows: {"rows": rows.tolist()},
    "values": lambda rows: {"values": rows[0].tolist()},
    "instances": lambda rows: {"instances": rows.tolist()},
    "inputs": lambda rows: {"inputs": rows.tolist()},
    "frame": _named,
    "oip": _oip,
    "oip-proba": lambda rows: {**_oip(rows), "outputs": [{"name": "predict_proba"}]},
}


def _binary(rows: np.ndarray) -> tuple[bytes, bytes]:
    """Return the JSON and the raw doubles of the binary extension of the Open Inference Protocol."""
    size = {"binary_data_size": rows.nbytes}
    tensor = {"name": "rows", "shape": list(rows.shape), "datatype": "FP64", "parameters": size}
    return json.dumps({"inputs": [tensor]}).encode(), rows.astype("<f8").tobytes()


def is_binary(form: str) -> bool:
    """Whether the bodies of a form are bytes rather than JSON."""
    return form in {"oip-binary", "arrow"}


def headers(form: str, rows: np.ndarray) -> dict[str, str]:
    """Return the headers of a request for `rows` (n, 30) in a form."""
    if form == "oip-binary":
        length = str(len(_binary(rows)[0]))
        return {"content-type": "application/octet-stream", "inference-header-content-length": length}
    return {"content-type": "application/vnd.apache.arrow.stream" if form == "arrow" else "application/json"}


def body(form: str, rows: np.ndarray) -> bytes:
    """Return a request for `rows` (n, 30) in a form that `Route.form` names."""
    if form == "oip-binary":
        return b"".join(_binary(rows))
    if form == "arrow":
        stream = io.BytesIO()
        pl.DataFrame(rows, schema=list(COLUMNS)).write_ipc_stream(stream, compat_level=pl.CompatLevel.oldest())
        return stream.getvalue()
    return json.dumps(_FORMS[form](rows), separators=(",", ":")).encode()


def numbers(answer: object) -> Iterator[float]:
    """Yield every number in a JSON value, in order."""
    if isinstance(answer, float):
        yield answer
    elif isinstance(answer, dict | list):
        for part in answer.values() if isinstance(answer, dict) else answer:
            yield from numbers(part)
