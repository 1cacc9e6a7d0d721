"""Trained models and their equivalents, for the tests of faster equivalents."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.releases.manifest import StandIn as Proven
from penstock.serving.program.stand_ins.binding import assembled
from penstock.serving.program.stand_ins.candidates import Candidate, candidate_of
from penstock.serving.program.stand_ins.proof import proven_for
from penstock.serving.program.stand_ins.way import Way
from penstock.serving.program.stand_ins.ways import ways_for
from penstock.store.blobs import Blobs

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Made:
    """A model, what was proven of it, and what stands in for it, whatever was measured."""

    model: Any
    proven: Proven
    stand_in: Any


def normal_rows(count: int = 300, width: int = 5) -> Rows:
    """Return rows of normal numbers around 3, always the same."""
    return np.random.default_rng(7).normal(3.0, 2.0, size=(count, width))


def watched(model: Any, rows: Rows, blobs: Blobs, *ways: Way) -> Candidate:
    """Return a candidate that was asked about `rows`, by some ways or by all that suit."""
    found = Candidate(model, ways, blobs) if ways else candidate_of(model, blobs)
    assert found is not None
    found.asked.append(rows)
    return found


def made(model: Any, rows: Rows, blobs: Blobs) -> Made:
    """Prove an equivalent of a trained model on `rows` and return it."""
    proven = proven_for(watched(model, rows, blobs), blobs)
    ways = [way for way in ways_for(model) if way.kind == proven.kind]
    assert ways, proven.refused
    built = ways[0].build(model, proven.artifact, blobs)
    return Made(model, proven, assembled(model, built, proven))


def assert_same(found: Made, method: str, given: Any) -> None:
    """The stand-in and the model give the same type, shape and numbers; labels identical."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model trained on frames warns when it is asked with an array
        expected = getattr(found.model, method)(given)
    answered = getattr(found.stand_in, method)(given)
    assert type(answered) is type(expected)
    assert (answered.dtype, answered.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(answered, expected, rtol=1e-6, atol=1e-9)
    else:
        assert answered.tolist() == expected.tolist()


class Counting:
    """A model that counts how often it is asked; everything else is the model's own.

    Args:
        model: The model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.asked = 0

    def predict(self, *given: Any, **named: Any) -> Any:
        """Count, and predict."""
        self.asked += 1
        return self.model.predict(*given, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def counted(found: Made, blobs: Blobs) -> tuple[Any, Counting]:
    """Return a stand-in whose original counts how often it is asked to predict."""
    way = next(way for way in ways_for(found.model) if way.kind == found.proven.kind)
    original = Counting(found.model)
    return assembled(original, way.build(found.model, found.proven.artifact, blobs), found.proven), original
