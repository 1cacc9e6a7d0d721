"""What a retrain of a pipeline is expected to gain and what it costs, from what was recorded; `weighing` decides."""

import functools
import itertools
import statistics
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import sqlalchemy as sa
import structlog

from penstock.core.errors import DamagedError
from penstock.core.settings import LoopPolicy
from penstock.monitoring.staleness import fit
from penstock.pipeline.graph import Node
from penstock.project.ageing import evaluation_of, made_at, pairs_of
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.manifest import Manifest
from penstock.serving.predictions import tables
from penstock.serving.predictions.outcomes import outcomes_frame
from penstock.serving.predictions.reading import predictions_frame
from penstock.store.ledger import causes, releases, triggers
from penstock.worker.state import WEIGHED, Worth
from penstock.worker.weighing import Stakes, weigh

_events = structlog.get_logger("penstock.worker")
_RECENT = timedelta(days=28)
_CHANCES = 20
_HOUR_S = 3600.0


def worth(workspace: Workspace, pipeline: str, now: datetime) -> Worth | None:
    """Return whether a retrain is expected to gain more than it costs; None where that is not asked or cannot be.

    It cannot be where nothing is live, or where no evaluation says how good a model is.

    Args:
        workspace: The project.
        pipeline: Which.
        now: UTC.
    """
    policy = workspace.settings.policy(pipeline)
    if not policy.economics.weigh:
        return None
    try:
        with workspace.ledger.read() as conn:
            live = releases.live(conn, pipeline)
        if live is None:
            return None
        manifest = read_manifest(live.manifest_digest, workspace)
        evaluation = evaluation_of(manifest.graph)
        if evaluation is None:
            return None
        pairs = pairs_of(workspace, pipeline, evaluation)
        with workspace.ledger.read() as conn:
            stakes = _stakes(conn, policy, live, metric=_metric(evaluation, manifest), now=now)
    except DamagedError as error:  # each reason gets its run; the run says what is damaged
        _events.error("retrain_not_weighed", pipeline=pipeline, reason=error.message)
        return None
    return weigh(fit(pairs), _with_income(stakes, workspace, manifest, now), pairs=len(pairs))


def _metric(evaluation: Node, manifest: Manifest) -> str:
    found = manifest.evaluations.get(evaluation.name)
    return str(evaluation.options.get("metric") or (found.metric if found is not None else evaluation.name))


def _stakes(conn: sa.Connection, policy: LoopPolicy, live: releases.Release, *, metric: str, now: datetime) -> Stakes:
    cpu_s = triggers.cpu_s(conn, live.run_id) if live.run_id is not None else 0.0
    return Stakes(
        metric=metric,
        age_s=max(0.0, (now - made_at(conn, live)).total_seconds()),
        step_s=_step_s(conn, policy, live.pipeline),
        least_gain=policy.economics.least_gain,
        cost=policy.cost.retrain + cpu_s / _HOUR_S * policy.cost.cpu_hour,
    )


def _step_s(conn: sa.Connection, policy: LoopPolicy, pipeline: str) -> float:
    """Return how long it takes until the next chance to retrain: as usual, or a window where nothing is usual yet."""
    found = causes.page(conn, pipeline=pipeline, kinds=[*WEIGHED, "schedule"], limit=_CHANCES)
    times = [cause.decided_at for cause in found]
    gaps = [(after - before).total_seconds() for after, before in itertools.pairwise(times)]
    usual = statistics.median(gaps) if len(gaps) > 1 else policy.window_s
    return max(usual, policy.cooldown_s, policy.intake_s)


def _with_income(stakes: Stakes, workspace: Workspace, manifest: Manifest, now: datetime) -> Stakes:
    priced = tuple(
        (node.name, float(node.options["value"]))
        for node in manifest.graph.nodes
        if node.role == "outcome" and node.options.get("value")
    )
    if not priced or stakes.cost <= 0:
        return stakes
    home, pipeline = workspace.home, manifest.pipeline
    versions = tuple(_version(home, pipeline, name) for name in (tables.PREDICTIONS, tables.FEEDBACK))
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    earned = _income_per_s(home, pipeline, priced, (versions, day))
    return msgspec.structs.replace(stakes, income_per_s=earned)


def _version(home: Path, pipeline: str, name: str) -> int:
    latest = tables.table_of(home, pipeline, name).latest()
    return latest.version if latest is not None else 0


@functools.lru_cache(maxsize=256)
def _income_per_s(
    home: Path, pipeline: str, priced: tuple[tuple[str, float], ...], at: tuple[tuple[int, ...], datetime]
) -> float:
    """Return what answers have earned in a second lately: how many there were, times what one comes to on average.

    Once per day and state of the two tables: whoever looks every half minute must not read them each time.
    """
    since = at[1] - _RECENT
    asked = predictions_frame(home, pipeline, since=since).select(
        pl.len().alias("count"), pl.col("at").min().alias("first"), pl.col("at").max().alias("last")
    )
    count, first, last = asked.collect(engine="streaming").row(0)
    if not count:
        return 0.0
    span_s = max((last - first).total_seconds(), timedelta(days=1).total_seconds())
    per_answer = sum(value * _mean_outcome(home, pipeline, name, since) for name, value in priced)
    return float(max(0.0, per_answer) * count / span_s)


def _mean_outcome(home: Path, pipeline: str, name: str, since: datetime) -> float:
    known = outcomes_frame(home, pipeline, name).filter(pl.col("is_whole"), pl.col("at") >= since)
    found = known.select(pl.col("value").mean()).collect(engine="streaming").item()
    return float(found) if found is not None else 0.0
