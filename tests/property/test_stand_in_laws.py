"""For any rows: an equivalent answers as the model does, alone as within a batch."""

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler, StandardScaler

sys.path.insert(0, str(Path(__file__).parents[1]))
from penstock.store.blobs import Blobs
from stand_in_models import Made, made, normal_rows

WIDTH = 4
ROWS = normal_rows(400, WIDTH)
TWO = (ROWS[:, 0] + ROWS[:, 1] > 6).astype(int)
TRAINED: dict[str, Any] = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, TWO),
    "several classes": lambda: LogisticRegression().fit(ROWS, TWO + (ROWS[:, 2] > 3)),
    "regression": lambda: make_pipeline(RobustScaler(), Ridge()).fit(ROWS, ROWS[:, 0] * 100),
    "forest": lambda: RandomForestClassifier(8, random_state=0).fit(ROWS, TWO),
    "binned": lambda: HistGradientBoostingRegressor(max_iter=10).fit(ROWS, ROWS[:, 0] * ROWS[:, 1]),
    "booster": lambda: lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(ROWS, ROWS[:, 0]), 20),
}
NUMBERS = st.one_of(
    st.floats(-1e6, 1e6), st.sampled_from([0.0, -0.0, 1e-300, 1e300, float("nan"), float("inf"), -float("inf")])
)
TABLES = arrays.arrays(np.float64, st.tuples(st.integers(0, 6), st.integers(WIDTH - 1, WIDTH)), elements=NUMBERS)


@pytest.fixture(scope="module", params=TRAINED)
def found(request: pytest.FixtureRequest) -> Made:
    """A model of each kind with its equivalent."""
    with tempfile.TemporaryDirectory() as folder:
        return made(TRAINED[request.param](), ROWS, Blobs(Path(folder) / "blobs"))


def _said(ask: Any, rows: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own, about numbers beyond its range
        try:
            return ask(rows)
        except Exception as error:  # noqa: BLE001 -- what it refuses must be refused alike
            return type(error), str(error)


@given(rows=TABLES)
@settings(max_examples=60, deadline=None)
def test_any_table_is_answered_as_the_model_answers_it(found: Made, rows: Any) -> None:
    """S1: the same numbers and labels, or the same error in the same words; gaps, infinities and all."""
    for method in found.proven.methods:
        expected, answered = (_said(getattr(one, method), rows) for one in (found.model, found.stand_in))
        if isinstance(expected, tuple):
            assert answered == expected
            continue
        assert (answered.dtype, answered.shape) == (expected.dtype, expected.shape)
        if expected.dtype.kind == "f":
            # Numbers as large as 1e300 lose their digits in any sum, whoever takes it.
            scale = max(1.0, float(np.abs(rows[np.isfinite(rows)]).max(initial=0.0)))
            np.testing.assert_allclose(answered, expected, rtol=1e-6, atol=1e-9 * scale)
        else:
            assert answered.tolist() == expected.tolist()


@given(rows=arrays.arrays(np.float64, st.tuples(st.integers(1, 6), st.just(WIDTH)), elements=st.floats(-1e6, 1e6)))
@settings(max_examples=60, deadline=None)
def test_a_row_is_answered_alone_as_within_a_batch(found: Made, rows: Any) -> None:
    """S1, Q57: to the last bit, so that joining questions changes no answer."""
    for method in found.proven.methods:
        ask = getattr(found.stand_in, method)
        together, alone = ask(rows), np.concatenate([ask(rows[i : i + 1]) for i in range(len(rows))])
        assert together.tolist() == alone.tolist()
