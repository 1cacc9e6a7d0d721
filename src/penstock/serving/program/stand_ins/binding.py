"""Gives serve functions the equivalents that their release has proven, where they hold and pay on this machine too."""

from collections.abc import Callable
from typing import Any

import numpy as np
import structlog

from penstock.releases.manifest import Manifest
from penstock.releases.manifest import StandIn as Proven
from penstock.serving.program.stand_ins.equality import Tolerance, distance
from penstock.serving.program.stand_ins.inputs import Inputs, in_form
from penstock.serving.program.stand_ins.model import CALL, CalledStandIn, StandIn, Switch, switch_of
from penstock.serving.program.stand_ins.timing import WORTH, speedup
from penstock.serving.program.stand_ins.way import Built, NotPossibleError
from penstock.serving.program.stand_ins.ways import WAYS
from penstock.store import codecs
from penstock.store.blobs import Blobs

# What a function gets, given its name, the argument's name and the value loaded for it.
Bind = Callable[[str, str, Any], Any]
ORIGINAL = "original"
# Cold start pays for this; a model slower than it is measured by three calls.
_BUDGET_S = 0.005
_MANY = 512
_events = structlog.get_logger("penstock.serving")


class Binding:
    """Binds the equivalents of one release, each made once however many functions take it.

    Args:
        manifest: The release.
        blobs: Where they are kept.
    """

    def __init__(self, manifest: Manifest, blobs: Blobs) -> None:
        self._proven = manifest.stand_ins if manifest.policy.serve.equivalents else {}
        self._blobs = blobs
        self._bound: list[tuple[Any, Proven, Any]] = []

    def bind(self, function: str, argument: str, value: Any) -> Any:
        """Return the equivalent of a model, or the value itself.

        Raises:
            DamagedError: What is kept of the equivalent is not what was stored.
        """
        proven = self._proven.get(function, {}).get(argument)
        if proven is None:
            return value
        for original, known, found in self._bound:
            if original is value and known == proven:
                return found
        found = stand_in(value, proven, self._blobs)
        self._bound.append((value, proven, found))
        return found


def stand_in(original: Any, proven: Proven, blobs: Blobs) -> Any:
    """Return what answers in place of `original`: the equivalent, or the original where that is right or no slower.

    Args:
        original: The model, as it was released.
        proven: What the release says of it.
        blobs: Where the equivalent is kept; every byte of it is verified.

    Raises:
        DamagedError: What is kept of it is not what was stored.
    """
    way = next((way for way in WAYS if way.kind == proven.kind), None)
    if way is None:
        if proven.kind != ORIGINAL:
            _tell(original, proven, "this version of Penstock does not know its kind")
        return original
    try:
        built = way.build(original, proven.artifact, blobs)
    except (NotPossibleError, ImportError, AttributeError) as error:  # the last: inner parts of a library moved
        _tell(original, proven, str(error))
        return original
    found = assembled(original, built, proven)
    if proven.sample is None:
        return found
    sample: Any = codecs.load(proven.sample, blobs, verify="full")
    few = np.asarray(sample)
    many = np.tile(few, (_MANY // len(few), 1))
    form, names = proven.forms[0], built.inputs.names
    return _tried(found, original, proven, sample=in_form(few, form, names), many=in_form(many, form, names))


def assembled(original: Any, built: Built, proven: Proven) -> StandIn:
    """Return the object that stands in for a model, with only the methods and forms that were proven."""
    kind = CalledStandIn if CALL in proven.methods else StandIn
    inputs = Inputs(built.inputs.width, built.inputs.names, frozenset(proven.forms), built.inputs.narrow_integers)
    methods = {name: compute for name, compute in built.methods.items() if name in proven.methods}
    return kind(original, inputs, methods, Switch())


def _tried(found: StandIn, original: Any, proven: Proven, *, sample: Any, many: Any) -> Any:
    """Prove and measure once more: libraries and processors differ between machines."""
    tolerance = Tolerance(relative=proven.relative, absolute=proven.absolute)
    for method in proven.methods:
        if distance(getattr(original, method)(sample), getattr(found, method)(sample), tolerance) is None:
            _tell(original, proven, f"{method} does not answer the same here as where it was released")
            return original
    if not _pays(original, found, proven.methods[0], sample[:1], least=WORTH):
        _tell(original, proven, "it is not faster here")
        return original
    if not _pays(original, found, proven.methods[0], many, least=1.0):
        switch_of(found).most = len(sample)  # libraries that use several cores, or larger blocks, win on long tables
    return found


def _pays(original: Any, found: Any, method: str, rows: Any, *, least: float) -> bool:
    ask, answer = getattr(original, method), getattr(found, method)
    return speedup(lambda: ask(rows), lambda: answer(rows), budget_s=_BUDGET_S) >= least


def _tell(original: object, proven: Proven, why: str) -> None:
    _events.warning("stand_in_not_used", model=type(original).__qualname__, kind=proven.kind, why=why)
