"""Checks with their evidence, and the metrics of evaluations, per run. NaN and infinities come back as they were."""

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from penstock.core.records import CheckResult, Interval, Record
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, fields, upsert


class RunCheck(Record, frozen=True, kw_only=True):
    """A check of a run; `subject` is what it was made on: a dataset, a node, a model."""

    subject: str
    check: CheckResult


class Metric(Record, frozen=True, kw_only=True):
    """A mean with its interval, as an evaluation found it.

    Attributes:
        node: The evaluation.
        model: The model evaluated: a candidate, a baseline, or the champion.
        slice: Column sliced by; "" for all rows.
        value_of_slice: Value of that column, as text.
    """

    node: str
    model: str
    metric: str
    interval: Interval
    slice: str = ""
    value_of_slice: str = ""


_C, _M = schema.checks, schema.metrics
_PUT_CHECKS = upsert(_C, "passed", "built_in", "message", "evidence", "at")
_PUT_METRICS = upsert(_M, "mean", "low", "high", "n")
_CHECKS = sa.select(_C).where(_C.c.run_id == sa.bindparam("run")).order_by(_C.c.name, _C.c.subject)
_FAILED = _CHECKS.where(sa.not_(_C.c.passed))
_METRICS = (
    sa.select(_M)
    .where(_M.c.run_id == sa.bindparam("run"))
    .order_by(_M.c.node, _M.c.metric, _M.c.slice, _M.c.value_of_slice, _M.c.model)
)


def put(conn: sa.Connection, run_id: int, checks: Sequence[RunCheck]) -> None:
    """Keep checks of a run; one made again replaces what it found before."""
    if checks:
        made = {"run_id": run_id, "at": clock_of(conn).now()}
        rows = [msgspec.structs.asdict(one.check) | made | {"subject": one.subject} for one in checks]
        conn.execute(_PUT_CHECKS.on(conn), rows)


def of_run(conn: sa.Connection, run_id: int) -> list[RunCheck]:
    """Return the checks of a run, by name and subject."""
    return [_check(row) for row in conn.execute(_CHECKS, {"run": run_id}).mappings()]


def failed(conn: sa.Connection, run_id: int) -> list[RunCheck]:
    """Return the checks of a run that did not pass."""
    return [_check(row) for row in conn.execute(_FAILED, {"run": run_id}).mappings()]


def put_metrics(conn: sa.Connection, run_id: int, metrics: Sequence[Metric]) -> None:
    """Keep metrics of a run; one measured again replaces what was found before."""
    if metrics:
        conn.execute(_PUT_METRICS.on(conn), [_metric_row(metric, run_id) for metric in metrics])


def metrics_of_run(conn: sa.Connection, run_id: int) -> list[Metric]:
    """Return the metrics of a run, by evaluation, metric, slice and model."""
    return [_metric(row) for row in conn.execute(_METRICS, {"run": run_id}).mappings()]


def _check(row: sa.RowMapping) -> RunCheck:
    columns = fields(row)
    return RunCheck(subject=columns["subject"], check=msgspec.convert(columns, CheckResult))


def _metric_row(metric: Metric, run_id: int) -> dict[str, object]:
    row = msgspec.structs.asdict(metric) | {"run_id": run_id}
    return row | msgspec.structs.asdict(row.pop("interval"))


def _metric(row: sa.RowMapping) -> Metric:
    columns = fields(row)
    return msgspec.convert(columns | {"interval": msgspec.convert(columns, Interval)}, Metric)
