"""Experiments: a split, the plan made before it began, and what it decided; at most one is open per pipeline.

Belongs here: the rows and their states. What a plan and a verdict mean: `penstock.releases.experiments`.
"""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.states import ExperimentState, change_experiment
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, fields, lock


class Experiment(Record, frozen=True, kw_only=True):
    """An experiment as recorded.

    Attributes:
        arms: Plain JSON: name and share of each.
        plan: Plain JSON.
        started_at: When it began to split; while it is planned, when it was planned.
        verdict: Plain JSON; None until it decided or was stopped.
    """

    id: int
    pipeline: str
    name: str
    state: ExperimentState
    arms: list[dict[str, Any]]
    plan: dict[str, Any]
    started_at: datetime
    finished_at: datetime | None = None
    verdict: dict[str, Any] | None = None


_T = schema.experiments
_OWN = tuple(_T.c[name] for name in Experiment.__struct_fields__)
_ADD = sa.insert(_T)
_OF = sa.select(*_OWN).where(_T.c.pipeline == sa.bindparam("of_pipeline"))
_BY_NAME = _OF.where(_T.c.name == sa.bindparam("of_name"))
_OPEN = sa.select(*_OWN).where(_T.c.open_key == sa.bindparam("of_key"))
_NEWEST = _OF.order_by(_T.c.id.desc())
_CHANGE = (
    sa.update(_T)
    .where(_T.c.id == sa.bindparam("of_id"), _T.c.state == sa.bindparam("before"))
    .values(
        state=sa.bindparam("after"),
        open_key=sa.bindparam("key"),
        started_at=sa.bindparam("began", type_=_T.c.started_at.type),
        finished_at=sa.bindparam("ended", type_=_T.c.finished_at.type),
        verdict=sa.bindparam("said", type_=_T.c.verdict.type),
    )
)


def add(
    conn: sa.Connection, pipeline: str, name: str, *, arms: list[dict[str, Any]], plan: dict[str, Any]
) -> Experiment:
    """Record a planned experiment.

    Args:
        conn: A writing transaction.
        pipeline: Name of the pipeline.
        name: Of the experiment, once per pipeline.
        arms: Plain JSON.
        plan: Plain JSON.

    Raises:
        InputError: The name is taken, or another experiment of the pipeline is open.
    """
    lock(conn, f"experiments/{pipeline}")
    if find(conn, pipeline, name) is not None:
        raise InputError(f"Pipeline {pipeline!r} has an experiment {name!r} already.", hint="give it another name")
    other = open_of(conn, pipeline)
    if other is not None:
        raise InputError(
            f"Experiment {other.name!r} of pipeline {pipeline!r} is {other.state.value}.",
            hint=f"wait for it, or end it: penstock experiment stop {pipeline} --name {other.name}",
        )
    values: dict[str, Any] = {
        "pipeline": pipeline,
        "name": name,
        "state": ExperimentState.PLANNED,
        "arms": arms,
        "plan": plan,
        "started_at": clock_of(conn).now(),
        "finished_at": None,
        "verdict": None,
    }
    number = conn.execute(_ADD, values | {"open_key": pipeline}).inserted_primary_key
    return msgspec.convert(values | {"id": int(number[0]) if number is not None else 0}, Experiment)


def change(
    conn: sa.Connection, found: Experiment, after: ExperimentState, *, verdict: dict[str, Any] | None = None
) -> Experiment:
    """Move an experiment to another state.

    Args:
        conn: A writing transaction.
        found: As it was read.
        after: The state it goes to.
        verdict: What it decided.

    Raises:
        StoreError: The change is not lawful.
        InputError: Somebody else changed it meanwhile.
    """
    change_experiment(found.state, after)
    now = clock_of(conn).now()
    is_open = after is ExperimentState.RUNNING
    moved = msgspec.structs.replace(
        found,
        state=after,
        started_at=now if is_open else found.started_at,
        finished_at=None if is_open else now,
        verdict=verdict,
    )
    values = {
        "of_id": found.id,
        "before": found.state,
        "after": after,
        "key": found.pipeline if is_open else None,
        "began": moved.started_at,
        "ended": moved.finished_at,
        "said": verdict,
    }
    if conn.execute(_CHANGE, values).rowcount != 1:
        raise InputError(
            f"Experiment {found.name!r} is no longer {found.state.value}.",
            hint=f"look again: penstock experiment status {found.pipeline}",
        )
    return moved


def get(conn: sa.Connection, pipeline: str, name: str) -> Experiment:
    """Return an experiment by its name.

    Raises:
        NotFoundError: There is none of that name.
    """
    found = find(conn, pipeline, name)
    if found is None:
        known = [one.name for one in of_pipeline(conn, pipeline)]
        hint = f"it has {', '.join(known)}" if known else "it has none yet: penstock experiment start --help"
        raise NotFoundError(f"Pipeline {pipeline!r} has no experiment {name!r}.", hint=hint)
    return found


def find(conn: sa.Connection, pipeline: str, name: str) -> Experiment | None:
    """Return an experiment by its name; None when there is none."""
    row = conn.execute(_BY_NAME, {"of_pipeline": pipeline, "of_name": name}).mappings().one_or_none()
    return None if row is None else _experiment(row)


def open_of(conn: sa.Connection, pipeline: str) -> Experiment | None:
    """Return the experiment of a pipeline that is planned or running; None when there is none."""
    row = conn.execute(_OPEN, {"of_key": pipeline}).mappings().one_or_none()
    return None if row is None else _experiment(row)


def of_pipeline(conn: sa.Connection, pipeline: str) -> list[Experiment]:
    """Return the experiments of a pipeline, newest first."""
    return [_experiment(row) for row in conn.execute(_NEWEST, {"of_pipeline": pipeline}).mappings()]


def _experiment(row: sa.RowMapping) -> Experiment:
    return msgspec.convert(fields(row), Experiment)
