"""Releases of a pipeline, `movies@12`, one per hash; and endpoints, which say which release is live."""

from datetime import datetime

import msgspec
import sqlalchemy as sa

from penstock.core.errors import CheckError, InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.refs import ReleaseRef
from penstock.core.states import RunState
from penstock.store.ledger import checks, events, runs, schema
from penstock.store.ledger.statements import clock_of, fields, lock, upsert


class Release(Record, frozen=True, kw_only=True):
    """A release as recorded.

    Attributes:
        hash: Hash of its manifest.
        manifest_digest: The blob that holds the manifest.
        run_id: The run that made it; None when it was imported.
    """

    pipeline: str
    version: int
    hash: str
    manifest_digest: str
    run_id: int | None
    made_at: datetime

    @property
    def ref(self) -> ReleaseRef:
        """Its reference."""
        return ReleaseRef(self.pipeline, self.version)


class Created(Release, frozen=True, kw_only=True):
    """What `create` returns; `is_new` is False when the same release was there already."""

    is_new: bool


_T, _E = schema.releases, schema.endpoints
_OF = sa.select(_T).where(_T.c.pipeline == sa.bindparam("of_pipeline"))
_BY_VERSION = _OF.where(_T.c.version == sa.bindparam("of_version"))
_BY_HASH = _OF.where(_T.c.hash == sa.bindparam("of_hash"))
_NEWEST_FIRST = _OF.order_by(_T.c.version.desc())
_ALL = sa.select(_T).order_by(_T.c.pipeline, _T.c.version.desc())
_CREATE = sa.insert(_T)
_LAST = sa.select(sa.func.max(_T.c.version)).where(_T.c.pipeline == sa.bindparam("of_pipeline"))
_SET = upsert(_E, "pipeline", "release_version", "changed_at", "changed_by")
_LIVE = (
    sa.select(_T)
    .join(_E, (_E.c.pipeline == _T.c.pipeline) & (_E.c.release_version == _T.c.version))
    .where(_E.c.name == sa.bindparam("endpoint"))
)


def create(
    conn: sa.Connection,
    pipeline: str,
    *,
    release_hash: str,
    manifest_digest: str,
    run_id: int | None,
    version: int | None = None,
) -> Created:
    """Give a release its version, the next of its pipeline; the same hash again is the same release.

    Args:
        conn: A writing transaction.
        pipeline: Name of the pipeline.
        release_hash: Hash of the manifest.
        manifest_digest: The blob that holds the manifest.
        run_id: The run that makes it; None for an imported release.
        version: The number that it must have, as elsewhere; None for the next.

    Raises:
        CheckError: The run failed, ended otherwise, or has a check that did not pass.
        InputError: The number is another's, or this release has another already.
    """
    if run_id is not None:
        _refuse_unsound(conn, run_id)
    lock(conn, f"releases/{pipeline}")
    known = by_hash(conn, pipeline, release_hash)
    if version is not None:
        _refuse_other(conn, ReleaseRef(pipeline, version), release_hash, known)
    if known is not None:
        return Created(**msgspec.structs.asdict(known), is_new=False)
    release = Release(
        pipeline=pipeline,
        version=version or int(conn.execute(_LAST, {"of_pipeline": pipeline}).scalar() or 0) + 1,
        hash=release_hash,
        manifest_digest=manifest_digest,
        run_id=run_id,
        made_at=clock_of(conn).now(),
    )
    values = msgspec.structs.asdict(release)
    conn.execute(_CREATE, values)
    return Created(**values, is_new=True)


def _refuse_other(conn: sa.Connection, wanted: ReleaseRef, release_hash: str, known: Release | None) -> None:
    if known is not None and known.version != wanted.version:
        raise InputError(f"The release is here already, as {known.ref}, not as {wanted}.", hint=f"ask for {known.ref}")
    names = {"of_pipeline": wanted.pipeline, "of_version": wanted.version}
    row = conn.execute(_BY_VERSION, names).mappings().one_or_none()
    if row is not None and row["hash"] != release_hash:
        raise InputError(f"{wanted} is another release here.", hint="leave the number out, and the next one is taken")


def get(conn: sa.Connection, ref: ReleaseRef) -> Release:
    """Return a release.

    Raises:
        NotFoundError: There is no such release.
    """
    names = {"of_pipeline": ref.pipeline, "of_version": ref.version}
    row = conn.execute(_BY_VERSION, names).mappings().one_or_none()
    if row is None:
        latest = newest(conn, ref.pipeline)
        hint = f"the latest is {str(latest.ref)!r}" if latest else f"{ref.pipeline!r} has no release yet"
        raise NotFoundError(f"There is no release {str(ref)!r}.", hint=hint)
    return _release(row)


def by_hash(conn: sa.Connection, pipeline: str, release_hash: str) -> Release | None:
    """Return the release with this hash, None when there is none."""
    names = {"of_pipeline": pipeline, "of_hash": release_hash}
    row = conn.execute(_BY_HASH, names).mappings().one_or_none()
    return None if row is None else _release(row)


def newest(conn: sa.Connection, pipeline: str) -> Release | None:
    """Return the release with the highest version, None when there is none."""
    row = conn.execute(_NEWEST_FIRST.limit(1), {"of_pipeline": pipeline}).mappings().one_or_none()
    return None if row is None else _release(row)


def of_pipeline(conn: sa.Connection, pipeline: str | None = None) -> list[Release]:
    """Return the releases of a pipeline, or of all, newest first."""
    found = conn.execute(_ALL) if pipeline is None else conn.execute(_NEWEST_FIRST, {"of_pipeline": pipeline})
    return [_release(row) for row in found.mappings()]


def live(conn: sa.Connection, endpoint: str) -> Release | None:
    """Return the release an endpoint serves, None when it serves none."""
    row = conn.execute(_LIVE, {"endpoint": endpoint}).mappings().one_or_none()
    return None if row is None else _release(row)


def set_endpoint(conn: sa.Connection, endpoint: str, ref: ReleaseRef, *, by: str) -> None:
    """Let an endpoint serve a release from now on, and record who said so.

    Raises:
        NotFoundError: There is no such release.
    """
    get(conn, ref)
    before = live(conn, endpoint)
    values = {"name": endpoint, "pipeline": ref.pipeline, "release_version": ref.version}
    conn.execute(_SET.on(conn), values | {"changed_at": clock_of(conn).now(), "changed_by": by})
    details = {"before": None if before is None else str(before.ref), "after": str(ref)}
    events.append(conn, actor=by, action="endpoint.changed", target=endpoint, details=details)


def _refuse_unsound(conn: sa.Connection, run_id: int) -> None:
    run = runs.get(conn, run_id)
    if run.state not in {RunState.RUNNING, RunState.SUCCEEDED}:
        raise CheckError(
            f"Run 'r{run_id}' cannot make a release: it is {run.state.value!r}.", hint=f"see `penstock show r{run_id}`"
        )
    names = [one.check.name for one in checks.failed(conn, run_id)]
    if names:
        raise CheckError(
            f"Run 'r{run_id}' cannot make a release: checks {names!r} did not pass.",
            hint=f"see `penstock show r{run_id}` for what they found",
        )


def _release(row: sa.RowMapping) -> Release:
    return msgspec.convert(fields(row), Release)
