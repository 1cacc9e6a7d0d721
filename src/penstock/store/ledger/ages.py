"""Comparisons of models of different age, as runs recorded them: with the champion, and with earlier releases."""

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.records import Interval, Record
from penstock.store.ledger import checks, schema
from penstock.store.ledger.statements import fields

# Beside the evaluation's own metrics, which are those of the models that the gate looks at.
_EARLIER = "age:"


class Evaluated(Record, frozen=True, kw_only=True):
    """An evaluation of a run.

    Attributes:
        manifest_digest: The blob that says what was compared.
        evaluation: Its name.
        table: The rows of `Evaluation.table`.
    """

    run_id: int
    manifest_digest: str
    evaluation: str
    table: list[dict[str, Any]]


class Earlier(Record, frozen=True, kw_only=True):
    """What the candidate of a run gained over an earlier release, in the evaluation's main metric.

    Attributes:
        release: The earlier one, "movies@3".
    """

    run_id: int
    evaluation: str
    release: str
    metric: str
    lift: Interval


_R, _N, _M = schema.runs, schema.run_nodes, schema.metrics
_EVALUATED = (
    sa.select(_R.c.id.label("run_id"), _R.c.manifest_digest, _N.c.node, _N.c.result)
    .join(_N, _N.c.run_id == _R.c.id)
    .where(
        _R.c.pipeline == sa.bindparam("of_pipeline"),
        _R.c.manifest_digest.is_not(None),
        _N.c.node.like("evidence:%"),
    )
    .order_by(_R.c.id.desc(), _N.c.node)
    .limit(sa.bindparam("most"))
)
_OF_RUNS = (
    sa.select(_M)
    .where(_M.c.run_id.in_(sa.bindparam("runs", expanding=True)), _M.c.node.like(f"{_EARLIER}%"))
    .order_by(_M.c.run_id, _M.c.node, _M.c.model)
)


def evaluated(conn: sa.Connection, pipeline: str, *, most: int) -> list[Evaluated]:
    """Return the newest evaluations of a pipeline's runs, newest first."""
    found = conn.execute(_EVALUATED, {"of_pipeline": pipeline, "most": most}).mappings()
    rows = [fields(row) for row in found]
    return [
        Evaluated(
            run_id=row["run_id"],
            manifest_digest=row["manifest_digest"],
            evaluation=row["node"].partition(":")[2],
            table=row["result"]["table"],
        )
        for row in rows
        if (row["result"] or {}).get("table")
    ]


def earlier(conn: sa.Connection, run_ids: Sequence[int]) -> list[Earlier]:
    """Return what is recorded of earlier releases, by run."""
    if not run_ids:
        return []
    rows = [fields(row) for row in conn.execute(_OF_RUNS, {"runs": list(run_ids)}).mappings()]
    return [
        Earlier(
            run_id=row["run_id"],
            evaluation=row["node"].removeprefix(_EARLIER),
            release=row["model"],
            metric=row["metric"],
            lift=msgspec.convert(row, Interval),
        )
        for row in rows
    ]


def put_earlier(conn: sa.Connection, found: Earlier) -> None:
    """Keep what a candidate gained over an earlier release; measured again it replaces what was found before."""
    metric = checks.Metric(
        node=f"{_EARLIER}{found.evaluation}", model=found.release, metric=found.metric, interval=found.lift
    )
    checks.put_metrics(conn, found.run_id, [metric])
