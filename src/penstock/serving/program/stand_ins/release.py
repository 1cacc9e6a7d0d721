"""Finds the equivalents of a release and proves them, in the process that proves that the release can be served."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.errors import PenstockError
from penstock.core.plain import built_in
from penstock.core.records import Record
from penstock.releases.manifest import Example, Manifest
from penstock.releases.manifest import StandIn as Proven
from penstock.serving.program.load import Program, load_program
from penstock.serving.program.stand_ins.asked import Data, ask_as_evaluated
from penstock.serving.program.stand_ins.binding import ORIGINAL
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


class Watch:
    """Watches the known models of a program while it answers: a `Bind` for `load_program`.

    Args:
        blobs: Where equivalents are kept.
    """

    def __init__(self, blobs: Blobs) -> None:
        self.candidates: dict[tuple[str, str], Candidate] = {}
        self._blobs = blobs

    def bind(self, function: str, argument: str, value: Any) -> Any:
        """Return the value, or a shape of it that notes what it is asked and answers itself."""
        known = next((c for c in self.candidates.values() if c.model is value), None)
        candidate = known or candidate_of(value, self._blobs)
        if candidate is None:
            return value
        self.candidates[function, argument] = candidate
        return candidate.watched()


def find_stand_ins(manifest: Manifest, watch: Watch, blobs: Blobs, home: Path) -> Found:
    """Prove equivalents of the models that `watch` saw, and have the serve functions answer with them.

    Args:
        manifest: The release, whose example requests were answered by a program that `watch` was bound to.
        watch: What it saw.
        blobs: Where equivalents are kept.
        home: The project's store: its lake has the datasets, its code snapshots are laid out.
    """
    data = Data(manifest, blobs, Lake(home / "lake"))
    nodes = {node.name: {edge.argument: edge.node for edge in node.edges} for node in manifest.graph.nodes}
    proven: dict[int, Proven] = {}
    stand_ins: Proofs = {}
    for (function, argument), candidate in watch.candidates.items():
        if id(candidate) not in proven:
            if candidate.equivalent is not None:
                ask_as_evaluated(candidate, nodes[function][argument], data)
            proven[id(candidate)] = proven_for(candidate, blobs)
        stand_ins.setdefault(function, {})[argument] = proven[id(candidate)]
    stand_ins = _asked(msgspec.structs.replace(manifest, stand_ins=stand_ins), blobs, home / "code")
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for (function, argument), candidate in watch.candidates.items():
        if stand_ins[function][argument].kind != ORIGINAL:
            measured.setdefault(function, {})[argument] = gains(candidate, stand_ins[function][argument])
    return Found(stand_ins=stand_ins, gains=measured)


def _asked(manifest: Manifest, blobs: Blobs, code_root: Path) -> Proofs:
    """Return what is proven once the example requests were answered by equivalents, bound as a worker binds them."""
    if all(one.kind == ORIGINAL for proofs in manifest.stand_ins.values() for one in proofs.values()):
        return manifest.stand_ins
    program = load_program(manifest, blobs, code_root)
    found: Proofs = {}
    for function, proofs in manifest.stand_ins.items():
        examples = manifest.examples.get(function, ())
        differs = _difference(program, function, examples, _widest(proofs)) if function in program.functions else None
        found[function] = {
            argument: one if one.kind == ORIGINAL else _with_requests(one, len(examples), differs)
            for argument, one in proofs.items()
        }
    return found


def _with_requests(proven: Proven, requests: int, differs: str | None) -> Proven:
    if differs is None:
        return msgspec.structs.replace(proven, requests=requests)
    return Proven(kind=ORIGINAL, refused={**proven.refused, proven.kind: f"an example request: {differs}"})


def _widest(proofs: Mapping[str, Proven]) -> Tolerance:
    return Tolerance(
        relative=max(one.relative for one in proofs.values()), absolute=max(one.absolute for one in proofs.values())
    )


def _difference(program: Program, name: str, examples: tuple[Example, ...], tolerance: Tolerance) -> str | None:
    function = program.function(name)
    for example in examples:
        fields = function.fields.parse(msgspec.json.encode(example.fields))
        try:
            pair = [built_in(asked.values(fields).to_list()) for asked in (function.original, function)]
        except PenstockError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 -- the user's function is called here; what it raises only with an equivalent refuses it
            return f"raised {type(error).__name__}"
        found = first_difference(pair[0], pair[1], tolerance)
        if found is not None:
            return found
    return None
