"""Reads what one arm of a rehearsal recorded: decisions and runs from its ledger, rows and answers from its lake."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
import sqlalchemy as sa

from penstock.core.records import DatasetVersion
from penstock.core.refs import ReleaseRef, parse_ref
from penstock.core.settings import Cost
from penstock.project.intake import CAUSE as INTAKE
from penstock.project.workspace import Workspace, read_manifest
from penstock.serving.predictions.outcomes import outcomes_frame
from penstock.serving.predictions.reading import feedback_frame, predictions_frame
from penstock.store.ledger import causes, checks, datasets, events, releases, runs, triggers

_EVERY = 1_000_000
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_ANSWER = ("prediction_id", "at", "serve", "fields", "release", "fallback", "error")


@dataclass(frozen=True, slots=True)
class Live:
    """A release that answered from a moment on.

    Attributes:
        trained_at: When the run that made it began.
        versions: Versions of the datasets it was made from, by name.
    """

    release: str
    since: datetime
    trained_at: datetime
    versions: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What one arm recorded, in the order of time.

    Attributes:
        retrains: Runs that were to make a release.
        refusals: Checks that did not pass, by run.
        used: CPU seconds of every run.
        versions: By dataset.
        arrivals: When each thing of a dataset with a key and no time was first taken in, and in which version:
            dataset, version, taken_at, count.
        answers: prediction_id, at, serve, fields, release, fallback, error.
        truths: By outcome function: prediction_id, value, is_whole.
    """

    retrains: tuple[runs.Run, ...]
    refusals: dict[int, tuple[str, ...]]
    causes: tuple[causes.Cause, ...]
    used: tuple[triggers.Used, ...]
    live: tuple[Live, ...]
    versions: dict[str, tuple[DatasetVersion, ...]]
    arrivals: tuple[tuple[str, int, datetime, int], ...]
    answers: pl.DataFrame
    truths: dict[str, pl.DataFrame]
    cost: Cost

    def live_at(self, moment: datetime) -> Live | None:
        """Return what answered at a moment."""
        return next((one for one in reversed(self.live) if one.since <= moment), None)


def collect(workspace: Workspace, pipeline: str) -> Facts:
    """Read what was recorded of a pipeline.

    Raises:
        StoreError: The store cannot be read.
        DamagedError: A release that was live cannot be read.
    """
    with workspace.ledger.read() as conn:
        every = runs.page(conn, pipeline=pipeline, limit=_EVERY)[::-1]
        retrains = tuple(run for run in every if run.cause != INTAKE)
        failed = {run.id: checks.failed(conn, run.id) for run in retrains}
        versions = {
            dataset: tuple(datasets.versions(conn, pipeline, dataset))
            for name, dataset in datasets.names(conn)
            if name == pipeline
        }
        return Facts(
            retrains=retrains,
            refusals={run: tuple(one.check.name for one in found) for run, found in failed.items() if found},
            causes=tuple(causes.page(conn, pipeline=pipeline, limit=_EVERY)[::-1]),
            used=tuple(triggers.used_since(conn, pipeline, _LONG_AGO)),
            live=tuple(_live(conn, workspace, pipeline)),
            versions=versions,
            arrivals=tuple(_arrivals(workspace, pipeline, versions)),
            answers=predictions_frame(workspace.home, pipeline).select(_ANSWER).collect(engine="streaming"),
            truths=_truths(workspace, pipeline),
            cost=workspace.settings.policy(pipeline).cost,
        )


def _live(conn: sa.Connection, workspace: Workspace, pipeline: str) -> Iterator[Live]:
    for event in reversed(events.page(conn, target=pipeline, limit=_EVERY)):
        if event.action != "endpoint.changed":
            continue
        ref = parse_ref(str(event.details["after"]))
        if not isinstance(ref, ReleaseRef):
            continue
        release = releases.get(conn, ref)
        manifest = read_manifest(release.manifest_digest, workspace)
        made = release.made_at if release.run_id is None else runs.get(conn, release.run_id).started_at
        yield Live(str(ref), event.at, made, {name: found.version for name, found in manifest.datasets.items()})


def _arrivals(
    workspace: Workspace, pipeline: str, versions: dict[str, tuple[DatasetVersion, ...]]
) -> Iterator[tuple[str, int, datetime, int]]:
    for dataset, found in versions.items():
        key = _key_without_time(found)
        if not key:
            continue
        table = workspace.lake.table(pipeline, dataset)
        known = pl.DataFrame(schema={name: table.scan(found[-1]).collect_schema()[name] for name in key})
        for version in found:
            count = len(table.part_rows(version, added=True))
            parts = [table.scan_part(version, number, added=True).select(key) for number in range(count)]
            if not parts or version.taken_at is None:
                continue
            new = pl.concat(parts).unique().collect().join(known, on=key, how="anti", nulls_equal=True)
            if new.height:
                known = pl.concat([known, new])
                yield dataset, version.version, version.taken_at, new.height


def _key_without_time(versions: Sequence[DatasetVersion]) -> list[str]:
    contract = versions[-1].contract if versions else {}
    return [] if contract.get("time") else [str(name) for name in contract.get("key") or ()]


def _truths(workspace: Workspace, pipeline: str) -> dict[str, pl.DataFrame]:
    said = feedback_frame(workspace.home, pipeline).filter(pl.col("source") == "outcome")
    names = said.select(pl.col("name").unique().sort()).collect()["name"].to_list()
    columns = ("prediction_id", "value", "is_whole")
    return {name: outcomes_frame(workspace.home, pipeline, name).select(columns).collect() for name in names}
