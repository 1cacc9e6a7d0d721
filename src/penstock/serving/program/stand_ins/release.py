"""Finds the equivalents of a release and proves them, in the process that proves that the release can be served."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.plain import built_in
from penstock.core.records import Record
from penstock.releases.manifest import Example, Manifest
from penstock.releases.manifest import StandIn as Proven
from penstock.serving.program.load import Program, ServeFunction
from penstock.serving.program.stand_ins.asked import Data, ask_as_evaluated
from penstock.serving.program.stand_ins.binding import ORIGINAL, stand_in
from penstock.serving.program.stand_ins.candidates import Candidate, candidate_of
from penstock.serving.program.stand_ins.equality import Tolerance, first_difference
from penstock.serving.program.stand_ins.proof import gains, proven_for
from penstock.store.blobs import Blobs
from penstock.store.lake import Lake

Proofs = dict[str, dict[str, Proven]]


class Found(Record, frozen=True, kw_only=True):
    """What was proven of a release, and what was measured of it.

    Attributes:
        stand_ins: What goes into the manifest.
        gains: By function and argument, how many times faster here: {"one_row": 104.2, "thousand_rows": 12.0}.
    """

    stand_ins: Proofs = {}
    gains: dict[str, dict[str, dict[str, float]]] = {}


class Models:
    """Notes the models of known kinds that a program is given: a `Bind` for `load_program`.

    Args:
        blobs: Where equivalents are kept.
    """

    def __init__(self, blobs: Blobs) -> None:
        self.candidates: dict[tuple[str, str], Candidate] = {}
        self._blobs = blobs

    def bind(self, function: str, argument: str, value: Any) -> Any:
        """Note the value if it is such a model, and return it as it is."""
        known = next((c for c in self.candidates.values() if c.model is value), None)
        candidate = known or candidate_of(value, self._blobs)
        if candidate is not None:
            self.candidates[function, argument] = candidate
        return value


def find_stand_ins(manifest: Manifest, program: Program, models: Models, home: Path) -> Found:
    """Prove equivalents of a program's models, and have its functions answer the example requests with them.

    Args:
        manifest: The release.
        program: The release, loaded.
        models: What `program` was given.
        home: The project's store; its lake has the datasets.
    """
    blobs = Blobs(home / "blobs")
    data = Data(manifest, blobs, Lake(home / "lake"))
    makers = {node.name: {edge.argument: edge.node for edge in node.edges} for node in manifest.graph.nodes}
    functions = {one.name: (one, serve.name) for serve in program.functions.values() for one in _both(serve)}
    proven: dict[int, Proven] = {}
    found: Proofs = {}
    gained: dict[str, dict[str, dict[str, float]]] = {}
    for (name, argument), candidate in models.candidates.items():
        asked = _Asked(*functions[name], argument, manifest.examples) if name in functions else None
        if id(candidate) not in proven:
            _watch(candidate, asked, makers[name][argument], data)
            proven[id(candidate)] = proven_for(candidate, blobs)
        one = proven[id(candidate)]
        if one.kind != ORIGINAL and asked is not None:
            one = asked.confirmed(candidate, one, blobs)
        found.setdefault(name, {})[argument] = one
        if one.kind != ORIGINAL:
            gained.setdefault(name, {})[argument] = gains(candidate, one)
    return Found(stand_ins=found, gains=gained)


def _watch(candidate: Candidate, asked: "_Asked | None", model_node: str, data: Data) -> None:
    """Gather the rows to prove it on: those of its evaluation, and those of the example requests."""
    if candidate.equivalent is None:
        return
    ask_as_evaluated(candidate, model_node, data)
    if asked is not None:
        asked.watch(candidate)


def _both(function: ServeFunction) -> tuple[ServeFunction, ...]:
    return (function,) if function.fallback is None else (function, function.fallback)


class _Asked:
    """A function with the requests it can be asked; a fallback is asked those of the function it answers for."""

    def __init__(
        self, function: ServeFunction, serve: str, argument: str, examples: Mapping[str, tuple[Example, ...]]
    ) -> None:
        self._function, self._argument = function, argument
        self._requests = [msgspec.json.encode(example.fields) for example in examples.get(serve, ())]

    def watch(self, candidate: Candidate) -> None:
        """Answer the requests with a model that notes what it is asked."""
        watched = self._function.given(**{self._argument: candidate.watched()})
        for request in self._requests:
            _answer(watched, request)

    def confirmed(self, candidate: Candidate, proven: Proven, blobs: Blobs) -> Proven:
        """Return the proof once the requests have been answered the same by the equivalent, bound as a worker does."""
        bound = stand_in(candidate.model, proven, blobs)
        tolerance = Tolerance(relative=proven.relative, absolute=proven.absolute)
        compiled = self._function.given(**{self._argument: bound})
        for request in self._requests:
            expected = _answer(self._function, request)
            what = first_difference(expected, _answer(compiled, request), tolerance)
            if what is not None and first_difference(expected, _answer(self._function, request), tolerance) is None:
                return Proven(kind=ORIGINAL, refused={**proven.refused, proven.kind: f"an example request: {what}"})
        return msgspec.structs.replace(proven, requests=len(self._requests))


def _answer(function: ServeFunction, request: bytes) -> Any:
    try:
        return built_in(function.values(function.fields.parse(request)).to_list())
    except Exception as error:  # noqa: BLE001 -- user code may raise anything; that too is an answer that can differ
        return f"raised {type(error).__qualname__}"
