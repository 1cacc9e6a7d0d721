"""Scalers and a linear model, folded into one product: `answer = link((x - centre) @ weights + offset)`.

Rows are multiplied one by one (not as one matrix), so that a row gets the same answer, to the last bit, alone and
within a batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.records import Artifact
from penstock.serving.program.stand_ins.equality import DOUBLE, Tolerance, distance
from penstock.serving.program.stand_ins.inputs import FORMS, Inputs, Rows
from penstock.serving.program.stand_ins.links import TIE, labels, logistic, shares, softmax
from penstock.serving.program.stand_ins.model import Compute
from penstock.serving.program.stand_ins.way import Built, NotPossibleError
from penstock.store import codecs
from penstock.store.blobs import Blobs

Array = npt.NDArray[np.float64]
_REGRESSORS = frozenset({
    "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lars", "LarsCV", "Lasso",
    "LassoCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "LinearRegression", "LinearSVR", "MultiTaskElasticNet",
    "MultiTaskLasso", "OrthogonalMatchingPursuit", "PassiveAggressiveRegressor", "QuantileRegressor", "Ridge",
    "RidgeCV", "SGDRegressor", "TheilSenRegressor",
})  # fmt: skip
_CLASSIFIERS = frozenset({
    "LinearDiscriminantAnalysis", "LinearSVC", "LogisticRegression", "LogisticRegressionCV",
    "PassiveAggressiveClassifier", "Perceptron", "RidgeClassifier", "RidgeClassifierCV", "SGDClassifier",
})  # fmt: skip
_SCALERS = frozenset({"MaxAbsScaler", "MinMaxScaler", "RobustScaler", "StandardScaler"})
# Means this many deviations from zero leave too few digits when they are folded into the offset.
_FAR = 1e3
_LINKS = {"logistic": logistic, "softmax": softmax, "shares": shares}


@dataclass(frozen=True, slots=True)
class Fold:
    """Folds scikit-learn's linear models, alone or behind scalers."""

    kind: str = "folded"
    tolerance: Tolerance = DOUBLE

    def suits(self, model: object) -> bool:
        """Whether the model is scikit-learn's own, and linear or a scaler at its end."""
        if not type(model).__module__.startswith("sklearn."):
            return False
        last: Any = model
        while type(last).__name__ == "Pipeline" and last.steps:
            last = last.steps[-1][1]
        return type(last).__name__ in _REGRESSORS | _CLASSIFIERS | _SCALERS

    def make(self, model: Any, blobs: Blobs) -> Artifact | None:
        """Keep centre, weights and offset as doubles."""
        *before, last = _steps(model)
        scaling = _Scaling.identity(_width(model))
        for step in before:
            scaling = scaling.then(step)
        if type(last).__name__ in _REGRESSORS | _CLASSIFIERS:
            return codecs.save(_folded(model, last, scaling), blobs)
        found = scaling.then(last)
        return codecs.save({"scale": found.scale, "shift": found.shift, "centre": found.centre}, blobs)

    def build(self, model: Any, artifact: Artifact | None, blobs: Blobs) -> Built:
        """Return the product."""
        if artifact is None:
            raise NotPossibleError("what it was folded into is not kept")
        kept: Any = codecs.load(artifact, blobs, verify="full")
        names = tuple(str(name) for name in getattr(model, "feature_names_in_", ()))
        # Scalers compute in 32 bits when they are given such: those rows are theirs.
        forms = frozenset(FORMS) - ({"float32"} if kept.get("is_scaled", True) else set())
        inputs = Inputs(_width(model), names, forms)
        if "scale" in kept:
            return Built(inputs, {"transform": _transform(kept)})
        score = _score(kept)
        if not kept["is_classifier"]:
            return Built(inputs, {"predict": score})
        return Built(inputs, _classifier(model, score, str(kept["link"])))


@dataclass(frozen=True, slots=True)
class _Scaling:
    """What scalers do to each column: `(x - centre) * scale + shift`."""

    centre: Array
    scale: Array
    shift: Array

    @classmethod
    def identity(cls, width: int) -> "_Scaling":
        return cls(np.zeros(width), np.ones(width), np.zeros(width))

    @property
    def is_identity(self) -> bool:
        return bool(np.all(self.scale == 1)) and not self.shift.any() and not self.centre.any()

    def then(self, step: Any) -> "_Scaling":
        centre, scale, shift = _elementwise(step, len(self.scale))
        if self.is_identity:
            return _Scaling(centre, scale, shift)
        return _Scaling(self.centre, self.scale * scale, (self.shift - centre) * scale + shift)


def _elementwise(step: Any, width: int) -> tuple[Array, Array, Array]:
    """Return what one step takes off, multiplies by and adds to each column."""
    none, one = np.zeros(width), np.ones(width)
    name = type(step).__name__ if type(step).__module__.startswith("sklearn.") else ""
    if _has_output_set(step):
        raise NotPossibleError(f"{name} was told to give frames")
    match name:
        case "StandardScaler":
            return _or(step.mean_, none), 1 / _or(step.scale_, one), none
        case "RobustScaler":
            return _or(step.center_, none), 1 / _or(step.scale_, one), none
        case "MaxAbsScaler" if not getattr(step, "clip", False):
            return none, 1 / _double(step.scale_), none
        case "MinMaxScaler" if not step.clip:
            return none, _double(step.scale_), _double(step.min_)
        case "SimpleImputer" if not step.add_indicator and _fills_only_nan(step, width):
            return none, one, none  # rows with gaps are left to the original
        case "FunctionTransformer" if step.func is None:
            return none, one, none
        case _:
            raise NotPossibleError(f"{type(step).__name__} is no scaling of single columns")


def _fills_only_nan(step: Any, width: int) -> bool:
    known = np.asarray(step.statistics_)
    is_nan = isinstance(step.missing_values, float) and math.isnan(step.missing_values)
    return is_nan and known.shape == (width,) and known.dtype.kind == "f" and bool(np.isfinite(known).all())


def _has_output_set(step: Any) -> bool:
    return bool(getattr(step, "_sklearn_output_config", {}))  # what set_output keeps; it has no public name


def _or(value: Any, otherwise: Array) -> Array:
    return otherwise if value is None else _double(value)


def _double(value: Any) -> Array:
    found = np.asarray(value)
    if found.dtype != np.float64:
        raise NotPossibleError("it was trained in numbers of another type than doubles")
    return found


def _steps(model: Any) -> list[Any]:
    if type(model).__name__ != "Pipeline":
        return [model]
    steps = [step for _, step in model.steps if step is not None and not isinstance(step, str)]
    if _has_output_set(model) or not steps:
        raise NotPossibleError("the pipeline has no steps, or was told to give frames")
    return [inner for step in steps for inner in _steps(step)]


def _width(model: Any) -> int:
    width = getattr(model, "n_features_in_", None)
    if not isinstance(width, int | np.integer) or width < 1:
        raise NotPossibleError("it does not say how many features it takes")
    return int(width)


def _folded(model: Any, last: Any, scaling: _Scaling) -> dict[str, Any]:
    if not isinstance(getattr(last, "coef_", None), np.ndarray):
        raise NotPossibleError(f"{type(last).__name__} has no dense coefficients")
    is_classifier = type(last).__name__ in _CLASSIFIERS
    is_flat = last.coef_.ndim == 1 or (is_classifier and len(last.coef_) == 1)
    if is_classifier and (not isinstance(last.classes_, np.ndarray) or last.classes_.ndim != 1):
        raise NotPossibleError("it answers several labels at once")
    coefficients = np.atleast_2d(_double(last.coef_)).T  # (features, scores)
    offset = scaling.shift @ coefficients + np.broadcast_to(
        np.asarray(last.intercept_, np.float64), coefficients.shape[1]
    )
    weights = scaling.scale[:, None] * coefficients
    is_far = bool((np.abs(scaling.centre * scaling.scale) > _FAR).any())
    if not is_far:
        offset = offset - scaling.centre @ weights
    kept = {
        "weights": np.ascontiguousarray(weights),
        "offset": offset,
        "centre": scaling.centre if is_far else None,
        "is_scaled": not scaling.is_identity,
        "is_flat": is_flat,
        "is_classifier": is_classifier,
    }
    return {**kept, "link": _link(model, kept) if is_classifier and hasattr(model, "predict_proba") else ""}


def _link(model: Any, kept: dict[str, Any]) -> str:
    """Return how this version of the library makes probabilities of scores; "" when by none that is known here."""
    rows = np.random.default_rng(0).normal(size=(8, len(kept["weights"])))
    if kept["centre"] is not None:
        rows = rows + kept["centre"]
    given = rows if not hasattr(model, "feature_names_in_") else _named(rows, model)
    expected, score = model.predict_proba(given), _score(kept)
    for link in _LINKS:
        found = _probabilities(score, link)(rows)
        if found is not None and distance(expected, found, DOUBLE) is not None:
            return link
    return ""


def _named(rows: Rows, model: Any) -> Any:
    import polars as pl  # noqa: PLC0415 -- only here: a model trained on frames is asked with one

    return pl.DataFrame(rows, schema=[str(name) for name in model.feature_names_in_])


def _transform(kept: Any) -> Compute:
    centre, scale, shift = kept["centre"], kept["scale"], kept["shift"]

    def transform(rows: Rows) -> Array | None:
        with np.errstate(all="ignore"):
            found: Array = (rows - centre) * scale + shift
            return found if math.isfinite(found.sum()) else None

    return transform


def _score(kept: Any) -> Callable[[Rows], Array | None]:
    """Return the function from rows to scores, (n,) where there is one and (n, scores) where there are several."""
    centre, offset = kept["centre"], kept["offset"]
    weights = np.ascontiguousarray(kept["weights"])
    if not kept["is_flat"]:

        def scores(rows: Rows) -> Array | None:
            given = rows if centre is None else rows - centre
            with np.errstate(all="ignore"):  # what overflows here is given to the original
                found: Array = np.matmul(given[:, None, :], weights)[:, 0] + offset
                return found if math.isfinite(found.sum()) else None

        return scores
    column, constant = np.ascontiguousarray(weights[:, 0]), float(offset[0])

    def one_score(rows: Rows) -> Array | None:
        given = rows if centre is None else rows - centre
        if len(given) == 1:  # the same product, with less around it
            single = float(given[0].dot(column)) + constant
            return np.array((single,)) if math.isfinite(single) else None
        with np.errstate(all="ignore"):
            found: Array = np.matmul(given[:, None, :], column)[:, 0] + constant
            # A gap or an infinity in a row shows in its score: the original fills it, or refuses it in its own words.
            return found if math.isfinite(found.sum()) else None

    return one_score


def _classifier(model: Any, score: Callable[[Rows], Array | None], link: str) -> dict[str, Compute]:
    methods: dict[str, Compute] = {}
    if link:
        methods["predict_proba"] = _probabilities(score, link)
    methods["predict"] = _labels(score, np.asarray(model.classes_))
    if hasattr(model, "decision_function"):
        methods["decision_function"] = score
    return methods


def _labels(score: Callable[[Rows], Array | None], classes: npt.NDArray[Any]) -> Compute:
    of_several = labels(score, classes)

    def predict(rows: Rows) -> Any:
        found = score(rows)
        if found is None:
            return None
        return None if np.abs(found).min() < TIE else classes.take((found > 0).astype(np.intp))

    return predict if len(classes) == 2 else of_several


def _probabilities(score: Callable[[Rows], Array | None], link: str) -> Compute:
    of_scores = _LINKS[link]

    def predict_proba(rows: Rows) -> Array | None:
        found = score(rows)
        return None if found is None else of_scores(found)

    return predict_proba
