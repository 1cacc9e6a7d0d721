"""What somebody who looks at a pipeline wants to see at once: newest intakes, what is live since when, ends of causes.

Belongs here: queries over several tables whose answers stay small however long a pipeline lives. They change nothing.
"""

from datetime import datetime

import msgspec
import sqlalchemy as sa

from penstock.core.records import DatasetVersion, Record
from penstock.store.ledger import causes, schema
from penstock.store.ledger.statements import fields


class Intake(Record, frozen=True, kw_only=True):
    """The newest version of a dataset, and the run that took it in."""

    version: DatasetVersion
    run_id: int | None


class Live(Record, frozen=True, kw_only=True):
    """Since when an endpoint serves what it serves, and who said so."""

    changed_at: datetime
    changed_by: str


class Tally(Record, frozen=True, kw_only=True):
    """How many causes of a kind came to the same end."""

    kind: str
    state: str
    count: int


_D, _E, _C = schema.dataset_versions, schema.endpoints, schema.causes
_PIPELINE: sa.BindParameter[str] = sa.bindparam("of_pipeline")
_LAST = (
    sa.select(_D.c.dataset, sa.func.max(_D.c.version).label("version"))
    .where(_D.c.pipeline == _PIPELINE)
    .group_by(_D.c.dataset)
    .subquery()
)
_INTAKES = (
    sa.select(_D.c.record.label("version"), _D.c.run_id)
    .join(_LAST, (_LAST.c.dataset == _D.c.dataset) & (_LAST.c.version == _D.c.version))
    .where(_D.c.pipeline == _PIPELINE)
    .order_by(_D.c.dataset)
)
_LIVE = sa.select(_E.c.changed_at, _E.c.changed_by).where(_E.c.name == _PIPELINE)
_TALLY = (
    sa.select(_C.c.kind, _C.c.state, sa.func.count().label("count"))
    .where(
        _C.c.pipeline == _PIPELINE,
        _C.c.kind.not_in(causes.MARKS),
        _C.c.decided_at > sa.bindparam("of_since", type_=_C.c.decided_at.type),
    )
    .group_by(_C.c.kind, _C.c.state)
    .order_by(_C.c.kind, _C.c.state)
)


def intakes(conn: sa.Connection, pipeline: str) -> list[Intake]:
    """Return the newest version of each dataset, by name."""
    return [
        msgspec.convert(fields(row), Intake) for row in conn.execute(_INTAKES, {"of_pipeline": pipeline}).mappings()
    ]


def live(conn: sa.Connection, endpoint: str) -> Live | None:
    """Return since when an endpoint serves what it serves; None where it serves nothing."""
    row = conn.execute(_LIVE, {"of_pipeline": endpoint}).mappings().one_or_none()
    return None if row is None else msgspec.convert(fields(row), Live)


def tally(conn: sa.Connection, pipeline: str, since: datetime) -> list[Tally]:
    """Return what became of the causes that were decided later than `since`."""
    rows = conn.execute(_TALLY, {"of_pipeline": pipeline, "of_since": since}).mappings()
    return [msgspec.convert(fields(row), Tally) for row in rows]
