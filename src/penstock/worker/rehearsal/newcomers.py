"""How soon what is new in the data could be answered: values that answers name, first seen during the rehearsal."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from penstock.pipeline.graph import Edge
from penstock.project.workspace import Workspace
from penstock.releases.manifest import Manifest
from penstock.store import codecs
from penstock.worker.rehearsal.records import Made, Newcomer, Plan
from penstock.worker.rehearsal.source import first_seen

_SAMPLE = 50


@dataclass(frozen=True, slots=True)
class _Named:
    """A column that answers name things by, and the dataset with times that tells when each was new."""

    column: str
    dataset: str
    time: str


def newcomers(
    plan: Plan, workspace: Workspace, made: list[tuple[Made, Manifest]], answers: pl.DataFrame, *, folder: Path
) -> tuple[Newcomer, ...]:
    """Return how soon new values of each column that answers name could be answered by a release of an arm.

    A release knows a value when a frame that it answers from, or that its model was made from, has it beside its time.

    Args:
        plan: The rehearsal.
        workspace: The arm.
        made: Its releases, oldest first.
        answers: Its predictions, with `answer` as JSON.
        folder: Where the rehearsal is kept.
    """
    if not made:
        return ()
    told = []
    for named in _columns(made[-1][1], answers):
        first = first_seen(plan, named.dataset, named.column, time=named.time, folder=folder)
        fresh = first.filter(pl.col("first") > plan.start, pl.col("first") <= plan.end)
        landed = {value: _landed(plan, moment) for value, moment in fresh.iter_rows()}
        told.append(_told(named, landed, list(_knowing(named, workspace, made)), _shown(answers, named.column)))
    return tuple(told)


def _landed(plan: Plan, moment: datetime) -> datetime:
    """Return when a row could be taken in first: at the end of its step."""
    steps = -((plan.start - moment) // timedelta(seconds=plan.step_s))
    return plan.at(steps)


def _columns(manifest: Manifest, answers: pl.DataFrame) -> Iterator[_Named]:
    fields: dict[str, None] = {}
    for text in answers.filter(~pl.col("failed"))["answer"].head(_SAMPLE):
        for row in _rows(msgspec.json.decode(text)):
            fields |= dict.fromkeys(row)
    for name, version in sorted(manifest.datasets.items()):
        time = version.contract.get("time")
        columns = {column for column, _ in version.schema} if time else set()
        yield from (_Named(column, name, str(time)) for column in fields if column in columns and column != time)


def _rows(answer: Any) -> list[dict[str, Any]]:
    found = answer if isinstance(answer, list) else [answer]
    return [row for row in found if isinstance(row, dict)]


def _shown(answers: pl.DataFrame, column: str) -> set[Any]:
    found = set()
    for text in answers.filter(~pl.col("failed"))["answer"]:
        found |= {row[column] for row in _rows(msgspec.json.decode(text)) if column in row}
    return found


def _knowing(
    named: _Named, workspace: Workspace, made: list[tuple[Made, Manifest]]
) -> Iterator[tuple[datetime, set[Any]]]:
    for release, manifest in made:
        yield release.at, _known(named, workspace, manifest)


def _known(named: _Named, workspace: Workspace, manifest: Manifest) -> set[Any]:
    found: set[Any] = set()
    graph = manifest.graph
    waiting = [edge for node in graph.nodes if node.role in {"serve", "fallback"} for edge in node.edges if edge.node]
    looked: set[tuple[str, str]] = set()
    while waiting:
        edge = waiting.pop()
        if (edge.node, edge.source) in looked:
            continue
        looked.add((edge.node, edge.source))
        values = _values(named, edge, workspace, manifest)
        if values is None:
            waiting += [further for further in graph.node(edge.node).edges if further.node]
        else:
            found |= values
    return found


def _values(named: _Named, edge: Edge, workspace: Workspace, manifest: Manifest) -> set[Any] | None:
    """Return the values that a frame has beside their times; None where it is no such frame."""
    wanted = {named.column, named.time}
    version = manifest.datasets.get(edge.node)
    if version is not None:
        if not wanted <= {column for column, _ in version.schema}:
            return None
        table = workspace.lake.table(manifest.pipeline, edge.node)
        return set(
            table.scan(table.version(version.version)).select(pl.col(named.column).unique()).collect().to_series()
        )
    artifact = manifest.artifacts.get(f"{edge.node}/{edge.source}")
    if artifact is None or not wanted <= {column[0] for column in artifact.meta.get("columns", [])}:
        return None
    frame = codecs.load(artifact, workspace.blobs, form="polars")
    return set(frame[named.column].unique()) if isinstance(frame, pl.DataFrame) else None


def _told(
    named: _Named, landed: dict[Any, datetime], knowing: list[tuple[datetime, set[Any]]], shown: set[Any]
) -> Newcomer:
    waited: Counter[str] = Counter()
    days = []
    for value, moment in landed.items():
        later = [(at, known) for at, known in knowing if at >= moment]
        place = next((number for number, (_, known) in enumerate(later, start=1) if value in known), None)
        if place is not None:
            waited[str(place)] += 1
            days.append((later[place - 1][0] - moment) / timedelta(days=1))
    return Newcomer(
        column=named.column,
        new=len(landed),
        known=len(days),
        waited=dict(sorted(waited.items())),
        days=round(sum(days) / len(days), 3) if days else None,
        shown=len(shown & landed.keys()),
    )
