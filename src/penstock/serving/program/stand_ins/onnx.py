"""Smooth models of scikit-learn, converted by skl2onnx and run by ONNX Runtime in doubles.

Belongs here: that conversion, and sessions. A model that compares numbers (a tree, neighbours) does not come this way:
a converter that rounds once sends a row in a million down another branch, which no sample of rows would show.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.records import Artifact
from penstock.serving.program.stand_ins.equality import DOUBLE, Tolerance
from penstock.serving.program.stand_ins.inputs import FORMS, Inputs, Rows
from penstock.serving.program.stand_ins.links import labels
from penstock.serving.program.stand_ins.model import Compute
from penstock.serving.program.stand_ins.way import Built, NotPossibleError
from penstock.store import codecs
from penstock.store.blobs import Blobs

# Their answers change smoothly with their rows, so that a rounding error stays one.
_SMOOTH = frozenset({
    "BayesianRidge", "ElasticNet", "FactorAnalysis", "GammaRegressor", "GaussianNB", "GaussianProcessRegressor",
    "IncrementalPCA", "KernelPCA", "KernelRidge", "Lasso", "LinearDiscriminantAnalysis", "LinearRegression",
    "LinearSVC", "LinearSVR", "LogisticRegression", "LogisticRegressionCV", "MLPClassifier", "MLPRegressor",
    "MaxAbsScaler", "MinMaxScaler", "Normalizer", "PCA", "PLSRegression", "PoissonRegressor", "PolynomialFeatures",
    "PowerTransformer", "QuadraticDiscriminantAnalysis", "Ridge", "RidgeCV", "RidgeClassifier", "RobustScaler",
    "SGDClassifier", "SGDRegressor", "SimpleImputer", "StandardScaler", "TruncatedSVD", "TweedieRegressor",
})  # fmt: skip
INPUT = "rows"


@dataclass(frozen=True, slots=True)
class OnnxScikit:
    """Converts with skl2onnx and runs in ONNX Runtime, one thread per call."""

    kind: str = "onnx"
    tolerance: Tolerance = DOUBLE

    def suits(self, model: object) -> bool:
        """Whether the model is one of scikit-learn's own that predict."""
        return type(model).__module__.startswith("sklearn.") and hasattr(model, "predict")

    def make(self, model: Any, blobs: Blobs) -> Artifact | None:
        """Convert the model."""
        import skl2onnx  # noqa: PLC0415 -- optional dependency
        from skl2onnx.common.data_types import DoubleTensorType  # noqa: PLC0415

        _refuse_rough(model)
        options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
        converted = skl2onnx.to_onnx(
            model, initial_types=[(INPUT, DoubleTensorType([None, int(model.n_features_in_)]))], options=options
        )
        return codecs.save(converted, blobs)

    def build(self, model: Any, artifact: Artifact | None, blobs: Blobs) -> Built:
        """Open a session."""
        if artifact is None:
            raise NotPossibleError("what it was converted to is not kept")
        session = opened(blobs.read(artifact.digest))
        names = tuple(str(name) for name in getattr(model, "feature_names_in_", ()))
        # Rows of 32 bits are computed with in 32 bits by the original.
        inputs = Inputs(int(model.n_features_in_), names, frozenset(FORMS) - {"float32"})
        return Built(inputs, _methods(model, session))


def opened(data: bytes) -> Any:
    """Return a session of ONNX Runtime that computes in the calling thread; it may be used from several.

    Raises:
        NotPossibleError: The runtime cannot run it.
        ImportError: There is no runtime.
    """
    import onnxruntime  # noqa: PLC0415 -- optional dependency

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no class of their own
        raise NotPossibleError(f"ONNX Runtime cannot run it: {str(error).partition(chr(10))[0][:120]}") from error


def _refuse_rough(model: Any) -> None:
    for step in [step for _, step in model.steps] if type(model).__name__ == "Pipeline" else [model]:
        if type(step).__name__ not in _SMOOTH:
            raise NotPossibleError(f"{type(step).__name__} compares numbers, or is not known to be smooth")
        if getattr(step, "_sklearn_output_config", {}):
            raise NotPossibleError(f"{type(step).__name__} was told to give frames")


def _methods(model: Any, session: Any) -> dict[str, Compute]:
    last = session.get_outputs()[-1].name

    def run(rows: Rows) -> npt.NDArray[np.float64] | None:
        with np.errstate(all="ignore"):
            if not np.isfinite(rows.sum()):
                return None  # a gap in a row is the original's to refuse or to fill
        found: npt.NDArray[np.float64] = session.run([last], {INPUT: rows})[0]
        return found

    def run_flat(rows: Rows) -> npt.NDArray[np.float64] | None:
        found = run(rows)
        return None if found is None else found.reshape(-1)

    if not hasattr(model, "classes_"):
        is_flat = model.predict(np.zeros((1, int(model.n_features_in_)))).ndim == 1
        return {"predict": run_flat if is_flat else run}
    if not hasattr(model, "predict_proba"):
        raise NotPossibleError("it gives labels without probabilities")
    return {"predict_proba": run, "predict": labels(run, np.asarray(model.classes_))}
