"""What was measured or shown of a release or a run after it was made: replays, load, drills, timings, verdicts.

Belongs here: the rows, appended and never changed. What the figures mean is known by the kind's own module.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, get_args

import msgspec
import sqlalchemy as sa

from penstock.core.records import Record
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, fields

Kind = Literal["replay", "load", "drill", "timing", "verdict"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class NewEvidence(Record, frozen=True, kw_only=True):
    """Something that was measured or shown.

    Attributes:
        subject: What of: "movies@3" or "r41".
        by: Who had it measured.
        passed: Whether it held what was asked of it; None where nothing was asked.
        figures: Plain JSON, by the kind's own record.
    """

    pipeline: str
    subject: str
    kind: Kind
    by: str
    passed: bool | None = None
    figures: dict[str, Any] = {}


class Evidence(NewEvidence, frozen=True, kw_only=True):
    """Evidence as recorded."""

    id: int
    at: datetime


_T = schema.evidence
_ADD = sa.insert(_T)
_OF = sa.select(_T).where(_T.c.pipeline == sa.bindparam("of_pipeline"), _T.c.kind == sa.bindparam("of_kind"))
_NEWEST = _OF.order_by(_T.c.id.desc()).limit(sa.bindparam("most"))
_NEWEST_OF = _OF.where(_T.c.subject == sa.bindparam("of_subject")).order_by(_T.c.id.desc()).limit(sa.bindparam("most"))


def add(conn: sa.Connection, found: NewEvidence) -> Evidence:
    """Append evidence.

    Args:
        conn: A writing transaction.
        found: What was measured.
    """
    values = msgspec.structs.asdict(found) | {"at": clock_of(conn).now()}
    number = conn.execute(_ADD, values).inserted_primary_key
    return Evidence(**values, id=int(number[0]) if number is not None else 0)


def of_kind(
    conn: sa.Connection, pipeline: str, kind: Kind, *, subject: str | None = None, most: int = 100
) -> list[Evidence]:
    """Return the newest evidence of a kind, newest first.

    Args:
        conn: A transaction.
        pipeline: Name of the pipeline.
        kind: Which.
        subject: Of this release or run alone.
        most: How many at most.
    """
    names: dict[str, Any] = {"of_pipeline": pipeline, "of_kind": kind, "most": most}
    if subject is None:
        rows: Sequence[sa.RowMapping] = conn.execute(_NEWEST, names).mappings().all()
    else:
        rows = conn.execute(_NEWEST_OF, names | {"of_subject": subject}).mappings().all()
    return [msgspec.convert(fields(row), Evidence) for row in rows]


def newest(conn: sa.Connection, pipeline: str, kind: Kind, subject: str) -> Evidence | None:
    """Return the newest evidence of a kind on a subject, None when there is none."""
    found = of_kind(conn, pipeline, kind, subject=subject, most=1)
    return found[0] if found else None
