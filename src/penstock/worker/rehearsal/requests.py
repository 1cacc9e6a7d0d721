"""Who asks what: requests drawn from the rows of each step, the same in every arm and each time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from penstock.core.digest import digest_value
from penstock.core.errors import InputError
from penstock.core.plain import plain
from penstock.pipeline.graph import Graph, Node, rows_form
from penstock.serving.processes.ask import Ask
from penstock.store.lake import Lake
from penstock.worker.rehearsal.records import Plan

_APART = timedelta(milliseconds=1)  # as fine as the time in a prediction's id


@dataclass(frozen=True, slots=True)
class Asker:
    """Where the requests to one serve function come from.

    Attributes:
        columns: Columns of the dataset that are its fields.
        rows_field: The field that takes rows, where it takes some: each request then holds one.
        time: Time column of the dataset; None: each step draws from all rows.
    """

    function: str
    dataset: str
    columns: tuple[str, ...]
    rows_field: str | None
    time: str | None


def askers(
    graph: Graph, inputs: Mapping[str, tuple[tuple[str, str], ...]], schemas: Mapping[str, set[str]]
) -> list[Asker]:
    """Return where the requests to each serve function come from, for those whose fields are columns of a dataset.

    Args:
        graph: The pipeline.
        inputs: Columns of the rows that each function of rows takes, as released.
        schemas: Columns of each dataset.

    Raises:
        InputError: There is none.
    """
    datasets = {node.name: node.options.get("time") for node in graph.nodes if node.role == "dataset"}
    names = sorted((name for name in datasets if name in schemas), key=lambda name: datasets[name] is None)
    found: list[Asker] = []
    serving = [node for node in graph.nodes if node.role == "serve"]
    for node in serving:
        rows_field = next((param.name for param in node.params if rows_form(param.type)), None)
        columns = _fields(node, rows_field, inputs)
        source = next((name for name in names if columns and set(columns) <= schemas[name]), None)
        if source is not None:
            found.append(Asker(node.name, source, columns, rows_field, datasets[source]))
    if not found:
        wanted = "; ".join(f"{node.name}({', '.join(_fields(node, None, inputs))})" for node in serving) or "none"
        raise InputError(
            f"Nobody can ask {graph.pipeline!r}: its serve functions ({wanted}) take fields that no dataset has.",
            hint="a rehearsal asks with the rows of a dataset: name the required fields like its columns",
        )
    return found


def _fields(node: Node, rows_field: str | None, inputs: Mapping[str, tuple[tuple[str, str], ...]]) -> tuple[str, ...]:
    required = [param.name for param in node.params if param.required and param.name != rows_field]
    rows = [] if rows_field is None else [column for column, _ in inputs.get(node.name, ())]
    return (*required, *rows)


def draw(plan: Plan, step: int, found: list[Asker], source: Path) -> list[Ask]:
    """Return the requests of a step in their order.

    Who has a row in the step asks at a moment between the step's beginning and that row: before it is known.

    Args:
        plan: The rehearsal.
        step: Number of the step.
        found: Where requests come from; each gives its share.
        source: The store that holds all rows of all times.
    """
    rng = np.random.default_rng(int(digest_value([plan.seed, step])[:15], 16))
    asks: list[Ask] = []
    for place, asker in enumerate(found):
        share = plan.asks // len(found) + (place < plan.asks % len(found))
        asks += _asks_of(asker, share, plan, step, rows=_rows(asker, plan, step, source), rng=rng)
    return _apart(sorted(asks, key=lambda ask: (ask.at, ask.function, ask.body)), plan, step)


def _rows(asker: Asker, plan: Plan, step: int, source: Path) -> pl.DataFrame:
    table = Lake(source / "lake").table(plan.pipeline, asker.dataset)
    version = table.latest()
    if version is None:
        return pl.DataFrame()
    rows = table.scan(version)
    wanted = [*dict.fromkeys([*asker.columns, *([asker.time] if asker.time else [])])]
    if asker.time is not None:
        kind = rows.collect_schema()[asker.time]
        column = pl.col(asker.time)
        rows = rows.filter(column > as_kind(plan.at(step), kind), column <= as_kind(plan.at(step + 1), kind))
    return rows.select(wanted).drop_nulls().collect().sort(wanted)


def _asks_of(
    asker: Asker, count: int, plan: Plan, step: int, *, rows: pl.DataFrame, rng: np.random.Generator
) -> list[Ask]:
    if not rows.height or not count:
        return []
    drawn = rows[np.sort(rng.choice(rows.height, size=min(count, rows.height), replace=False))]
    begin = plan.at(step)
    shares = rng.random(drawn.height)
    asks = []
    for share, row in zip(shares.tolist(), drawn.iter_rows(named=True), strict=True):
        until = plan.at(step + 1) if asker.time is None else max(begin, min(in_utc(row[asker.time]), plan.at(step + 1)))
        asks.append(Ask(function=asker.function, body=_body(asker, row), at=begin + (until - begin) * share))
    return asks


def _body(asker: Asker, row: dict[str, Any]) -> bytes:
    fields = {name: row[name] for name in asker.columns}
    return msgspec.json.encode([fields] if asker.rows_field is not None else fields, enc_hook=plain)


def _apart(asks: list[Ask], plan: Plan, step: int) -> list[Ask]:
    """Return the requests with moments of their own, as prediction ids are made of moments."""
    last = plan.at(step) - _APART
    found = []
    for ask in asks:
        moment = ask.at or last
        last = max(last + _APART, moment.replace(microsecond=moment.microsecond // 1000 * 1000))
        found.append(msgspec.structs.replace(ask, at=last))
    return found


def in_utc(moment: Any) -> datetime:
    """Return a time or a date of a row as a time in UTC."""
    found = moment if isinstance(moment, datetime) else datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001 - next line
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def as_kind(moment: datetime, kind: pl.DataType) -> Any:
    """Return a time as a column of this type writes it."""
    if isinstance(kind, pl.Date):
        return moment.astimezone(UTC).date()
    if isinstance(kind, pl.Datetime) and kind.time_zone is None:
        return moment.astimezone(UTC).replace(tzinfo=None)
    return moment
