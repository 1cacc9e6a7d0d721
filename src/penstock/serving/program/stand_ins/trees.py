"""Trees of scikit-learn as one operator of ONNX Runtime, in doubles throughout.

Belongs here: forests and boosted trees. The usual converters write their thresholds and sums in 32 bits, which answers
differently by up to 1e-4; operator TreeEnsemble 5 has doubles, so each comparison and each leaf is scikit-learn's own.
Source: the ONNX operator specification, ai.onnx.ml, TreeEnsemble version 5.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.core.records import Artifact
from penstock.serving.program.stand_ins.equality import DOUBLE, Tolerance
from penstock.serving.program.stand_ins.inputs import FORMS, Inputs, Rows
from penstock.serving.program.stand_ins.links import labels, logistic, softmax
from penstock.serving.program.stand_ins.model import Compute
from penstock.serving.program.stand_ins.onnx import INPUT, opened
from penstock.serving.program.stand_ins.way import Built, NotPossibleError
from penstock.store import codecs
from penstock.store.blobs import Blobs

Array = npt.NDArray[Any]
_SINGLE = frozenset({
    "DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor",
})  # fmt: skip
_FORESTS = frozenset({
    "ExtraTreesClassifier", "ExtraTreesRegressor", "RandomForestClassifier", "RandomForestRegressor",
})  # fmt: skip
_BOOSTED = frozenset({"GradientBoostingClassifier", "GradientBoostingRegressor"})
_BINNED = frozenset({"HistGradientBoostingClassifier", "HistGradientBoostingRegressor"})
# As many nodes take some 100 MB in the runtime; above it the model itself is the better use of memory.
_MOST_NODES = 2_000_000
_LESS_OR_EQUAL, _SUM, _NONE = 0, 1, 0  # BRANCH_LEQ, aggregate SUM, post transform NONE


@dataclass(frozen=True, slots=True)
class Trees:
    """Writes the trees of a model as one operator."""

    kind: str = "onnx-trees"
    tolerance: Tolerance = DOUBLE

    def suits(self, model: object) -> bool:
        """Whether the model is trees of scikit-learn."""
        known = _SINGLE | _FORESTS | _BOOSTED | _BINNED
        return type(model).__module__.startswith("sklearn.") and type(model).__name__ in known

    def make(self, model: Any, blobs: Blobs) -> Artifact | None:
        """Write the operator."""
        ensemble = _Ensemble()
        for tree, target in _trees(model):
            ensemble.add(tree, target)
            if len(ensemble.features) > _MOST_NODES:
                raise NotPossibleError(f"it has more than {_MOST_NODES:,} nodes")
        return codecs.save(ensemble.model(int(model.n_features_in_), _scores(model)), blobs)

    def build(self, model: Any, artifact: Artifact | None, blobs: Blobs) -> Built:
        """Open a session."""
        if artifact is None:
            raise NotPossibleError("what it was written as is not kept")
        session = opened(blobs.read(artifact.digest))
        names = tuple(str(name) for name in getattr(model, "feature_names_in_", ()))
        inputs = Inputs(int(model.n_features_in_), names, frozenset(FORMS))
        return Built(inputs, _methods(model, _score(model, session)))


@dataclass(frozen=True, slots=True)
class _Tree:
    """One tree: by node its feature, threshold, children (its own number at a leaf) and, at a leaf, its value."""

    feature: Array
    threshold: Array
    left: Array
    right: Array
    is_leaf: Array
    value: Array


def _trees(model: Any) -> Iterator[tuple[_Tree, int]]:
    """Yield each tree with the score it adds to; what it adds includes shares and learning rates."""
    name = type(model).__name__
    if name in _BINNED:
        if getattr(model, "is_categorical_", None) is not None and np.any(model.is_categorical_):
            raise NotPossibleError("it splits by categories")
        for stage in model._predictors:  # noqa: SLF001 -- the only door to its trees
            yield from ((_binned(predictor), target) for target, predictor in enumerate(stage))
        return
    if getattr(model, "n_outputs_", 1) != 1:
        raise NotPossibleError("it answers several outputs at once")
    if name in _BOOSTED:
        for stage in model.estimators_:
            for target, one in enumerate(stage):
                yield _plain(one.tree_, one.tree_.value[:, 0, 0] * model.learning_rate), target
        return
    members = [model] if name in _SINGLE else model.estimators_
    for one in members:
        value = one.tree_.value[:, 0, :]
        if not hasattr(model, "classes_"):
            yield _plain(one.tree_, value[:, 0] / len(members)), 0
            continue
        shares = value / value.sum(axis=1, keepdims=True) / len(members)
        # A leaf of this operator adds to one score, so trees are repeated for each class; of two the second tells both.
        for target in range(_scores(model)):
            yield _plain(one.tree_, shares[:, -1 if _scores(model) == 1 else target]), target


def _plain(tree: Any, value: Array) -> _Tree:
    left, right = tree.children_left, tree.children_right
    return _Tree(tree.feature, tree.threshold, left, right, left == right, value)


def _binned(predictor: Any) -> _Tree:
    nodes = predictor.nodes
    return _Tree(
        nodes["feature_idx"].astype(np.int64), nodes["num_threshold"], nodes["left"], nodes["right"],
        nodes["is_leaf"].astype(bool), nodes["value"],
    )  # fmt: skip


def _scores(model: Any) -> int:
    if not hasattr(model, "classes_"):
        return 1
    return 1 if len(model.classes_) <= 2 else len(model.classes_)


@dataclass(slots=True)
class _Ensemble:
    """The attributes of the operator, as they grow tree by tree."""

    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    sides: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    leaves: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    roots: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def add(self, tree: _Tree, target: int) -> None:
        """Add a tree; a tree of one leaf becomes a node both of whose sides are that leaf."""
        inner, outer = np.flatnonzero(~tree.is_leaf), np.flatnonzero(tree.is_leaf)
        place = np.zeros(len(tree.is_leaf), np.int64)
        place[inner] = len(self.features) + np.arange(len(inner))
        place[outer] = len(self.weights) + np.arange(len(outer))
        self.roots.append(len(self.features))
        self.targets += [target] * len(outer)
        self.weights += tree.value[outer].tolist()
        if not len(inner):
            self.features.append(0)
            self.splits.append(0.0)
            for number in (0, 1):
                self.sides[number].append(int(place[0]))
                self.leaves[number].append(1)
            return
        self.features += tree.feature[inner].tolist()
        self.splits += tree.threshold[inner].tolist()
        for number, child in enumerate((tree.left, tree.right)):
            self.sides[number].extend(place[child[inner]].tolist())
            self.leaves[number].extend(tree.is_leaf[child[inner]].astype(int).tolist())

    def model(self, width: int, scores: int) -> Any:
        """Return the operator as a model from rows (n, width) to scores (n, scores)."""
        from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 -- optional dependency

        node = helper.make_node(
            "TreeEnsemble", [INPUT], ["scores"], domain="ai.onnx.ml",
            n_targets=scores, post_transform=_NONE, aggregate_function=_SUM,
            nodes_featureids=self.features, nodes_splits=numpy_helper.from_array(np.array(self.splits)),
            nodes_modes=numpy_helper.from_array(np.full(len(self.splits), _LESS_OR_EQUAL, np.uint8)),
            nodes_truenodeids=self.sides[0], nodes_trueleafs=self.leaves[0],
            nodes_falsenodeids=self.sides[1], nodes_falseleafs=self.leaves[1], tree_roots=self.roots,
            leaf_targetids=self.targets, leaf_weights=numpy_helper.from_array(np.array(self.weights)),
        )  # fmt: skip
        given = helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, width])
        gives = helper.make_tensor_value_info("scores", TensorProto.DOUBLE, [None, scores])
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 5)]
        return helper.make_model(
            helper.make_graph([node], "trees", [given], [gives]), opset_imports=opsets, ir_version=10
        )


def _score(model: Any, session: Any) -> Compute:
    """Return the function from rows to scores: (n,) where there is one, else (n, classes)."""
    base = _base(model)
    is_rounded = type(model).__name__ not in _BINNED

    def score(rows: Rows) -> Array | None:
        with np.errstate(all="ignore"):  # what is beyond 32 bits the original refuses
            # These trees compare rows of 32 bits with thresholds of 64.
            given = rows.astype(np.float32).astype(np.float64) if is_rounded else rows
            if not np.isfinite(given.sum()):
                return None  # which way a gap goes, the original knows
        found: Array = session.run(None, {INPUT: given})[0]
        found = found + base
        return found[:, 0] if found.shape[1] == 1 else found

    return score


def _base(model: Any) -> Any:
    """Return what the first tree adds to."""
    name = type(model).__name__
    if name in _BINNED:
        return np.asarray(model._baseline_prediction, np.float64).reshape(-1)  # noqa: SLF001 -- the only door to it
    if name not in _BOOSTED:
        return 0.0
    if model.init is not None and not isinstance(model.init, str):
        raise NotPossibleError("it starts from another model")
    return np.asarray(model._raw_predict_init(np.zeros((1, int(model.n_features_in_)), np.float32)))[0]  # noqa: SLF001


def _methods(model: Any, score: Compute) -> dict[str, Compute]:
    name = type(model).__name__
    if not hasattr(model, "classes_"):
        if name in _BINNED and model.loss in {"poisson", "gamma"}:
            raise NotPossibleError(f"its loss is {model.loss!r}")
        return {"predict": score}
    of_scores = _shares if name in _SINGLE | _FORESTS else logistic if _scores(model) == 1 else softmax

    def proba(rows: Rows) -> Array | None:
        found = score(rows)
        return None if found is None else of_scores(found)

    return {"predict_proba": proba, "predict": labels(proba, np.asarray(model.classes_))}


def _shares(score: Array) -> Array:
    return score if score.ndim == 2 else np.stack([1 - score, score], axis=1)
