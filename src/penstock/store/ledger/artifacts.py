"""Artifacts: which bytes there are, how they are read, and who made them first."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import sqlalchemy as sa

from penstock.core.errors import NotFoundError
from penstock.core.records import Artifact, Record
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, fields, upsert


class KeptArtifact(Record, frozen=True, kw_only=True):
    """An artifact with who made it first, as "r41/recommender", and when."""

    artifact: Artifact
    made_by: str
    made_at: datetime


_T = schema.artifacts
_PUT = upsert(_T)
_GET = sa.select(_T).where(_T.c.digest == sa.bindparam("of_digest"))
_DIGESTS = sa.select(_T.c.digest)


def put(conn: sa.Connection, artifacts: Sequence[Artifact], *, made_by: str) -> None:
    """Keep artifacts; one that is known already stays as it is, with its first maker."""
    if artifacts:
        made = {"made_by": made_by, "made_at": clock_of(conn).now()}
        conn.execute(_PUT.on(conn), [msgspec.structs.asdict(artifact) | made for artifact in artifacts])


def get(conn: sa.Connection, digest: str) -> KeptArtifact:
    """Return an artifact and its maker.

    Raises:
        NotFoundError: No artifact has this digest.
    """
    row = conn.execute(_GET, {"of_digest": digest}).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"There is no artifact {digest!r}.", hint="`penstock show RUN` lists a run's artifacts")
    columns = fields(row)
    made = {"made_by": columns.pop("made_by"), "made_at": columns.pop("made_at")}
    return KeptArtifact(artifact=msgspec.convert(columns, Artifact), **made)


def digests(conn: sa.Connection) -> set[str]:
    """Return the digests of all artifacts."""
    return {str(digest) for digest in conn.execute(_DIGESTS).scalars()}
