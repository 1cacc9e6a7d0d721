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
from penstock.project.quality import Quality as Evaluated
from penstock.project.showing import show_run
from penstock.project.workspace import Workspace, read_manifest
from penstock.serving.predictions.outcomes import outcomes_frame
from penstock.serving.predictions.reading import feedback_frame, predictions_frame
from penstock.store.ledger import causes, checks, datasets, events, releases, runs, triggers
from penstock.worker.rehearsal.records import Plan, Quality
from penstock.worker.rehearsal.report.records import OfflineQuality

_EVERY = 1_000_000
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


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
        answers: Those asked for in the rehearsal: id, at, step, key, fallback, failed.
        offline: Every release, as its evaluation found it.
        truths: By outcome function, of answers whose truth is whole: id, at, step, key, value.
    """

    retrains: tuple[runs.Run, ...]
    refusals: dict[int, tuple[str, ...]]
    causes: tuple[causes.Cause, ...]
    used: tuple[triggers.Used, ...]
    live: tuple[Live, ...]
    versions: dict[str, tuple[DatasetVersion, ...]]
    answers: pl.DataFrame
    truths: dict[str, pl.DataFrame]
    cost: Cost
    offline: tuple[OfflineQuality, ...] = ()

    def live_at(self, moment: datetime) -> Live | None:
        """Return what answered at a moment."""
        return next((one for one in reversed(self.live) if one.since <= moment), None)


def collect(workspace: Workspace, plan: Plan) -> Facts:
    """Read what was recorded of a pipeline in one arm.

    Raises:
        StoreError: The store cannot be read.
        DamagedError: A release that was live cannot be read.
    """
    pipeline = plan.pipeline
    answers = _answers(workspace, plan)
    with workspace.ledger.read() as conn:
        live = tuple(_live(conn, workspace, pipeline))
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
            live=live,
            versions=versions,
            answers=answers,
            truths=_truths(workspace, pipeline, answers),
            cost=workspace.settings.policy(pipeline).cost,
            offline=tuple(_offline(workspace, retrains, live)),
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


def _offline(workspace: Workspace, retrains: Sequence[runs.Run], live: Sequence[Live]) -> Iterator[OfflineQuality]:
    since = {one.release: one.since for one in reversed(live)}
    for run in retrains:
        at = since.pop(run.release or "", None)  # the first run after which it stood is the one that made it
        if at is not None:
            found = [_evaluated(quality, str(run.release), at) for quality in show_run(run.id, workspace).quality]
            yield from (one for one in found if one is not None)


def _evaluated(quality: Evaluated, release: str, at: datetime) -> OfflineQuality | None:
    for model in quality.models:
        if model.role == "candidate" and model.metric == quality.metric and model.mean is not None:
            return OfflineQuality(
                release=release,
                at=at,
                evaluation=quality.evaluation,
                metric=quality.metric,
                model=model.model,
                measure=Quality(mean=model.mean, low=model.low, high=model.high, n=model.n),
                worst=quality.worst,
            )
    return None


def _answers(workspace: Workspace, plan: Plan) -> pl.DataFrame:
    found = predictions_frame(workspace.home, plan.pipeline, since=plan.start, until=plan.end)
    name = pl.col("prediction_id")
    return found.select(
        name.alias("id"),
        "at",
        ((pl.col("at") - plan.start).dt.total_microseconds() // int(plan.step_s * 1e6)).alias("step"),
        pl.when(pl.col("key") == "").then(name).otherwise(pl.col("key")).alias("key"),
        "fallback",
        (pl.col("answer") == "null").alias("failed"),
    ).collect(engine="streaming")


def _truths(workspace: Workspace, pipeline: str, answers: pl.DataFrame) -> dict[str, pl.DataFrame]:
    said = feedback_frame(workspace.home, pipeline).filter(pl.col("source") == "outcome")
    names = said.select(pl.col("name").unique().sort()).collect()["name"].to_list()
    return {name: _whole(workspace, pipeline, name, answers) for name in names}


def _whole(workspace: Workspace, pipeline: str, name: str, answers: pl.DataFrame) -> pl.DataFrame:
    found = outcomes_frame(workspace.home, pipeline, name).drop_nulls("value").collect()
    if found["is_whole"].any():
        found = found.filter("is_whole")
    joined = answers.join(found.select("prediction_id", "value"), left_on="id", right_on="prediction_id", how="inner")
    return joined.select("id", "at", "step", "key", "value").sort("id")
