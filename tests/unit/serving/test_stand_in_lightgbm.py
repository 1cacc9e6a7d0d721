"""LightGBM through its C interface: equal to the last bit, from many threads, with gaps and categories."""

import gc
import sys
import threading
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from penstock.store import codecs
from penstock.store.blobs import Blobs
from stand_in_models import Made, assert_same, counted, made, normal_rows

ROWS = normal_rows(600)
TWO = (ROWS[:, 0] + ROWS[:, 1] ** 2 > 12).astype(int)
THREE = TWO + (ROWS[:, 2] > 3)
WORDS = np.array(["low", "middle", "high"])[THREE]
QUIET = {"verbose": -1, "num_threads": 1, "deterministic": True}

WRAPPED: dict[str, tuple[Any, Any]] = {
    "two classes": (lightgbm.LGBMClassifier, TWO),
    "several classes": (lightgbm.LGBMClassifier, THREE),
    "words": (lightgbm.LGBMClassifier, WORDS),
    "numbers": (lightgbm.LGBMRegressor, ROWS[:, 0] * ROWS[:, 1]),
}


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def _trained(target: Any, rounds: int = 30, rows: Any = ROWS, **settings: Any) -> lightgbm.Booster:
    data = lightgbm.Dataset(rows, target, **{k: settings.pop(k) for k in ("categorical_feature",) if k in settings})
    return lightgbm.train({"objective": "binary", **QUIET, **settings}, data, rounds)


def _assert_identical(found: Made, method: str, given: Any) -> None:
    expected, answered = getattr(found.model, method)(given), getattr(found.stand_in, method)(given)
    assert (answered.dtype, answered.shape) == (expected.dtype, expected.shape)
    assert answered.tolist() == expected.tolist() or np.array_equal(answered, expected, equal_nan=True)


@pytest.mark.parametrize("count", [1, 2, 5, 1000])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_booster_answers_to_the_last_bit(count: int, classes: int, blobs: Blobs) -> None:
    """One row by the call for single rows, several by the call for tables."""
    several: dict[str, Any] = {"objective": "multiclass", "num_class": 3} if classes == 3 else {}
    found = made(_trained(THREE if classes == 3 else TWO, **several), ROWS, blobs)
    assert (found.proven.kind, found.proven.methods) == ("lightgbm-rows", ("predict",))
    _assert_identical(found, "predict", np.tile(ROWS, (2, 1))[:count])


@pytest.mark.parametrize("name", WRAPPED)
def test_the_scikit_learn_flavour_answers_to_the_last_bit(name: str, blobs: Blobs) -> None:
    """Probabilities, labels of any type, numbers."""
    kind, target = WRAPPED[name]
    model = kind(n_estimators=20, verbose=-1, n_jobs=1).fit(ROWS, target)
    found = made(model, ROWS, blobs)
    for method in found.proven.methods:
        for rows in (ROWS[:1], ROWS[:50]):
            _assert_identical(found, method, rows)
    assert ("predict_proba" in found.proven.methods) is hasattr(model, "predict_proba")


def test_a_booster_that_was_kept_answers_as_the_one_that_was_trained(blobs: Blobs) -> None:
    """Read back from its text, with its best iteration."""
    booster = _trained(TWO)
    booster.best_iteration = 7
    kept: Any = codecs.load(codecs.save(booster, blobs), blobs)
    found = made(kept, ROWS, blobs)
    for rows in (ROWS[:1], ROWS[:9]):
        assert found.stand_in.predict(rows).tolist() == np.asarray(booster.predict(rows)).tolist()


def test_gaps_go_down_the_branch_that_was_learned(blobs: Blobs) -> None:
    """NaN is a value here, alone and in a table."""
    rows = ROWS.copy()
    rows[::3, 0] = np.nan
    found = made(_trained(TWO, rows=rows), rows, blobs)
    stand_in, original = counted(found, blobs)
    assert stand_in.predict(rows[:1]).tolist() == found.model.predict(rows[:1]).tolist()
    assert original.asked == 0
    for given in (rows[:1], rows[:30], np.full((1, 5), np.nan), np.full((2, 5), np.inf)):
        _assert_identical(found, "predict", given)


def test_categories_are_compared_as_categories(blobs: Blobs) -> None:
    """A column of codes, known and unknown, beside numbers."""
    rows = ROWS.copy()
    rows[:, 4] = np.arange(600) % 11
    found = made(_trained(TWO, rows=rows, categorical_feature=[4]), rows, blobs)
    for code in (0.0, 10.0, 99.0, -1.0, 3.7, np.nan):
        row = rows[:1].copy()
        row[0, 4] = code
        _assert_identical(found, "predict", row)


def test_frames_with_categories_go_to_the_library(blobs: Blobs) -> None:
    """It knows the categories of training; arrays of codes are still answered."""
    frame = pd.DataFrame(ROWS, columns=list("abcde"))
    frame["e"] = pd.Categorical(["x", "y", "z"] * 200)
    found = made(_trained(TWO, rows=frame), np.column_stack([ROWS[:, :4], np.arange(600) % 3]), blobs)
    assert not {"pandas", "polars"} & set(found.proven.forms)
    _assert_identical(found, "predict", frame[:9])


FORMS: dict[str, Any] = {
    "columns after each other": np.asfortranarray(ROWS[:6]),
    "every second row": ROWS[:12:2],
    "some columns of a wider table": np.tile(ROWS[:6], 2)[:, 3:8],
    "32 bits": ROWS[:6].astype(np.float32),
    "whole numbers": (ROWS[:6] * 1e9).astype(np.int64),
    "lists": ROWS[:6].tolist(),
    "lists of whole numbers": (ROWS[:6] * 1e9).astype(int).tolist(),
    "pandas": pd.DataFrame(ROWS[:6]),
    "pandas of 32 bits": pd.DataFrame(ROWS[:6].astype(np.float32)),
    "pandas of whole numbers": pd.DataFrame((ROWS[:6] * 1e9).astype(np.int64)),
    "polars": pl.DataFrame(ROWS[:6]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("is_single", [True, False])
def test_rows_may_come_in_any_form(form: str, is_single: bool, blobs: Blobs) -> None:
    """Numbers are rounded as the library rounds them: whole ones of an array pass through 32 bits."""
    found = made(_trained(TWO), ROWS, blobs)
    try:
        found.model.predict(FORMS[form])
    except (TypeError, ValueError):
        pytest.skip("the library itself does not take it")
    _assert_identical(found, "predict", FORMS[form][:1] if is_single else FORMS[form])


@pytest.mark.parametrize("rows", [ROWS[:0], ROWS[:, :4], ROWS[0]])
def test_what_the_library_refuses_is_refused_in_its_words(rows: Any, blobs: Blobs) -> None:
    """No rows, another width, one dimension."""
    found = made(_trained(TWO), ROWS, blobs)
    try:
        found.model.predict(rows)
    except Exception as error:  # noqa: BLE001 -- whatever it raises is what must be raised
        with pytest.raises(type(error), match=str(error)[:20]):
            found.stand_in.predict(rows)
    else:
        assert_same(found, "predict", rows)


def test_further_arguments_go_to_the_library(blobs: Blobs) -> None:
    """Raw scores, leaves, a number of trees: asked for by name, answered by the model."""
    found = made(_trained(TWO), ROWS, blobs)
    for named in ({"raw_score": True}, {"pred_leaf": True}, {"num_iteration": 3}):
        assert found.stand_in.predict(ROWS[:4], **named).tolist() == found.model.predict(ROWS[:4], **named).tolist()


def test_many_threads_get_their_own_answers(blobs: Blobs) -> None:
    """Single rows and tables at once, from eight threads: no answer of another's row."""
    found = made(_trained(TWO, rounds=100), ROWS, blobs)
    expected, wrong = found.model.predict(ROWS), []

    def ask(first: int) -> None:
        for number in range(first, len(ROWS), 4):
            if found.stand_in.predict(ROWS[number : number + 1])[0] != expected[number]:
                wrong.append(number)
            if number % 100 == 0 and not np.array_equal(found.stand_in.predict(ROWS), expected):
                wrong.append(-number)

    threads = [threading.Thread(target=ask, args=(number % 4,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()  # what each thread prepared is freed with it
    assert wrong == []
    assert found.stand_in.predict(ROWS[:1])[0] == expected[0]


def test_an_objective_of_ones_own_is_left_to_the_library(blobs: Blobs) -> None:
    """What it makes of raw scores is not known here."""

    def squares(target: Any, guess: Any) -> Any:
        return guess - target, np.ones_like(target)

    model = lightgbm.LGBMRegressor(n_estimators=3, verbose=-1, objective=squares).fit(ROWS, ROWS[:, 0])
    with pytest.raises(AssertionError, match="an objective of its own"):
        made(model, ROWS, blobs)
