"""What was taken in: every dataset with its newest version, and one with its intakes, columns and rows set aside."""

from datetime import datetime

from penstock.core.errors import NotFoundError
from penstock.core.records import DatasetVersion, Record
from penstock.project.workspace import Workspace
from penstock.store.ledger import datasets

_MOST = 100


class DatasetLine(Record, frozen=True, kw_only=True):
    """A dataset in one line.

    Attributes:
        rows: Readable at the newest version.
        taken_at: When its newest rows came.
    """

    pipeline: str
    dataset: str
    version: str
    rows: int
    columns: int
    taken_at: datetime | None


class IntakeShown(Record, frozen=True, kw_only=True):
    """An intake.

    Attributes:
        reasons: Rows set aside, by reason.
        schema_change: Columns that it added, dropped or changed, "+ kind: String"; empty for none.
    """

    version: str
    taken_at: datetime | None
    rows: int
    added: int
    replaced: int
    set_aside: int
    reasons: dict[str, int]
    schema_change: tuple[str, ...]


class DatasetShown(DatasetLine, frozen=True, kw_only=True):
    """A dataset with its newest intakes, newest first.

    Attributes:
        schema: Column and type, in order.
        watermark: What `since` will be at the next intake, as text; "" for none.
    """

    schema: tuple[tuple[str, str], ...]
    watermark: str
    intakes: tuple[IntakeShown, ...]


def list_datasets(workspace: Workspace) -> list[DatasetLine]:
    """Return every dataset that was ever taken in, by pipeline and name."""
    with workspace.ledger.read() as conn:
        newest = [datasets.newest(conn, *names) for names in datasets.names(conn)]
    return [_line(version) for version in newest if version is not None]


def show_dataset(workspace: Workspace, pipeline: str, dataset: str) -> DatasetShown:
    """Return a dataset with its newest intakes.

    Raises:
        NotFoundError: Nothing was taken in under that name.
    """
    with workspace.ledger.read() as conn:
        found = datasets.recent(conn, pipeline, dataset, limit=_MOST + 1)
    if not found:
        raise NotFoundError(f"Pipeline {pipeline!r} has taken in no {dataset!r}.", hint="see the list of datasets")
    newest = found[-1]
    before = [None if found[0].version == 1 else found[0], *found]
    intakes = [_intake(one, earlier) for one, earlier in zip(found, before, strict=False)]
    line = _line(newest)
    return DatasetShown(
        pipeline=line.pipeline,
        dataset=line.dataset,
        version=line.version,
        rows=line.rows,
        columns=line.columns,
        taken_at=line.taken_at,
        schema=newest.schema,
        watermark="" if newest.watermark is None else str(newest.watermark),
        intakes=tuple(reversed(intakes[-_MOST:])),
    )


def _line(version: DatasetVersion) -> DatasetLine:
    return DatasetLine(
        pipeline=version.pipeline,
        dataset=version.dataset,
        version=str(version),
        rows=version.rows,
        columns=len(version.schema),
        taken_at=version.taken_at,
    )


def _intake(one: DatasetVersion, before: DatasetVersion | None) -> IntakeShown:
    return IntakeShown(
        version=str(one),
        taken_at=one.taken_at,
        rows=one.rows,
        added=one.rows_added,
        replaced=one.replaced,
        set_aside=one.rows_quarantined,
        reasons=one.reasons,
        schema_change=() if before is None else _changed(dict(before.schema), dict(one.schema)),
    )


def _changed(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    gone = [f"- {name}: {kind}" for name, kind in before.items() if after.get(name) != kind]
    new = [f"+ {name}: {kind}" for name, kind in after.items() if before.get(name) != kind]
    return (*gone, *new)
