"""What may be a reason to retrain, and what retraining costs: read from what runs, intakes and monitors recorded."""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.records import Record
from penstock.store.ledger import schema
from penstock.store.ledger.statements import fields


class Grown(Record, frozen=True, kw_only=True):
    """What came to a dataset after some version.

    Attributes:
        version: The newest.
        rows: Rows that came.
        intakes: Versions that came.
    """

    dataset: str
    version: int
    rows: int
    intakes: int


class Used(Record, frozen=True, kw_only=True):
    """CPU seconds of a run that has ended."""

    run_id: int
    at: datetime
    cpu_s: float


class Alarmed(Record, frozen=True, kw_only=True):
    """A window with findings."""

    monitor: str
    start_at: datetime
    computed_at: datetime
    findings: list[dict[str, Any]]


_R, _A, _D, _W = schema.runs, schema.attempts, schema.dataset_versions, schema.windows
_SINCE = (
    sa.select(_D.c.version, _D.c.rows)
    .where(
        _D.c.pipeline == sa.bindparam("of_pipeline"),
        _D.c.dataset == sa.bindparam("of_dataset"),
        _D.c.version >= sa.bindparam("of_version"),
    )
    .order_by(_D.c.version)
)
_USED = (
    sa.select(_R.c.id.label("run_id"), _R.c.finished_at.label("at"), sa.func.sum(_A.c.cpu_s).label("cpu_s"))
    .join(_A, _A.c.run_id == _R.c.id)
    .where(
        _R.c.pipeline == sa.bindparam("of_pipeline"),
        _R.c.finished_at > sa.bindparam("of_time", type_=_R.c.finished_at.type),
    )
    .group_by(_R.c.id, _R.c.finished_at)
    .order_by(_R.c.id)
)
_CPU_S = sa.select(sa.func.sum(_A.c.cpu_s)).where(_A.c.run_id == sa.bindparam("of_run"))
_WINDOWS = (
    sa.select(_W.c.monitor, _W.c.start_at, _W.c.computed_at, _W.c.findings)
    .where(
        _W.c.pipeline == sa.bindparam("of_pipeline"),
        _W.c.computed_at > sa.bindparam("of_time", type_=_W.c.computed_at.type),
        _W.c.findings != sa.literal([], type_=_W.c.findings.type),
    )
    .order_by(_W.c.start_at, _W.c.monitor)
)
_RELEASED = (
    sa.select(_R.c.id, _R.c.finished_at)
    .where(
        _R.c.pipeline == sa.bindparam("of_pipeline"),
        _R.c.release.is_not(None),  # only a run that succeeded has one
    )
    .order_by(_R.c.id.desc())
    .limit(1)
)


def grown(conn: sa.Connection, pipeline: str, dataset: str, version: int) -> Grown | None:
    """Return what came to a dataset after `version`; None when nothing did."""
    names = {"of_pipeline": pipeline, "of_dataset": dataset, "of_version": version}
    found = [(int(number), int(rows)) for number, rows in conn.execute(_SINCE, names)]
    later = [number for number, _ in found if number > version]
    if not later:
        return None
    before = found[0][1] if found[0][0] == version else 0
    return Grown(dataset=dataset, version=later[-1], rows=found[-1][1] - before, intakes=len(later))


def used_since(conn: sa.Connection, pipeline: str, since: datetime) -> list[Used]:
    """Return what each run of a pipeline used that ended later than `since`."""
    rows = conn.execute(_USED, {"of_pipeline": pipeline, "of_time": since}).mappings()
    return [msgspec.convert(fields(row) | {"cpu_s": float(row["cpu_s"] or 0.0)}, Used) for row in rows]


def cpu_s(conn: sa.Connection, run_id: int) -> float:
    """Return the CPU seconds that a run used."""
    return float(conn.execute(_CPU_S, {"of_run": run_id}).scalar() or 0.0)


def alarmed(conn: sa.Connection, pipeline: str, since: datetime) -> list[Alarmed]:
    """Return the windows with findings that were computed later than `since`, oldest first."""
    rows = conn.execute(_WINDOWS, {"of_pipeline": pipeline, "of_time": since}).mappings()
    return [msgspec.convert(fields(row), Alarmed) for row in rows]


def last_released(conn: sa.Connection, pipeline: str) -> tuple[int, datetime] | None:
    """Return the newest run after which a release stood, and when it ended; None when there was none."""
    row = conn.execute(_RELEASED, {"of_pipeline": pipeline}).one_or_none()
    return None if row is None else (int(row.id), row.finished_at)
