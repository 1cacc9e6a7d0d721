"""LightGBM asked through its C interface: single rows by the call that keeps its settings, batches without detours.

Belongs here: boosters and the scikit-learn flavoured models around them. The trees and the arithmetic are the same
library's, so answers are equal to the last bit; what is saved is the preparation of each call.
"""

import ctypes
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.records import Artifact
from penstock.serving.program.stand_ins.equality import DOUBLE, Tolerance
from penstock.serving.program.stand_ins.inputs import FORMS, Inputs, Rows
from penstock.serving.program.stand_ins.model import Compute
from penstock.serving.program.stand_ins.way import Built, NotPossibleError
from penstock.store.blobs import Blobs

Array = npt.NDArray[np.float64]
_DOUBLES, _NORMAL, _BY_ROW = 1, 0, 1  # C_API_DTYPE_FLOAT64, C_API_PREDICT_NORMAL, is_row_major
_WRAPPED = frozenset({"LGBMClassifier", "LGBMRegressor", "LGBMRanker"})
# Predicting stops early by these, which the calls below do not pass on.
_EARLY = ("pred_early_stop", "predict_disable_shape_check", "start_iteration_predict", "num_iteration_predict")


@dataclass(frozen=True, slots=True)
class LightGBMRows:
    """Asks LightGBM through its C interface."""

    kind: str = "lightgbm-rows"
    tolerance: Tolerance = DOUBLE

    def suits(self, model: object) -> bool:
        """Whether the model is LightGBM's own."""
        return type(model).__module__.startswith("lightgbm.")

    def make(self, model: Any, blobs: Blobs) -> Artifact | None:
        """Keep nothing: the model itself is all there is."""
        del blobs
        _booster(model)
        return None

    def build(self, model: Any, artifact: Artifact | None, blobs: Blobs) -> Built:
        """Prepare the calls."""
        del artifact, blobs
        booster = _booster(model)
        raw = _Calls(booster, _threads(model)).predict
        # Frames of a model with categories of pandas are translated by the library.
        forms = frozenset(FORMS) - ({"pandas", "polars"} if booster.pandas_categorical else set())
        inputs = Inputs(int(booster.num_feature()), (), forms, narrow_integers=True)
        if type(model).__name__ != "LGBMClassifier":
            return Built(inputs, {"predict": raw})
        proba = _both_classes(raw) if model.n_classes_ <= 2 else raw
        return Built(inputs, {"predict_proba": proba, "predict": _labels(proba, np.asarray(model.classes_))})


def _booster(model: Any) -> Any:
    if type(model).__name__ == "Booster":
        return model
    if type(model).__name__ not in _WRAPPED:
        raise NotPossibleError(f"{type(model).__name__} is not known to answer as its booster does")
    if callable(model.objective) or any(name in model.get_params() for name in _EARLY):
        raise NotPossibleError("it has an objective of its own, or settings for predicting")
    return model.booster_


def _threads(model: Any) -> int:
    return int(getattr(model, "n_jobs", None) or 0)


def _both_classes(raw: Callable[[Rows], Array]) -> Compute:
    def predict_proba(rows: Rows) -> Array:
        second = raw(rows)
        found = np.empty((len(second), 2))
        found[:, 1] = second
        found[:, 0] = 1.0 - second
        return found

    return predict_proba


def _labels(proba: Compute, classes: npt.NDArray[Any]) -> Compute:
    def predict(rows: Rows) -> Any:
        return classes.take(np.argmax(proba(rows), axis=1))

    return predict


class _Calls:
    """The two calls, with everything prepared that does not change between them."""

    def __init__(self, booster: Any, threads: int) -> None:
        import lightgbm  # noqa: PLC0415 -- optional dependency, needed only for its own models

        # A handle of its own: argument types set here must not show in the functions that the library calls itself.
        file = vars(lightgbm.basic)["_LIB"]._name  # noqa: SLF001 -- it has no public door
        self.library = _declared(ctypes.CDLL(file))
        self.booster = booster
        self.handle = ctypes.c_void_p(booster._handle.value)  # noqa: SLF001 -- as above
        self.width = int(booster.num_feature())
        self.trees = int(booster.best_iteration)
        self.settings = f"num_threads={threads}".encode() if threads else b""
        self.outputs = _outputs(self.library, self.handle, self.trees)
        self._threads = threading.local()

    def predict(self, rows: Rows) -> Array:
        """Return what the booster predicts: (n,), or (n, classes) where there are several."""
        found = self._one(rows) if len(rows) == 1 else self._several(rows)
        return found if self.outputs == 1 else found.reshape(len(rows), self.outputs)

    def _one(self, rows: Rows) -> Array:
        try:
            place = self._threads.place
        except AttributeError:
            place = self._threads.place = _Place(self)
        place.row[:] = rows[0]
        if self.library.LGBM_BoosterPredictForMatSingleRowFast(*place.pointers):
            raise self.failure()
        found: Array = place.answer.copy()
        return found

    def _several(self, rows: Rows) -> Array:
        found = np.empty(len(rows) * self.outputs)
        count = ctypes.c_int64()
        failed = self.library.LGBM_BoosterPredictForMat(
            self.handle, rows.ctypes.data, _DOUBLES, len(rows), self.width, _BY_ROW, _NORMAL, 0, self.trees,
            self.settings, ctypes.byref(count), found.ctypes.data,
        )  # fmt: skip
        if failed or count.value != len(found):
            raise self.failure()
        return found

    def failure(self) -> Exception:
        return ValueError(self.library.LGBM_GetLastError().decode("utf-8", "replace"))


class _Place:
    """What one thread needs for single rows: a row to write to, an answer to read from, a configuration."""

    def __init__(self, calls: _Calls) -> None:
        library = calls.library
        handle = ctypes.c_void_p()
        failed = library.LGBM_BoosterPredictForMatSingleRowFastInit(
            calls.handle,
            _NORMAL,
            0,
            calls.trees,
            _DOUBLES,
            calls.width,
            calls.settings,
            ctypes.byref(handle),
        )
        if failed:
            raise calls.failure()
        self.row = np.empty(calls.width)
        self.answer = np.empty(calls.outputs)
        self._count = ctypes.c_int64()
        self.booster = calls.booster  # the configuration points into it
        self.pointers = (handle, self.row.ctypes.data, ctypes.byref(self._count), self.answer.ctypes.data)
        weakref.finalize(self, library.LGBM_FastConfigFree, handle)


def _outputs(library: Any, handle: ctypes.c_void_p, trees: int) -> int:
    count = ctypes.c_int64()
    if library.LGBM_BoosterCalcNumPredict(handle, 1, _NORMAL, 0, trees, ctypes.byref(count)):
        raise NotPossibleError("LightGBM does not say how many numbers it predicts for a row")
    return count.value


def _declared(library: Any) -> Any:
    """Return the library with the types of its arguments, as its header `c_api.h` declares them."""
    whole, long, text, place = ctypes.c_int, ctypes.POINTER(ctypes.c_int64), ctypes.c_char_p, ctypes.c_void_p
    library.LGBM_BoosterCalcNumPredict.argtypes = (place, whole, whole, whole, whole, long)
    library.LGBM_BoosterPredictForMat.argtypes = (
        place, place, whole, ctypes.c_int32, ctypes.c_int32, whole, whole, whole, whole, text, long, place,
    )  # fmt: skip
    library.LGBM_BoosterPredictForMatSingleRowFastInit.argtypes = (
        place, whole, whole, whole, whole, ctypes.c_int32, text, ctypes.POINTER(ctypes.c_void_p),
    )  # fmt: skip
    library.LGBM_BoosterPredictForMatSingleRowFast.argtypes = (place, place, long, place)
    library.LGBM_FastConfigFree.argtypes = (place,)
    library.LGBM_GetLastError.restype = text
    return library
