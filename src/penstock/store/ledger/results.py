"""Results: what a node made, by cache key, with the explanation that lets a plan say what has changed since."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.records import Artifact, Record
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, fields, upsert


class NewResult(Record, frozen=True, kw_only=True):
    """What a node, or one part of a fan-out, made.

    Attributes:
        key: Cache key over code, parameters, inputs and packages.
        outputs: Artifact by output name.
        facts: What else it made, as plain JSON: checks, metrics, answers.
        explanation: The parts of the key as plain JSON.
        attempt_id: The attempt that made it; None for a node the platform resolves itself (a dataset version).
    """

    key: str
    pipeline: str
    node: str
    outputs: dict[str, Artifact]
    part: str = ""
    facts: dict[str, Any] = msgspec.field(default_factory=dict)
    explanation: dict[str, Any] = msgspec.field(default_factory=dict)
    attempt_id: int | None = None


class Result(NewResult, frozen=True, kw_only=True):
    """A result as recorded; `last_run_id` is the run that made or reused it last."""

    made_at: datetime
    last_run_id: int


_T = schema.results
_PUT = upsert(_T, "outputs", "facts", "explanation", "attempt_id", "made_at", "last_run_id")
_GET = sa.select(_T).where(_T.c.key.in_(sa.bindparam("keys", expanding=True)))
_ALL = sa.select(_T).order_by(_T.c.pipeline, _T.c.node, _T.c.part, _T.c.made_at)
_DROP = sa.delete(_T).where(_T.c.key.in_(sa.bindparam("keys", expanding=True)))
_HOLDING = (
    sa.delete(_T).where(sa.type_coerce(_T.c.outputs, sa.Text).contains(sa.bindparam("digest"))).returning(_T.c.key)
)
_TOUCH = (
    sa.update(_T)
    .where(_T.c.key.in_(sa.bindparam("keys", expanding=True)), _T.c.last_run_id < sa.bindparam("run"))
    .values(last_run_id=sa.bindparam("run"))
)
_NEWEST = (
    sa.select(_T)
    .where(
        _T.c.pipeline == sa.bindparam("of_pipeline"),
        _T.c.node == sa.bindparam("of_node"),
        _T.c.part == sa.bindparam("of_part"),
    )
    .order_by(_T.c.last_run_id.desc(), _T.c.made_at.desc())
    .limit(1)
)
# Parts that begin with "#" are the platform's own, as the cutting of frames before a fan-out.
_NEWEST_OF_NODE = (
    sa.select(_T)
    .where(
        _T.c.pipeline == sa.bindparam("of_pipeline"),
        _T.c.node == sa.bindparam("of_node"),
        ~_T.c.part.startswith("#", autoescape=True),
    )
    .order_by(_T.c.last_run_id.desc(), _T.c.made_at.desc())
    .limit(1)
)


def put(conn: sa.Connection, results: Sequence[NewResult], *, run_id: int) -> None:
    """Keep what nodes made in a run; a key made again (its artifacts were lost) gets the new artifacts."""
    if results:
        made = {"made_at": clock_of(conn).now(), "last_run_id": run_id}
        conn.execute(_PUT.on(conn), [msgspec.structs.asdict(result) | made for result in results])


def get(conn: sa.Connection, keys: Collection[str]) -> dict[str, Result]:
    """Return the results there are, by key."""
    rows = conn.execute(_GET, {"keys": list(keys)}).mappings()
    return {row["key"]: msgspec.convert(fields(row), Result) for row in rows}


def newest_of_node(conn: sa.Connection, pipeline: str, node: str) -> Result | None:
    """Return what the newest run made or reused of a node, whichever its part; None when it was never made."""
    row = conn.execute(_NEWEST_OF_NODE, {"of_pipeline": pipeline, "of_node": node}).mappings().one_or_none()
    return None if row is None else msgspec.convert(fields(row), Result)


def newest(conn: sa.Connection, pipeline: str, node: str, part: str = "") -> Result | None:
    """Return the result made or reused by the newest run: what a plan compares with to say what changed."""
    row = conn.execute(_NEWEST, {"of_pipeline": pipeline, "of_node": node, "of_part": part}).mappings().one_or_none()
    return None if row is None else msgspec.convert(fields(row), Result)


def every(conn: sa.Connection) -> Iterator[Result]:
    """Yield all results, node by node; what is kept for reuse."""
    for row in conn.execution_options(yield_per=1000).execute(_ALL).mappings():
        yield msgspec.convert(fields(row), Result)


def touch(conn: sa.Connection, keys: Collection[str], *, run_id: int) -> None:
    """Record that a run reused results."""
    if keys:
        conn.execute(_TOUCH, {"keys": list(keys), "run": run_id})


def drop(conn: sa.Connection, keys: Collection[str]) -> int:
    """Forget results, so that their nodes run again; return how many there were."""
    return conn.execute(_DROP, {"keys": list(keys)}).rowcount


def drop_holding(conn: sa.Connection, digest: str) -> list[str]:
    """Forget every result with the artifact `digest` (its bytes are damaged or gone) and return their keys."""
    return sorted(str(key) for key in conn.execute(_HOLDING, {"digest": f'"{digest}"'}).scalars())
