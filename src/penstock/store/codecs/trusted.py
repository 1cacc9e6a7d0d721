"""Types that estimators may consist of beyond those skops trusts, each looked at by us.

Belongs here: the allow-list. skops checks names only; contents are safe because only verified bytes of our own
store are read, so a crafted file has no way in. What is listed runs no code of its choosing when it is rebuilt.
"""

# Compiled structures: arrays and numbers set through __setstate__, no callables.
SKLEARN = frozenset({
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._kd_tree.KDTree64",
    "sklearn.neighbors._kd_tree.KDTree32",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._ball_tree.BallTree64",
    "sklearn.neighbors._ball_tree.BallTree32",
    "sklearn.metrics._dist_metrics.EuclideanDistance",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.EuclideanDistance32",
    "sklearn.metrics._dist_metrics.ManhattanDistance",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance32",
    "sklearn.metrics._dist_metrics.MinkowskiDistance",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance32",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.linear_model._sgd_fast.Hinge",
    "sklearn.linear_model._sgd_fast.Log",
    "sklearn.linear_model._sgd_fast.SquaredLoss",
    "sklearn.linear_model._sgd_fast.Huber",
    "sklearn.linear_model._sgd_fast.ModifiedHuber",
    "sklearn.linear_model._sgd_fast.EpsilonInsensitive",
    "sklearn.utils._bunch.Bunch",
})  # fmt: skip

# The booster rebuilds itself from its text format.
LIGHTGBM = frozenset({
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMModel",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "lightgbm.sklearn.LGBMRanker",
})  # fmt: skip

# Read by scipy.sparse.load_npz, which refuses pickled arrays.
SCIPY = frozenset({
    f"scipy.sparse._{form}.{form}_{kind}" for form in ("csr", "csc", "coo") for kind in ("matrix", "array")
})  # fmt: skip

STANDARD = frozenset({"collections.OrderedDict", "collections.defaultdict"})

TRUSTED = SKLEARN | LIGHTGBM | SCIPY | STANDARD
