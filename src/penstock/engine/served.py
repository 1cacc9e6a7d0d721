"""What a dataset function may take of its own pipeline's service: the served answers, and what was said of them."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from penstock.core.records import DatasetVersion
from penstock.engine.arguments import in_form
from penstock.engine.protocol import Task
from penstock.pipeline.annotations import Reader
from penstock.pipeline.graph import Node
from penstock.store.lake import Lake
from penstock.store.served import FEEDBACK, PREDICTIONS, SCHEMAS

_TABLES = {"predictions": PREDICTIONS, "feedback": FEEDBACK}


def takes_served(node: Node) -> bool:
    """Return whether a dataset is made from what the pipeline itself has served."""
    return any(edge.source in _TABLES for edge in node.edges)


def served(task: Task, function: Callable[..., object]) -> dict[str, Any]:
    """Return the tables that a dataset function takes, by argument, in the forms that its annotations ask for.

    They hold what was taken into the lake; what a server still writes comes with a later intake.
    """
    given = {edge.argument: _TABLES[edge.source] for edge in task.node.edges if edge.source in _TABLES}
    parameters = inspect.signature(function).parameters
    found: dict[str, Any] = {}
    for argument, name in given.items():
        wanted = Reader().read(parameters[argument].annotation, function)
        frame = _newest(task, name)
        found[argument] = in_form(frame, (wanted.form if wanted is not None else None) or "lazy")
    return found


def read_of(task: Task) -> dict[str, str]:
    """Return the versions that an intake of now would read, "serve.feedback@3" by argument."""
    versions = {
        edge.argument: _version(task, _TABLES[edge.source]) for edge in task.node.edges if edge.source in _TABLES
    }
    return {argument: str(version) for argument, version in versions.items() if version is not None}


def without_rows(value: object) -> pl.DataFrame | None:
    """Return the columns of what a dataset function returned: nobody has said anything yet, and that is no mistake."""
    return value.lazy().limit(0).collect() if isinstance(value, pl.LazyFrame | pl.DataFrame) else None


def _version(task: Task, name: str) -> DatasetVersion | None:
    return Lake(Path(task.place.home) / "lake").table(task.pipeline, name).latest()


def _newest(task: Task, name: str) -> pl.LazyFrame:
    version, schema = _version(task, name), SCHEMAS[name]
    if version is None:
        return pl.LazyFrame(schema=schema)
    frame = Lake(Path(task.place.home) / "lake").table(task.pipeline, name).scan(version)
    known = frame.collect_schema()
    # A table that an older Penstock made lacks columns that came later.
    absent = [pl.lit(None, dtype).alias(column) for column, dtype in schema.items() if column not in known]
    return frame.with_columns(absent).select(list(schema))
