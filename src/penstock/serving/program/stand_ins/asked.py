"""Asks a model what its evaluation asked: the pipeline's own rows, as the pipeline's own code gives them to it.

This runs user code, in the process that proves a release.
"""

import contextlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from penstock.core.errors import PenstockError
from penstock.core.records import Artifact
from penstock.engine.arguments import in_form
from penstock.pipeline.graph import Edge, Node
from penstock.releases.manifest import Manifest
from penstock.serving.program.stand_ins.candidates import MOST_ROWS, Candidate
from penstock.store import codecs
from penstock.store.blobs import Blobs
from penstock.store.lake import Lake

_FRAMES = frozenset({"lazy", "polars", "pandas", "arrow"})


@dataclass(frozen=True, slots=True)
class Data:
    """Where the rows of a release's pipeline are: its artifacts, and its datasets in the lake."""

    manifest: Manifest
    blobs: Blobs
    lake: Lake

    def value(self, edge: Edge) -> Any:
        """Return what an edge gave a function in the pipeline; of a frame, a part.

        Raises:
            PenstockError: It is damaged, or not here.
            LookupError: It was not kept.
        """
        if edge.form in _FRAMES:
            return in_form(self.part(edge), edge.form)
        return codecs.load(self._artifact(edge), self.blobs, form=edge.form)

    def part(self, edge: Edge) -> pl.LazyFrame:
        """Return every n-th row of a frame, `MOST_ROWS` at most."""
        if edge.node in self.manifest.datasets:
            table = self.lake.table(self.manifest.pipeline, edge.node)
            version = table.version(self.manifest.datasets[edge.node].version)
            return _thinned(table.scan(version), version.rows)
        artifact = self._artifact(edge)
        frame: Any = codecs.load(artifact, self.blobs, form="lazy")
        return _thinned(frame, artifact.rows or 0)

    def _artifact(self, edge: Edge) -> Artifact:
        return self.manifest.artifacts[f"{edge.node}/{edge.source}"]


def _thinned(frame: pl.LazyFrame, rows: int) -> pl.LazyFrame:
    return frame.gather_every(max(1, -(-rows // MOST_ROWS)))


def ask_as_evaluated(candidate: Candidate, model_node: str, data: Data) -> str:
    """Evaluate a watched model on a part of the rows it was judged by; rows go to `candidate.asked`.

    The code must be importable already. Where the evaluation does not ask this model, or cannot be done on a part of
    its rows, the frames it was given and the model learned from are used, as far as they have the model's features.

    Returns:
        Why the evaluation could not be used; "" where it could.
    """
    why = "the pipeline has no evaluation of it"
    before = len(candidate.asked)
    for node in _evaluations(data.manifest, model_node):
        try:
            _function(node)(**_arguments(node, candidate, data))
        except Exception as error:  # noqa: BLE001 -- user code on a part of its rows may raise anything; other rows are found below
            why = f"{node.name!r} raised {type(error).__name__} on a part of its rows"
    if len(candidate.asked) > before:
        return ""
    for frame in _frames(data, model_node):
        rows = _features(frame, candidate)
        if rows is not None and len(rows):
            candidate.asked.append(rows)
    return why


def _evaluations(manifest: Manifest, model_node: str) -> Iterator[Node]:
    judged = {node.name for node in manifest.graph.nodes if node.role in {"model", "baseline"}}
    for node in manifest.graph.nodes:
        if node.role == "evaluate" and model_node in judged and any(edge.source == "model" for edge in node.edges):
            yield node


def _function(node: Node) -> Any:
    module, _, qualname = node.function.partition(":")
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found


def _arguments(node: Node, candidate: Candidate, data: Data) -> dict[str, Any]:
    given: dict[str, Any] = dict(data.manifest.params.get(node.name, {}))
    for edge in node.edges:
        if edge.form == "word" and edge.source == "model":
            given[edge.argument] = candidate.watched()
        elif edge.form == "word" and edge.source == "now" and data.manifest.now is not None:
            given[edge.argument] = datetime.fromisoformat(data.manifest.now)
        else:
            given[edge.argument] = data.value(edge)
    return given


def _frames(data: Data, model_node: str) -> Iterator[pl.DataFrame]:
    nodes = [node for node in data.manifest.graph.nodes if node.role == "evaluate" or node.name == model_node]
    for edge in (edge for node in nodes for edge in node.edges):
        # What was not kept, or has gone since, cannot be asked about; the proof says on how many rows it stands.
        with contextlib.suppress(LookupError, PenstockError):
            if edge.form in _FRAMES:
                yield data.part(edge).collect()


def _features(frame: pl.DataFrame, candidate: Candidate) -> Any:
    """Return the columns that the model has learned from, by name; by count where it does not know their names."""
    names = list(candidate.inputs.names)
    numbers = [name for name, dtype in frame.schema.items() if dtype.is_numeric()]
    if names:
        chosen = names if set(names) <= set(numbers) else []
    else:
        chosen = numbers if len(numbers) == candidate.inputs.width else []
    return np.ascontiguousarray(frame.select(chosen).to_numpy(), np.float64) if chosen else None
