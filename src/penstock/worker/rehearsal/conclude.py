"""From the stores of the arms to the record: quality of each answer, pairs of answers, what was new when."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from penstock.pipeline.graph import Graph
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.manifest import Manifest
from penstock.serving.predictions.outcomes import outcomes_frame
from penstock.serving.predictions.reading import predictions_frame
from penstock.store.ledger import releases, runs
from penstock.worker.rehearsal.arms import open_arm
from penstock.worker.rehearsal.compare import compared_with, mean_of
from penstock.worker.rehearsal.days import read_days
from penstock.worker.rehearsal.newcomers import newcomers
from penstock.worker.rehearsal.records import (
    Arm,
    ArmName,
    Asked,
    Compared,
    Day,
    Made,
    Newcomer,
    Plan,
    Quality,
    Rehearsal,
)

_EMPTY = pl.Schema({"id": pl.String, "step": pl.Int64, "key": pl.String, "value": pl.Float64})


@dataclass(frozen=True, slots=True)
class Seen:
    """What is read from the store of an arm.

    Attributes:
        answers: Predictions with `id`, `step`, `key`, `fallback`, `failed`, `answer` (JSON).
        truths: By outcome function, the whole truths as `id`, `step`, `key`, `value`.
        made: Its releases, oldest first, each with its manifest.
    """

    answers: pl.DataFrame
    truths: dict[str, pl.DataFrame]
    made: list[tuple[Made, Manifest]]


def conclude(plan: Plan, graph: Graph, *, root: Path, folder: Path) -> Rehearsal:
    """Return the record of a rehearsal whose arms are done.

    Args:
        plan: Its arguments.
        graph: The pipeline.
        root: The project.
        folder: Where it is kept.

    Raises:
        StoreError: A store cannot be read.
    """
    seen: dict[ArmName, Seen] = {}
    fresh: tuple[Newcomer, ...] = ()
    for name in plan.arms:
        with open_arm(plan, name, root=root, folder=folder) as (workspace, _):
            seen[name] = _see(workspace, plan, graph)
            if name == "policy":
                fresh = newcomers(plan, workspace, seen[name].made, seen[name].answers, folder=folder)
    days = {name: tuple(told.day for told in read_days(folder, name)) for name in plan.arms}
    arms = tuple(_arm(plan, name, seen[name], days[name]) for name in plan.arms)
    return Rehearsal(plan=plan, arms=arms, compared=tuple(_compared(plan, seen, arms)), newcomers=fresh)


def _see(workspace: Workspace, plan: Plan, graph: Graph) -> Seen:
    rows = predictions_frame(workspace.home, plan.pipeline, since=plan.start, until=plan.end)
    step = ((pl.col("at") - plan.start).dt.total_microseconds() // int(plan.step_s * 1e6)).alias("step")
    answers = rows.select(
        pl.col("prediction_id").alias("id"),
        step,
        pl.when(pl.col("key") == "").then(pl.col("prediction_id")).otherwise(pl.col("key")).alias("key"),
        "fallback",
        (pl.col("answer") == "null").alias("failed"),
        "answer",
    )
    known = answers.sort("id").collect()
    names = [node.name for node in graph.nodes if node.role == "outcome"]
    truths = {name: _truths(workspace, plan, name, known) for name in names}
    return Seen(known, truths, list(_made(workspace, plan)))


def _truths(workspace: Workspace, plan: Plan, name: str, answers: pl.DataFrame) -> pl.DataFrame:
    found = outcomes_frame(workspace.home, plan.pipeline, name).drop_nulls("value").collect()
    if found["is_whole"].any():
        found = found.filter("is_whole")
    joined = answers.join(found, left_on="id", right_on="prediction_id", how="inner")
    return joined.select(list(_EMPTY)).sort("id")


def _made(workspace: Workspace, plan: Plan) -> Iterator[tuple[Made, Manifest]]:
    with workspace.ledger.read() as conn:
        found = releases.of_pipeline(conn, plan.pipeline)[::-1]
        begun = {r.run_id: runs.get(conn, r.run_id).started_at for r in found if r.run_id is not None}
    for release in found:
        manifest = read_manifest(release.manifest_digest, workspace)
        at = release.made_at if release.run_id is None else begun[release.run_id]
        yield Made(release=str(release.ref), at=at, offline=_offline(manifest), known_until=_known(manifest)), manifest


def _offline(manifest: Manifest) -> dict[str, Quality]:
    found: dict[str, Quality] = {}
    for evaluation in manifest.evaluations.values():
        for model, metrics in evaluation.means.items():
            interval = next(iter(metrics.values()), None)
            if interval is not None and model not in found:
                found[model] = Quality(mean=interval.mean, low=interval.low, high=interval.high, n=interval.n)
    return found


def _known(manifest: Manifest) -> datetime | None:
    times = [v.watermark for v in manifest.datasets.values() if v.contract.get("time") and isinstance(v.watermark, str)]
    return max((datetime.fromisoformat(time) for time in times), default=None)


def _arm(plan: Plan, name: ArmName, seen: Seen, days: tuple[Day, ...]) -> Arm:
    return Arm(
        name=name,
        releases=tuple(made for made, _ in seen.made),
        days=days,
        asked=tuple(_asked(plan, seen)),
        retrains=sum(len(day.retrains) for day in days),
        skipped=sum(len(day.skipped) for day in days),
        quality={outcome: mean_of(truths) for outcome, truths in seen.truths.items()},
    )


def _asked(plan: Plan, seen: Seen) -> Iterator[Asked]:
    counts = seen.answers.group_by("step").agg(
        pl.len().alias("asked"), pl.col("fallback").sum().alias("fallbacks"), pl.col("failed").sum()
    )
    by_step = {row["step"]: row for row in counts.iter_rows(named=True)}
    parts: dict[str, dict[Any, pl.DataFrame]] = {
        outcome: {key[0]: part for key, part in truths.partition_by("step", as_dict=True).items()}
        for outcome, truths in seen.truths.items()
    }
    for step in range(plan.steps):
        found = by_step.get(step, {"asked": 0, "fallbacks": 0, "failed": 0})
        yield Asked(
            step=step,
            asked=found["asked"],
            fallbacks=found["fallbacks"],
            failed=found["failed"],
            quality={name: mean_of(steps[step]) for name, steps in parts.items() if step in steps},
        )


def _compared(plan: Plan, seen: dict[ArmName, Seen], arms: tuple[Arm, ...]) -> Iterator[Compared]:
    count = {arm.name: arm.retrains for arm in arms}
    for other in plan.others:
        for outcome, ours in seen["policy"].truths.items():
            found = compared_with(outcome, other, ours, seen[other].truths[outcome])
            share = round(count["policy"] / count[other], 4) if count[other] else None
            yield msgspec.structs.replace(found, retrains=share)
