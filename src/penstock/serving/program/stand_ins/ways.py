"""All ways to a faster equivalent, in the order in which they are tried.

The order is fixed, the quickest kind first, as measured in `docs/explanation/faster-equivalents.md`: which one a
release holds follows from the model and its rows, never from how long something took on the day.
"""

from penstock.serving.program.stand_ins.boosting import LightGBMRows
from penstock.serving.program.stand_ins.folding import Fold
from penstock.serving.program.stand_ins.networks import OnnxModule
from penstock.serving.program.stand_ins.onnx import OnnxScikit
from penstock.serving.program.stand_ins.trees import Trees
from penstock.serving.program.stand_ins.way import Way

WAYS: tuple[Way, ...] = (Fold(), LightGBMRows(), Trees(), OnnxScikit(), OnnxModule())


def ways_for(model: object) -> tuple[Way, ...]:
    """Return the ways that may suit a model, the preferred one first; none when Penstock does not know its kind."""
    return tuple(way for way in WAYS if way.suits(model))
