"""From scores to probabilities and labels, as scikit-learn has them, for one row as for many."""

from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.serving.program.stand_ins.inputs import Rows
from penstock.serving.program.stand_ins.model import Compute

Array = npt.NDArray[np.float64]
# Scores or probabilities nearer to a tie than this are decided by the original: no rounding ever changes a label.
TIE = 1e-6
# Below it the exponential would overflow; the probability is 0 to more digits than a double has.
_LOWEST = -700.0


def logistic(score: Array) -> Array | None:
    """Return the probabilities of two classes, (n, 2), from scores of the second; None when there are more classes."""
    if score.ndim != 1:
        return None
    if len(score) == 1:
        second = 1 / (1 + float(np.exp(-max(score[0], _LOWEST))))
        return np.array(((1 - second, second),))
    found = np.empty((len(score), 2))
    found[:, 1] = _expit(score)
    found[:, 0] = 1 - found[:, 1]
    return found


def softmax(score: Array) -> Array | None:
    """Return probabilities that grow with the exponential of each score; of a single one and its opposite."""
    two = np.stack([-score, score], axis=1) if score.ndim == 1 else score
    exponents = np.exp(two - two.max(axis=1, keepdims=True))
    found: Array = exponents / exponents.sum(axis=1, keepdims=True)
    return found


def shares(score: Array) -> Array | None:
    """Return the logistic function of each score as a share of their sum; None for one score, or when all are zero."""
    if score.ndim == 1:
        return None
    found = _expit(score)
    sums = found.sum(axis=1, keepdims=True)
    return found / sums if sums.min() > 0 else None


def labels(proba: Compute, classes: npt.NDArray[Any]) -> Compute:
    """Return the function from rows to the most likely classes; it leaves close decisions to the original.

    Args:
        proba: From rows to probabilities or scores (n, classes).
        classes: The labels.
    """

    def predict(rows: Rows) -> Any:
        found = proba(rows)
        if found is None or found.shape[1] < 2:
            return None
        best = np.partition(found, -2, axis=1)
        return None if (best[:, -1] - best[:, -2]).min() < TIE else classes.take(found.argmax(axis=1))

    return predict


def _expit(score: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-np.maximum(score, _LOWEST)))
    return found
