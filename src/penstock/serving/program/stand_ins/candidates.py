"""Models that a release may answer faster with: what could stand in for each, and the rows each is asked about.

Belongs here: making equivalents and gathering the rows to prove them on. Whether they are equal is told by `proof`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.core.records import Artifact
from penstock.serving.program.stand_ins.inputs import FORMS, Inputs, Rows
from penstock.serving.program.stand_ins.model import CALL, CalledStandIn, Compute, StandIn, Switch
from penstock.serving.program.stand_ins.way import Built, NotPossibleError, Way
from penstock.serving.program.stand_ins.ways import ways_for
from penstock.store.blobs import Blobs

# Rows beyond these prove no more and take time: they are thinned out evenly.
MOST_ROWS = 2000
_MADE_UP = 500
_SAMPLE = 32
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")


@dataclass(frozen=True, slots=True)
class Equivalent:
    """One way that worked out."""

    way: Way
    artifact: Artifact | None
    built: Built


class Candidate:
    """A model of a release, the equivalent that is tried for it now, and what it was asked.

    Args:
        model: As it was released.
        ways: Ways to an equivalent, the preferred one first.
        blobs: Where equivalents are kept.

    Attributes:
        equivalent: What could answer in its place; None when no way is left.
        refused: Why the ways before it could not, by kind.
        asked: Rows the model was given while it was watched.
    """

    def __init__(self, model: Any, ways: Iterable[Way], blobs: Blobs) -> None:
        self.model = model
        self.equivalent: Equivalent | None = None
        self.refused: dict[str, str] = {}
        self.asked: list[Rows] = []
        self._ways = iter(ways)
        self._blobs = blobs
        self.advance()

    def advance(self) -> None:
        """Go on to the next way that works out."""
        self.equivalent = None
        for way in self._ways:
            try:
                artifact = way.make(self.model, self._blobs)
                self.equivalent = Equivalent(way, artifact, way.build(self.model, artifact, self._blobs))
            except Exception as error:  # noqa: BLE001 -- converters raise anything; a model without an equivalent serves as it is
                self.refused[way.kind] = reason(error)
            else:
                return

    @property
    def inputs(self) -> Inputs:
        """How its rows are read, in whatever form they come."""
        assert self.equivalent is not None  # noqa: S101 -- asked of those that have one
        known = self.equivalent.built.inputs
        return Inputs(known.width, known.names, known.forms | frozenset(FORMS), known.narrow_integers)

    def watched(self) -> Any:
        """Return the model in a shape that notes the rows it is asked about, and answers itself."""
        if self.equivalent is None:
            return self.model
        names = list(self.equivalent.built.methods)
        kind = CalledStandIn if CALL in names else StandIn
        methods: dict[str, Compute] = dict.fromkeys(names, self._note)
        return kind(self.model, self.inputs, methods, Switch())

    def _note(self, rows: Rows) -> None:
        self.asked.append(rows.copy())  # the caller may use its array again

    def rows(self) -> Rows:
        """Return the rows it was asked about, each once, thinned out to `MOST_ROWS`."""
        if not self.asked:
            return np.empty((0, self.inputs.width))
        return thinned(np.unique(np.concatenate(self.asked), axis=0))


def candidate_of(model: Any, blobs: Blobs) -> Candidate | None:
    """Return what could stand in for a model; None when Penstock does not know its kind."""
    ways = ways_for(model)
    if not ways:
        return None
    return Candidate(model, ways, blobs)


def reason(error: Exception) -> str:
    """Return the first line of an error, without addresses: the same text on every run."""
    text = _ADDRESS.sub("0x", str(error).strip().partition("\n")[0])[:200]
    return text if isinstance(error, NotPossibleError) else f"{type(error).__name__}: {text}"


def thinned(rows: Rows) -> Rows:
    """Return every n-th row, so that `MOST_ROWS` at most are left."""
    return rows[:: max(1, -(-len(rows) // MOST_ROWS))]


def made_up(rows: Rows) -> tuple[Rows, Rows]:
    """Return rows in which each column is shuffled by itself, and a sample drawn from their means and deviations.

    The sample goes into the release: it holds no value of anybody's row.
    """
    dice = np.random.default_rng(0)
    mixed = dice.permuted(rows, axis=0)[:_MADE_UP]
    finite = np.where(np.isfinite(rows), rows, np.nan)
    known = np.isfinite(finite).any(axis=0)
    means, deviations = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    means[known], deviations[known] = np.nanmean(finite[:, known], axis=0), np.nanstd(finite[:, known], axis=0)
    return mixed, means + deviations * dice.normal(size=(_SAMPLE, rows.shape[1]))
