"""Requests to try a serve function with, taken from the data: columns named like the fields."""

from typing import Any

import polars as pl

from penstock.engine.arguments import value_of
from penstock.engine.protocol import Given, Task

_PLAIN = {"int": int, "float": float, "str": str, "bool": bool}


def sample_requests(task: Task, samples: tuple[Given, ...]) -> list[dict[str, Any]]:
    """Return requests with every required field, evenly spread over the distinct values of the sampled columns.

    Empty when a required field has no column of its name, or a type that no column can fill.
    """
    wanted = {f["name"]: f["type"] for f in task.extra["fields"] if f["required"]}
    if not all(kind in _PLAIN for kind in wanted.values()):
        return []
    if not wanted:
        return [{}]
    columns: dict[str, list[Any]] = {}
    for given in samples:
        frame: pl.LazyFrame = value_of(given, task)
        names = [n for n in wanted if n not in columns and n in frame.collect_schema().names()]
        if names:
            rows = frame.select(names).drop_nulls().unique().sort(names).collect()
            spread = rows.gather_every(max(1, rows.height // task.extra["samples"])).head(task.extra["samples"])
            columns |= {name: [_PLAIN[wanted[name]](v) for v in spread[name]] for name in names}
    if set(columns) != set(wanted) or not all(columns.values()):
        return []
    count = max(len(values) for values in columns.values())
    return [{name: values[i % len(values)] for name, values in columns.items()} for i in range(count)]
