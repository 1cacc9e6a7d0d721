"""Requests to try a serve function with, taken from the data: columns named like the fields, or rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from penstock.core.errors import StepError
from penstock.core.plain import json_ready
from penstock.core.records import Record
from penstock.engine.arguments import in_form, value_of
from penstock.engine.protocol import Given, Task
from penstock.pipeline.graph import Form, rows_form, texts

_PLAIN = {"int": int, "float": float, "str": str, "bool": bool}


class SampledRows(Record, frozen=True, kw_only=True):
    """Rows to ask a function of rows about.

    Attributes:
        field: The field that takes them.
        columns: Name and polars type of each; those of an array are numbered.
        requests: The same rows as plain JSON: objects, or lists of numbers.
    """

    field: str
    columns: tuple[tuple[str, str], ...]
    requests: list[Any]
    given: Any
    form: str

    def part(self, start: int, count: int) -> Any:
        """Return some of the rows in the form that the function wants."""
        if isinstance(self.given, np.ndarray):
            return self.given[start : start + count]
        form: Form = self.form  # type: ignore[assignment]  # one of the four forms of rows
        return in_form(self.given.slice(start, count).lazy(), form)


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


def sample_rows(task: Task, samples: tuple[Given, ...]) -> SampledRows | None:
    """Return rows for a function of rows: the user's examples, or rows of what its model was given.

    None when the function takes no rows, or nothing is there to sample from, or other fields are required too.

    Raises:
        StepError: The declared columns are not among those of the sampled frame.
    """
    field = next((f for f in task.extra["fields"] if rows_form(f["type"])), None)
    if field is None or any(f["required"] and f is not field for f in task.extra["fields"]):
        return None
    form = str(rows_form(field["type"]))
    if task.extra["examples"]:
        sent = [row for example in task.extra["examples"] for row in example.get(field["name"], [])]
        return _sampled(field["name"], form, np.asarray(sent, float) if form == "numpy" else pl.DataFrame(sent))
    if not samples:
        return None
    return _sampled(field["name"], form, _spread(task, value_of(samples[0], task), form))


def _spread(task: Task, found: pl.LazyFrame | np.ndarray[Any, Any], form: str) -> Any:
    count = task.extra["samples"]
    if isinstance(found, np.ndarray):
        rows = np.asarray(found[:: max(1, len(found) // count)][:count], dtype=np.float64)
        return rows if form == "numpy" else pl.DataFrame(rows)
    columns = _declared(task, found.collect_schema().names())
    total = found.select(pl.len()).collect().item()
    frame = found.select(columns).gather_every(max(1, total // count)).head(count).collect()
    return frame.to_numpy().astype(np.float64) if form == "numpy" else frame


def _declared(task: Task, there: Sequence[str]) -> list[str]:
    declared = texts(task.extra["columns"])
    missing = [name for name in declared if name not in there]
    if missing:
        raise StepError(
            f"Serve {task.node.name.partition(':')[2]!r} declares the column {missing[0]!r}, which is not among "
            f"{', '.join(map(repr, there[:20]))}.",
            hint="columns=[...] of @serve names columns of what the model was given",
        )
    return list(declared or there)


def _sampled(field: str, form: str, rows: Any) -> SampledRows:
    if isinstance(rows, np.ndarray):
        columns = tuple((str(number), "Float64") for number in range(rows.shape[1]))
        return SampledRows(field=field, columns=columns, requests=rows.tolist(), given=rows, form=form)
    schema = tuple((name, str(dtype)) for name, dtype in rows.schema.items())
    return SampledRows(field=field, columns=schema, requests=json_ready(rows), given=rows, form=form)
