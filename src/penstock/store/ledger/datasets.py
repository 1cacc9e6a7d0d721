"""Dataset versions: which intakes a pipeline has seen, `ratings@7`. The rows themselves are the lake's."""

import msgspec
import sqlalchemy as sa

from penstock.core.errors import NotFoundError, StoreError
from penstock.core.records import DatasetVersion
from penstock.store.ledger import schema
from penstock.store.ledger.statements import clock_of, upsert

_T = schema.dataset_versions
_PUT = upsert(_T)
_OF = sa.select(_T.c.record).where(
    _T.c.pipeline == sa.bindparam("of_pipeline"), _T.c.dataset == sa.bindparam("of_dataset")
)
_GET = _OF.where(_T.c.version == sa.bindparam("of_version"))
_ALL = _OF.order_by(_T.c.version)
_NAMES = sa.select(_T.c.pipeline, _T.c.dataset).distinct().order_by(_T.c.pipeline, _T.c.dataset)
_NEWEST = _OF.order_by(_T.c.version.desc()).limit(1)


def put(conn: sa.Connection, version: DatasetVersion, *, run_id: int | None) -> None:
    """Keep a dataset version; keeping the same one again changes nothing.

    Raises:
        StoreError: This number is kept already with other rows.
    """
    values = {
        "pipeline": version.pipeline,
        "dataset": version.dataset,
        "version": version.version,
        "record": version,
        "run_id": run_id,
        "digest": version.digest,
        "rows": version.rows,
        "taken_at": version.taken_at or clock_of(conn).now(),
    }
    conn.execute(_PUT.on(conn), values)
    kept = get(conn, version.pipeline, version.dataset, version.version)
    if kept.digest != version.digest:
        raise StoreError(
            f"Dataset {str(version)!r} of {version.pipeline!r} is kept with digest {kept.digest!r}, "
            f"the lake has {version.digest!r}.",
            hint="ledger and lake are not of the same time; restore both from one backup",
        )


def get(conn: sa.Connection, pipeline: str, dataset: str, version: int) -> DatasetVersion:
    """Return a version of a dataset.

    Raises:
        NotFoundError: There is no such version; the hint names those there are.
    """
    names = {"of_pipeline": pipeline, "of_dataset": dataset}
    record = conn.execute(_GET, names | {"of_version": version}).scalar()
    if record is None:
        latest = newest(conn, pipeline, dataset)
        hint = f"the latest is {str(latest)!r}" if latest else f"{pipeline!r} has taken in no {dataset!r} yet"
        raise NotFoundError(f"There is no dataset version '{dataset}@{version}' of {pipeline!r}.", hint=hint)
    return msgspec.convert(record, DatasetVersion)


def newest(conn: sa.Connection, pipeline: str, dataset: str) -> DatasetVersion | None:
    """Return the latest version of a dataset, None before its first intake."""
    record = conn.execute(_NEWEST, {"of_pipeline": pipeline, "of_dataset": dataset}).scalar()
    return None if record is None else msgspec.convert(record, DatasetVersion)


def recent(conn: sa.Connection, pipeline: str, dataset: str, *, limit: int) -> list[DatasetVersion]:
    """Return the newest versions of a dataset, the oldest of them first."""
    query = _OF.order_by(_T.c.version.desc()).limit(limit)
    records = conn.execute(query, {"of_pipeline": pipeline, "of_dataset": dataset}).scalars()
    return [msgspec.convert(record, DatasetVersion) for record in records][::-1]


def names(conn: sa.Connection) -> list[tuple[str, str]]:
    """Return (pipeline, dataset) of everything that was ever taken in."""
    return [(pipeline, dataset) for pipeline, dataset in conn.execute(_NAMES)]


def versions(conn: sa.Connection, pipeline: str, dataset: str) -> list[DatasetVersion]:
    """Return all versions of a dataset, oldest first."""
    records = conn.execute(_ALL, {"of_pipeline": pipeline, "of_dataset": dataset}).scalars()
    return [msgspec.convert(record, DatasetVersion) for record in records]
