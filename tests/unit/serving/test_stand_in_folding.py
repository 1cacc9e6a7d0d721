"""Linear models of scikit-learn, folded: the same answers, whatever they are asked and in whatever form."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

sys.path.insert(0, str(Path(__file__).parents[2]))
from penstock.serving.program.stand_ins.folding import Fold
from penstock.serving.program.stand_ins.way import NotPossibleError
from penstock.store.blobs import Blobs
from stand_in_models import assert_same, counted, made, normal_rows

ROWS = normal_rows()
TWO = (ROWS[:, 0] + ROWS[:, 1] ** 2 > 12).astype(int)
THREE = TWO + (ROWS[:, 2] > 3)
WORDS = np.array(["low", "middle", "high"])[THREE]
NUMBER = ROWS[:, 0] * 100 + ROWS[:, 1]

MODELS: dict[str, tuple[Any, Any]] = {
    "logistic": (LogisticRegression(), TWO),
    "logistic of several classes": (LogisticRegression(), THREE),
    "logistic of words": (make_pipeline(StandardScaler(), LogisticRegression()), WORDS),
    "logistic by liblinear": (LogisticRegression(solver="liblinear"), TWO),
    "truth values": (make_pipeline(MinMaxScaler(), LogisticRegression()), TWO == 1),
    "imputed": (make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()), THREE),
    "pipeline in a pipeline": (make_pipeline(make_pipeline(RobustScaler(), MaxAbsScaler()), Ridge()), NUMBER),
    "stochastic with log loss": (SGDClassifier(loss="log_loss", random_state=0), THREE),
    "stochastic without probabilities": (SGDClassifier(random_state=0), THREE),
    "support vectors": (make_pipeline(StandardScaler(), LinearSVC()), TWO),
    "ridge labels": (RidgeClassifier(), WORDS),
    "regression": (LinearRegression(), NUMBER),
    "regression of a column": (LinearRegression(), NUMBER[:, None]),
    "regression of several": (LinearRegression(), np.stack([NUMBER, -NUMBER], axis=1)),
    "support vector regression": (make_pipeline(StandardScaler(), LinearSVR(max_iter=50_000)), NUMBER / 100),
    "without an intercept": (Ridge(fit_intercept=False), NUMBER),
}
METHODS = ("predict_proba", "predict", "decision_function")


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.mark.parametrize("name", MODELS)
def test_a_linear_model_is_folded_and_answers_the_same(name: str, blobs: Blobs) -> None:
    """One row, several, a thousand: the same numbers, labels, types and shapes."""
    model, target = MODELS[name]
    found = made(model.fit(ROWS, target), ROWS, blobs)
    assert found.proven.kind == "folded"
    for method in found.proven.methods:
        for rows in (ROWS[:1], ROWS[:7], np.tile(ROWS, (4, 1))[:1000]):
            assert_same(found, method, rows)
    assert set(found.proven.methods) == {m for m in METHODS if hasattr(model, m)}


@pytest.mark.parametrize("scaler", [StandardScaler(), RobustScaler(), MinMaxScaler(), MaxAbsScaler()])
def test_a_scaler_is_folded(scaler: Any, blobs: Blobs) -> None:
    """A scaler by itself transforms as before."""
    found = made(scaler.fit(ROWS), ROWS, blobs)
    assert (found.proven.kind, found.proven.methods) == ("folded", ("transform",))
    assert_same(found, "transform", ROWS)


@pytest.mark.parametrize("width", [1, 2, 40])
def test_any_number_of_columns_is_folded(width: int, blobs: Blobs) -> None:
    """One column is a matrix too."""
    rows = normal_rows(width=width)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, rows[:, 0] > 3)
    assert_same(made(model, rows, blobs), "predict_proba", rows[:1])


def test_a_constant_column_is_folded(blobs: Blobs) -> None:
    """A column without spread has a scale of one."""
    rows = ROWS.copy()
    rows[:, 2] = 5.0
    found = made(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, TWO), rows, blobs)
    assert_same(found, "predict_proba", ROWS)


def test_means_far_from_zero_lose_no_digits(blobs: Blobs) -> None:
    """A column of times in seconds, within an hour: the mean is taken off before anything else."""
    rows = ROWS + np.array([1.7e9, 0, 0, 0, 0])
    found = made(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, TWO), rows, blobs)
    assert (found.proven.kind, found.proven.difference) == ("folded", 1e-12)


def test_one_row_is_answered_alone_as_within_a_batch(blobs: Blobs) -> None:
    """S1: to the last bit, for one score and for several."""
    for target in (TWO, THREE):
        found = made(make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, target), ROWS, blobs)
        alone = np.concatenate([found.stand_in.predict_proba(ROWS[i : i + 1]) for i in range(len(ROWS))])
        assert alone.tobytes() == found.stand_in.predict_proba(ROWS).tobytes()


FORMS: dict[str, Any] = {
    "columns after each other": np.asfortranarray(ROWS[:6]),
    "every second row": ROWS[:12:2],
    "some columns of a wider table": np.tile(ROWS[:6], 2)[:, :5],
    "32 bits": ROWS[:6].astype(np.float32),
    "whole numbers": ROWS[:6].round().astype(np.int64),
    "small whole numbers": np.abs(ROWS[:6]).round().astype(np.uint8),
    "truth values": ROWS[:6] > 3,
    "lists": ROWS[:6].tolist(),
    "lists of whole numbers": ROWS[:6].round().astype(int).tolist(),
    "big-endian": ROWS[:6].astype(">f8"),
    "read-only": np.frombuffer(ROWS[:6].tobytes()).reshape(6, 5),
    "polars": pl.DataFrame(ROWS[:6]),
    "pandas": pd.DataFrame(ROWS[:6]),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_may_come_in_any_form(form: str, blobs: Blobs) -> None:
    """What the model takes, its equivalent takes, and gives the same type back."""
    found = made(make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, WORDS), ROWS, blobs)
    for method in METHODS:
        if form == "32 bits":  # the scaler computes in 32 bits then, and so must the answer
            assert (
                getattr(found.stand_in, method)(FORMS[form]).tolist()
                == getattr(found.model, method)(FORMS[form]).tolist()
            )
        else:
            assert_same(found, method, FORMS[form])


def test_frames_are_read_by_the_names_of_training(blobs: Blobs) -> None:
    """In the trained order at once; otherwise the model answers, or refuses in its own words."""
    names = ["a", "b", "c", "d", "e"]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(pd.DataFrame(ROWS, columns=names), TWO)
    found = made(model, ROWS, blobs)
    stand_in, original = counted(found, blobs)
    for frame in (pd.DataFrame(ROWS, columns=names), pl.DataFrame(ROWS, schema=names)):
        assert stand_in.predict(frame).tolist() == model.predict(frame).tolist()
    assert original.asked == 0
    with pytest.raises(ValueError, match="feature names should match"):
        stand_in.predict(pd.DataFrame(ROWS, columns=names[::-1]))
    assert original.asked == 1


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (np.full((1, 5), np.nan), "NaN"),
        (np.full((2, 5), np.inf), "infinity"),
        (ROWS[:0], "0 sample"),
        (ROWS[:, :4], "4 features"),
        (ROWS[0], "1D array"),
        ([["a"] * 5], "could not convert"),
    ],
)
def test_what_the_model_refuses_is_refused_in_its_words(rows: Any, says: str, blobs: Blobs) -> None:
    """Gaps, infinities, no rows, other widths and texts reach the model."""
    found = made(make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, TWO), ROWS, blobs)
    for method in METHODS:
        with pytest.raises(ValueError, match=says):
            getattr(found.stand_in, method)(rows)


def test_gaps_are_filled_by_the_model(blobs: Blobs) -> None:
    """An imputer's rows with gaps go to the model, in the middle of a batch too."""
    found = made(make_pipeline(SimpleImputer(), LogisticRegression()).fit(ROWS, TWO), ROWS, blobs)
    rows = ROWS[:4].copy()
    rows[2, 1] = np.nan
    assert_same(found, "predict_proba", rows)


def test_a_tie_is_decided_by_the_model(blobs: Blobs) -> None:
    """Where rounding could change a label, it is not the equivalent that chooses it."""
    model = LogisticRegression().fit(ROWS, TWO)
    stand_in, original = counted(made(model, ROWS, blobs), blobs)
    on_the_line = ROWS[:1] - model.decision_function(ROWS[:1]) * model.coef_ / (model.coef_**2).sum()
    assert abs(model.decision_function(on_the_line)[0]) < 1e-12
    assert stand_in.predict(on_the_line).tolist() == model.predict(on_the_line).tolist()
    assert original.asked == 1


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (make_pipeline(PCA(2), LogisticRegression()), "PCA is no scaling"),
        (make_pipeline(MinMaxScaler(clip=True), LogisticRegression()), "MinMaxScaler is no scaling"),
        (make_pipeline(SimpleImputer(add_indicator=True), LogisticRegression()), "SimpleImputer is no scaling"),
        (make_pipeline(StandardScaler().set_output(transform="pandas"), LogisticRegression()), "told to give frames"),
    ],
)
def test_what_is_no_product_is_not_folded(model: Any, why: str, blobs: Blobs) -> None:
    """Whatever does more than scale columns is left to other ways."""
    with pytest.raises(NotPossibleError, match=why):
        Fold().make(model.fit(ROWS, TWO), blobs)


def test_a_model_trained_in_32_bits_is_not_folded(blobs: Blobs) -> None:
    """Its answers are of 32 bits, and those of a product of doubles would not be."""
    with pytest.raises(NotPossibleError, match="another type than doubles"):
        Fold().make(LogisticRegression().fit(ROWS.astype(np.float32), TWO), blobs)
