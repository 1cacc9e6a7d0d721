"""Modules of PyTorch from rows to rows, exported to ONNX and run by ONNX Runtime.

Belongs here: modules that take one table of 32-bit floats and give one. Images, texts and several inputs stay modules.
"""

from dataclasses import dataclass
from typing import Any

from penstock.core.records import Artifact
from penstock.serving.program.stand_ins.equality import SINGLE, Tolerance
from penstock.serving.program.stand_ins.inputs import TENSOR, Inputs, Rows
from penstock.serving.program.stand_ins.model import CALL
from penstock.serving.program.stand_ins.onnx import opened
from penstock.serving.program.stand_ins.way import Built, NotPossibleError
from penstock.store import codecs
from penstock.store.blobs import Blobs
from penstock.store.codecs.codec import libraries

_EXAMPLE_ROWS = 4


@dataclass(frozen=True, slots=True)
class OnnxModule:
    """Exports with PyTorch's own exporter and runs in ONNX Runtime, one thread per call."""

    kind: str = "onnx-module"
    tolerance: Tolerance = SINGLE

    def suits(self, model: object) -> bool:
        """Whether the model is a module of PyTorch."""
        return "torch" in libraries(type(model)) and hasattr(model, "state_dict")

    def make(self, model: Any, blobs: Blobs) -> Artifact | None:
        """Export the module, without the traces of where its code lies."""
        if model.training:
            raise NotPossibleError("it was released in training mode; call eval() before you return it")
        width = _width(model)
        import onnxscript  # noqa: F401, PLC0415 -- the exporter needs it and says so less plainly
        import torch  # noqa: PLC0415 -- optional dependency

        rows = torch.zeros(_EXAMPLE_ROWS, width)
        program = torch.onnx.export(
            model, (rows,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("rows")},), verbose=False
        )
        if program is None:
            raise NotPossibleError("PyTorch exported nothing")
        exported = program.model_proto
        if len(exported.graph.input) != 1 or len(exported.graph.output) != 1:
            raise NotPossibleError("it takes or gives more than one table")
        for node in exported.graph.node:
            del node.metadata_props[:]  # traces name files of this machine
            node.doc_string = ""
        return codecs.save(exported, blobs)

    def build(self, model: Any, artifact: Artifact | None, blobs: Blobs) -> Built:
        """Open a session."""
        import torch  # noqa: PLC0415 -- optional dependency

        if artifact is None:
            raise NotPossibleError("what it was exported to is not kept")
        session = opened(blobs.read(artifact.digest))
        name = session.get_inputs()[0].name

        def call(rows: Rows) -> Any:
            return torch.from_numpy(session.run(None, {name: rows.astype("float32")})[0])

        return Built(Inputs(_width(model), (), frozenset({TENSOR})), {CALL: call})


def _width(model: Any) -> int:
    first = next((part for part in model.modules() if hasattr(part, "in_features")), None)
    if first is None:
        raise NotPossibleError("it has no linear layer that says how many numbers a row has")
    return int(first.in_features)
