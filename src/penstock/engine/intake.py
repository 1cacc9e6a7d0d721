"""Tasks on data: take new rows in, look how many there are, freeze a version for serving, cut frames by key."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from penstock import sources
from penstock.core import faults
from penstock.core.errors import DataError, SchemaError, StepError
from penstock.core.records import Artifact, CheckResult, DatasetVersion
from penstock.core.states import AttemptState
from penstock.engine.arguments import arguments_of, function_of
from penstock.engine.holding import held_back
from penstock.engine.protocol import Result, Task
from penstock.engine.served import read_of, served, takes_served, without_rows
from penstock.pipeline.graph import texts
from penstock.pipeline.params import bind_params
from penstock.store import codecs
from penstock.store.blobs import Blobs
from penstock.store.lake import IntakeRules, Lake, Table, since
from penstock.store.lake.align import align
from penstock.store.lake.quarantine import as_json

# Two independent 64-bit hashes of a row: a chance of 1e-20 that a changed row among ten million passes as known.
_SEEDS = (7919, 104729)
_HASHES = ["_penstock_hash_1", "_penstock_hash_2"]


def take_in(task: Task) -> Result:
    """Take the new rows of a dataset into the lake, as one commit."""
    table = _table(task)
    previous = table.latest()
    _refuse_changed_identity(task, previous)
    read = read_of(task)
    value = _value(task, previous)
    batches, cursor = _batches(task, table, previous, value)
    columns, batches = _columns_of(batches, previous)
    rules = IntakeRules(
        key=texts(task.node.options.get("key")),
        time=task.node.options.get("time"),
        contract=_contract(task, columns),
        expected_version=previous.version if previous is not None else 0,
        cursor=cursor,
        taken_at=datetime.fromisoformat(task.extra["taken_at"]),
        empty=without_rows(value) if takes_served(task.node) else None,
    )
    version = table.intake(batches, rules)
    found = version or previous
    if found is None:
        raise DataError(
            f"Dataset {task.node.name!r} has no rows yet: its function returned none.",
            hint="check the path or query in it, and call the function by itself with since=None",
        )
    return Result(
        id=task.id,
        state=AttemptState.SUCCEEDED,
        dataset=found,
        checks=(_schema_check(task.node.name, table, found, read),),
        facts={"is_new": version is not None},
    )


def peek(task: Task) -> Result:
    """Count the rows an intake would add, without taking any in; None where that would mean reading a stream."""
    table = _table(task)
    previous = table.latest()
    _refuse_changed_identity(task, previous)
    value = _value(task, previous)
    counted: int | None = None
    if isinstance(value, pl.LazyFrame | pl.DataFrame) and (previous is None or _asks_since(task)):
        counted = int(value.lazy().select(pl.len()).collect().item())
    elif previous is not None and not _asks_since(task) and not isinstance(value, sources.Source):
        batches, _ = sources.to_batches(value, None)
        counted = sum(batch.height for batch in _changes(table, previous, batches))
    return Result(id=task.id, state=AttemptState.SUCCEEDED, dataset=previous, facts={"new_rows": counted})


def _refuse_changed_identity(task: Task, previous: DatasetVersion | None) -> None:
    """Refuse another key or time column than the rows were taken in by: older versions would mean something else."""
    if previous is None:
        return
    options, agreed = task.node.options, previous.contract
    for word, declared in (("key", list(texts(options.get("key")))), ("time", options.get("time"))):
        if word in agreed and (agreed[word] or None) != (declared or None):
            raise DataError(
                f"Dataset {task.node.name!r} was taken in with {word} {agreed[word] or None!r}, "
                f"and is now declared with {declared or None!r}.",
                hint=f"declare the {word} as it was, or give the dataset a new name: it is then taken in anew",
            )


def freeze(task: Task) -> Result:
    """Write a dataset version as one frame, so that serving needs blobs only."""
    frame = arguments_of(task)["dataset"]
    artifact = codecs.save(frame, Blobs(Path(task.place.home) / "blobs"))
    return Result(id=task.id, state=AttemptState.SUCCEEDED, outputs={task.node.outputs[0]: artifact})


def split(task: Task) -> Result:
    """Cut every given frame into one artifact per key of a column, in the order of the keys as text."""
    column = task.extra["column"]
    blobs = Blobs(Path(task.place.home) / "blobs")
    parts: dict[str, dict[str, Artifact]] = {}
    keys: dict[str, Any] = {}
    for argument, value in arguments_of(task).items():
        frame = value.collect() if isinstance(value, pl.LazyFrame) else pl.DataFrame(value)
        for (key,), rows in frame.partition_by(column, as_dict=True, maintain_order=True).items():
            if key is None:
                raise StepError(
                    f"Step {task.node.name!r} fans out over {column!r}, which is null in {rows.height} rows of "
                    f"{argument!r}.",
                    hint=f"drop those rows before, or give {column!r} a value",
                )
            text = _part_name(key)
            keys[text] = key if isinstance(key, int | float | str | bool) else text
            parts.setdefault(text, {})[argument] = codecs.save(rows, blobs)
    return Result(id=task.id, state=AttemptState.SUCCEEDED, parts=parts, facts={"keys": keys})


def _part_name(key: object) -> str:
    """Return the name of a key's part; in quotes where the bare name has another meaning."""
    text = str(key)
    # "" is the part of a node that is no fan-out, "#split" that of the cutting itself.
    return f'"{text}"' if text.strip('"') in {"", "#split"} else text


def _table(task: Task) -> Table:
    return Lake(Path(task.place.home) / "lake").table(task.pipeline, task.node.name)


def _asks_since(task: Task) -> bool:
    return any(edge.source == "since" for edge in task.node.edges)


def _value(task: Task, previous: DatasetVersion | None) -> object:
    function = function_of(task)
    words = {"since": since(previous), "now": datetime.fromisoformat(task.extra["now"])}
    given = {edge.argument: words[edge.source] for edge in task.node.edges if edge.source in words}
    given |= served(task, function)
    faults.point("attempt_in_user_code")
    return function(**given, **bind_params(function, task.params))


def _batches(
    task: Task, table: Table, previous: DatasetVersion | None, value: object
) -> tuple[Iterator[Any], Callable[[], Any] | None]:
    if task.extra.get("as_of") is not None and task.node.options.get("time") is not None:
        return held_back(sources.to_batches(value, None)[0], task, since(previous)), None
    batches, cursor = sources.to_batches(value, since(previous))
    if cursor is None and previous is not None and not _asks_since(task):
        return _changes(table, previous, batches), None
    return batches, cursor


def _changes(table: Table, previous: DatasetVersion, batches: Iterator[Any]) -> Iterator[pl.DataFrame]:
    """Leave only rows that are new or differ: a function without `since` returns everything every time.

    Rows that are gone from the source stay: a dataset forgets nothing by itself.
    """
    schema = table.scan(previous).collect_schema()
    known = _hashed(table.scan(previous).collect())
    set_aside = table.quarantine().select("_row").unique().collect()
    for batch in batches:
        frame = batch if isinstance(batch, pl.DataFrame) else pl.DataFrame(pl.from_arrow(batch))
        if set(frame.columns) != set(schema.names()):
            yield frame  # the lake says what is wrong with the columns
            continue
        try:
            aligned = align(frame, schema)
        except SchemaError:
            yield frame  # and what is wrong with their types
            continue
        same = _hashed(aligned.frame)
        for failed, _ in aligned.failed.values():  # what is no value of its column is like no row that is known
            same = same.with_columns(pl.when(~failed).then(pl.col(_HASHES)))
        fresh = pl.concat([frame, same], how="horizontal").join(known, on=_HASHES, how="anti", maintain_order="left")
        fresh = _without(set_aside, fresh.drop(_HASHES), schema)
        if fresh.height:
            yield fresh


def _without(set_aside: pl.DataFrame, fresh: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Leave out rows that were set aside before: the source still has them, and they are still broken."""
    if not set_aside.height or not fresh.height:
        return fresh
    texts = as_json(align(fresh, schema).original)
    return fresh.filter(~texts.is_in(set_aside["_row"].implode()))


def _hashed(frame: pl.DataFrame) -> pl.DataFrame:
    hashes = [frame.hash_rows(seed).alias(name) for name, seed in zip(_HASHES, _SEEDS, strict=True)]
    return pl.DataFrame(hashes)


def _columns_of(batches: Iterator[Any], previous: DatasetVersion | None) -> tuple[list[str], Iterator[Any]]:
    """Return the columns agreed, or those of the first batch before anything is; and the batches, none lost."""
    if previous is not None:
        return [column for column, _ in previous.schema], batches
    first = next(batches, None)
    if first is None:
        return [], batches
    names = first.columns if isinstance(first, pl.DataFrame) else first.schema.names
    return list(names), itertools.chain([first], batches)


def _contract(task: Task, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what rows must obey: declared ranges, and no nulls where the user lists the columns that may have them."""
    contract: dict[str, dict[str, Any]] = {}
    for column, (low, high) in (task.node.options.get("ranges") or {}).items():
        contract[column] = {name: bound for name, bound in (("min", low), ("max", high)) if bound is not None}
    nullable = task.node.options.get("allow_nulls")
    if nullable is not None:
        for column in columns:
            if column not in texts(nullable):
                contract.setdefault(column, {})["nulls"] = False
    return contract


def _schema_check(name: str, table: Table, version: DatasetVersion, read: dict[str, str]) -> CheckResult:
    aside = f"; {version.rows_quarantined} rows set aside" if version.rows_quarantined else ""
    return CheckResult(
        name=f"schema:{name}",
        passed=True,
        built_in=True,
        message=f"{version} has the {len(version.schema)} columns agreed at its first intake{aside}.",
        evidence={
            "rows": version.rows,
            "quarantined": version.rows_quarantined,
            "reasons": version.reasons,
            "notes": list(table.notes(version)),
            **({"read": read} if read else {}),
        },
    )
