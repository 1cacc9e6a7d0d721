"""The rows of all times, taken in once into a store of their own: requests are drawn from them."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from penstock.core.clock import Clock
from penstock.core.errors import DataError, InputError, NotFoundError
from penstock.pipeline.graph import Graph
from penstock.project.intake import take_in
from penstock.project.targets import find_graph
from penstock.project.workspace import Workspace, open_store
from penstock.store.lake import Lake
from penstock.worker.rehearsal.arms import SOURCE, source_settings
from penstock.worker.rehearsal.records import Plan
from penstock.worker.rehearsal.requests import in_utc

_KINDS = (".parquet", ".csv", ".jsonl", ".ndjson", ".json")


def data_params(graph: Graph, data: Path) -> dict[str, Any]:
    """Return the run parameters that let each dataset with a parameter `path` read its file in a directory.

    A file belongs to the dataset it is named like, else to the one that names it by default; one that is left goes to
    the one dataset that is left.

    Raises:
        NotFoundError: A dataset has no file there.
    """
    defaults = {
        node.name: next(str(param.default) for param in node.params if param.name == "path")
        for node in graph.nodes
        if node.role == "dataset" and any(param.name == "path" for param in node.params)
    }
    files = sorted(path for path in data.iterdir() if path.suffix in _KINDS) if data.is_dir() else []
    found: dict[str, Path] = {}
    for name, default in defaults.items():
        fits = [path for path in files if path.stem == name] or [p for p in files if p.name == Path(default).name]
        if fits:
            found[name] = fits[0]
    missing, left = [name for name in defaults if name not in found], [p for p in files if p not in found.values()]
    if len(missing) == 1 and len(left) == 1:
        found[missing.pop()] = left[0]
    if missing or not defaults:
        what = f"no file for dataset {missing[0]!r}" if missing else f"nothing for {graph.pipeline!r}"
        hint = "name it like the dataset" if missing else "its datasets have no parameter `path`: say --param instead"
        raise NotFoundError(f"{str(data)!r} holds {what}.", hint=hint)
    return {f"{name}.path": str(path.resolve()) for name, path in found.items()}


def take_in_all(plan: Plan, *, root: Path, folder: Path) -> Graph:
    """Take in the rows of all times, see that the rehearsal fits them, and return the pipeline.

    Raises:
        DataError: A dataset cannot be read.
        InputError: No dataset has times, or the rehearsal begins before or ends after them.
    """
    with open_store(source_settings(plan, root=root, folder=folder), Clock()) as workspace:
        graph = find_graph(workspace, plan.pipeline)
        timed = {n.name: str(n.options["time"]) for n in graph.nodes if n.role == "dataset" and n.options.get("time")}
        if not timed:
            raise InputError(
                f"{plan.pipeline!r} cannot be rehearsed: none of its datasets has a time column.",
                hint='say which it is: @pipeline.dataset(time="...")',
            )
        taken = take_in(graph, workspace)
        if taken is not None and taken.failures:
            raise DataError(" ".join(taken.failures.values()), hint="see that the data is there: --data DIR, --param")
        _refuse_unfit(plan, _span(workspace, plan.pipeline, timed))
    return graph


def first_seen(plan: Plan, dataset: str, column: str, *, time: str, folder: Path) -> pl.DataFrame:
    """Return when each value of a column came first: the columns `value` and `first` (UTC)."""
    table = Lake(folder / SOURCE / "home" / "lake").table(plan.pipeline, dataset)
    version = table.latest()
    if version is None:
        raise DataError(f"No rows of {dataset!r} were taken in.", hint="remove the folder of the rehearsal")
    rows = table.scan(version).select(value=pl.col(column), first=pl.col(time)).drop_nulls()
    found = rows.group_by("value").agg(pl.col("first").min()).sort("first", "value").collect()
    return found.with_columns(pl.Series("first", [in_utc(moment) for moment in found["first"]]))


def _span(workspace: Workspace, pipeline: str, timed: Mapping[str, str]) -> tuple[datetime, datetime]:
    low, high = [], []
    for name, column in timed.items():
        table = workspace.lake.table(pipeline, name)
        version = table.latest()
        if version is None:
            continue
        found = table.scan(version).select(low=pl.col(column).min(), high=pl.col(column).max()).collect().row(0)
        if None not in found:
            low.append(in_utc(found[0]))
            high.append(in_utc(found[1]))
    if not low:
        raise InputError(f"{pipeline!r} cannot be rehearsed: its datasets have no rows.", hint="see the data")
    return min(low), max(high)


def _refuse_unfit(plan: Plan, span: tuple[datetime, datetime]) -> None:
    low, high = span
    reach = f"its data reach from {low:%Y-%m-%d} to {high:%Y-%m-%d}"
    if plan.start <= low:
        raise InputError(
            f"Nothing is known of {plan.pipeline!r} on {plan.start:%Y-%m-%d}: {reach}.", hint="start later"
        )
    if plan.at(plan.steps - 1) > high:
        most = int((high - plan.start) / timedelta(weeks=1))
        hint = f"say --weeks {most}" if most >= 1 else "start earlier"
        raise InputError(f"The rehearsal would end on {plan.end:%Y-%m-%d}: {reach}.", hint=hint)
