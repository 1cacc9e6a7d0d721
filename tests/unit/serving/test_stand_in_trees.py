"""Trees and smooth models of scikit-learn in ONNX Runtime: doubles throughout, every branch as it was learned."""

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

sys.path.insert(0, str(Path(__file__).parents[2]))
from penstock.serving.program.stand_ins.proof import proven_for
from penstock.store.blobs import Blobs
from stand_in_models import assert_same, made, normal_rows, watched

ROWS = normal_rows()
TWO = (ROWS[:, 0] + ROWS[:, 1] ** 2 > 12).astype(int)
WORDS = np.array(["low", "middle", "high"])[TWO + (ROWS[:, 2] > 3)]
NUMBER = ROWS[:, 0] * ROWS[:, 1] * 100

TREES: dict[str, tuple[Any, Any]] = {
    "tree, labels": (DecisionTreeClassifier(random_state=0), WORDS),
    "tree, numbers": (DecisionTreeRegressor(random_state=0), NUMBER),
    "tree of one leaf": (DecisionTreeRegressor(random_state=0), np.ones(len(ROWS))),
    "forest, two classes": (RandomForestClassifier(10, random_state=0), TWO),
    "forest, words": (RandomForestClassifier(10, random_state=0), WORDS),
    "forest, numbers": (RandomForestRegressor(10, random_state=0), NUMBER),
    "extra trees, words": (ExtraTreesClassifier(5, random_state=0), WORDS),
    "extra trees, numbers": (ExtraTreesRegressor(5, random_state=0), NUMBER),
    "boosted, two classes": (GradientBoostingClassifier(n_estimators=10, random_state=0), TWO),
    "boosted, words": (GradientBoostingClassifier(n_estimators=5, random_state=0), WORDS),
    "boosted, numbers": (GradientBoostingRegressor(n_estimators=10, random_state=0), NUMBER),
    "boosted from zero": (GradientBoostingRegressor(n_estimators=10, init="zero", random_state=0), NUMBER),
    "binned, two classes": (HistGradientBoostingClassifier(max_iter=8, random_state=0), TWO),
    "binned, words": (HistGradientBoostingClassifier(max_iter=5, random_state=0), WORDS),
    "binned, numbers": (HistGradientBoostingRegressor(max_iter=8, random_state=0), NUMBER),
}


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.mark.parametrize("name", TREES)
def test_trees_answer_the_same(name: str, blobs: Blobs) -> None:
    """One row and a thousand; the sums differ in the last digits of a double at most."""
    model, target = TREES[name]
    found = made(model.fit(ROWS, target), ROWS, blobs)
    assert (found.proven.kind, found.proven.difference) == ("onnx-trees", 1e-12)
    for method in found.proven.methods:
        for rows in (ROWS[:1], np.tile(ROWS, (4, 1))[:1000], ROWS[:5].astype(np.float32), np.asfortranarray(ROWS[:5])):
            assert_same(found, method, rows)


@pytest.mark.parametrize("kind", [RandomForestRegressor, HistGradientBoostingRegressor])
def test_rows_at_the_thresholds_take_the_branch_they_took(kind: Any, blobs: Blobs) -> None:
    """A value equal to a threshold, and its neighbours in 32 and 64 bits: where a converter that rounds goes astray."""
    model = kind(random_state=0).fit(ROWS, NUMBER)
    found = made(model, ROWS, blobs)
    if kind is RandomForestRegressor:
        trees = [member.tree_ for member in model.estimators_[:10]]
        splits = [(t.feature[i], t.threshold[i]) for t in trees for i in np.flatnonzero(t.feature >= 0)[:30]]
    else:
        nodes = np.concatenate([stage[0].nodes for stage in model._predictors[:10]])
        splits = [(n["feature_idx"], n["num_threshold"]) for n in nodes if not n["is_leaf"]]
    rows: list[Any] = []
    for feature, threshold in splits:
        single = np.float32(threshold)
        for value in (
            threshold, np.nextafter(threshold, -np.inf), np.nextafter(threshold, np.inf),
            single, np.nextafter(single, np.float32(-np.inf)), np.nextafter(single, np.float32(np.inf)),
        ):  # fmt: skip
            row = ROWS[len(rows) % len(ROWS)].copy()
            row[feature] = value
            rows.append(row)
    given = np.array(rows)
    np.testing.assert_allclose(found.stand_in.predict(given), model.predict(given), rtol=1e-12)


def test_gaps_go_to_the_model(blobs: Blobs) -> None:
    """Binned trees learned which way a gap goes; the model decides it."""
    rows = ROWS.copy()
    rows[::4, 1] = np.nan
    found = made(HistGradientBoostingRegressor(max_iter=5).fit(rows, NUMBER), rows, blobs)
    assert 0 < found.proven.rows < len(rows)
    assert_same(found, "predict", rows)


SMOOTH: dict[str, tuple[Any, Any]] = {
    "network, labels": (MLPClassifier((8,), max_iter=20, random_state=0), WORDS),
    "network, numbers": (MLPRegressor(hidden_layer_sizes=(8,), max_iter=20, random_state=0), NUMBER),
    "components": (make_pipeline(StandardScaler(), PCA(2), LogisticRegression()), TWO),
    "naive Bayes": (GaussianNB(), WORDS),
}


@pytest.mark.filterwarnings("ignore:.*iterations.*")
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_models_answer_the_same(name: str, blobs: Blobs) -> None:
    """Networks, components and naive Bayes, in doubles."""
    model, target = SMOOTH[name]
    found = made(model.fit(ROWS, target), ROWS, blobs)
    assert found.proven.kind == "onnx"
    for method in found.proven.methods:
        for rows in (ROWS[:1], ROWS):
            assert_same(found, method, rows)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (SVC(), "SVC compares numbers"),
        (make_pipeline(StandardScaler(), RandomForestClassifier(3)), "RandomForestClassifier compares numbers"),
    ],
)
def test_what_a_rounding_could_send_elsewhere_stays_itself(model: Any, why: str, blobs: Blobs) -> None:
    """Without a way that keeps each comparison, the model serves, and the release says why."""
    proven = proven_for(watched(model.fit(ROWS, TWO), ROWS, blobs), blobs)
    assert proven.kind == "original"
    assert why in proven.refused["onnx"]


def test_a_missing_package_costs_the_equivalent_not_the_release(blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ONNX Runtime is not installed, the model serves, and the release says what was missing."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    model = DecisionTreeRegressor(random_state=0).fit(ROWS, NUMBER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proven = proven_for(watched(model, ROWS, blobs), blobs)
    assert proven.kind == "original"
    assert "onnxruntime" in proven.refused["onnx-trees"]
