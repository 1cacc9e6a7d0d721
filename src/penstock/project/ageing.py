"""How models of a pipeline age: what each retrain showed of older ones on the same labelled rows.

Belongs here: facts, as recorded. More of them are made by `earlier`; the curve through them is `monitoring.staleness`,
what follows from it `worker.economics`.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.records import Interval
from penstock.engine.units import CHAMPION
from penstock.monitoring.staleness import Pair
from penstock.pipeline.graph import Graph, Node
from penstock.project.workspace import Workspace
from penstock.store.blobs import Blobs
from penstock.store.ledger import ages, releases, runs
from penstock.store.ledger.releases import Release

# More of them say little about today.
MOST_PAIRS = 60


class _Compared(msgspec.Struct, frozen=True):
    """The one field of a manifest that says what a run was compared with."""

    champion: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """When and from what a model was made."""

    at: datetime
    code: str
    params: dict[str, dict[str, Any]]

    def is_like(self, other: "Made") -> bool:
        """Whether only data and time lie between the two: what a change of code gains is not age."""
        return self.code == other.code and self.params == other.params


def evaluation_of(graph: Graph) -> Node | None:
    """Return the evaluation that decides: the first; None where there is none, or no model to judge."""
    if not any(node.role == "model" for node in graph.nodes):
        return None
    return next((node for node in graph.nodes if node.role == "evaluate"), None)


def is_higher_better(evaluation: Node) -> bool:
    """Return whether a larger metric is better."""
    return bool(evaluation.options.get("higher_is_better", True))


def made_by(conn: sa.Connection, run_id: int) -> Made:
    """Return what the models of a run were made from: as of the time that it was given, else when it began."""
    run = runs.get(conn, run_id)
    at = datetime.fromisoformat(run.now_at) if run.now_at is not None else run.started_at
    return Made(at=at if at.tzinfo is not None else at.replace(tzinfo=UTC), code=run.code_digest, params=run.params)


def made_at(conn: sa.Connection, release: Release) -> datetime:
    """Return as of when the models of a release were made."""
    return release.made_at if release.run_id is None else made_by(conn, release.run_id).at


def pairs_of(workspace: Workspace, pipeline: str, evaluation: Node) -> list[Pair]:
    """Return the newest comparisons of models of different age by an evaluation's main metric, the oldest first.

    Raises:
        DamagedError: What a run recorded cannot be read.
    """
    with workspace.ledger.read() as conn:
        every = releases.of_pipeline(conn, pipeline)
        by_hash, by_ref = {r.hash: r for r in every}, {str(r.ref): r for r in every}
        found = [e for e in ages.evaluated(conn, pipeline, most=MOST_PAIRS) if e.evaluation == evaluation.name]
        earlier = ages.earlier(conn, [e.run_id for e in found])
        made = functools.cache(functools.partial(made_by, conn))
        pairs: list[Pair] = []
        for one in reversed(found):
            row = _candidate_row(one.table, evaluation)
            if row is None:
                continue
            lifts = [
                (by_hash.get(_compared_with(workspace.home, one.manifest_digest) or ""), _lift_over(row, CHAMPION)),
                *((by_ref.get(e.release), e.lift) for e in earlier if _is_of(e, one)),
            ]
            # Relative to how good a fresh model is, so that a metric whose level moves is comparable over months.
            unit = abs(row["mean"]) * (1 if is_higher_better(evaluation) else -1)
            pairs += _pairs(made, one.run_id, lifts, unit=unit)
    return pairs[-MOST_PAIRS:]


def _is_of(earlier: ages.Earlier, evaluated: ages.Evaluated) -> bool:
    return (earlier.run_id, earlier.evaluation) == (evaluated.run_id, evaluated.evaluation)


@functools.lru_cache(maxsize=4096)
def _compared_with(home: Path, manifest_digest: str) -> str | None:
    return msgspec.json.decode(Blobs(home / "blobs").read(manifest_digest), type=_Compared).champion


def _candidate_row(table: list[dict[str, Any]], evaluation: Node) -> dict[str, Any] | None:
    metric = evaluation.options.get("metric") or table[0]["metric"]
    rows = [row for row in table if row["role"] == "candidate" and row["metric"] == metric]
    return rows[0] if rows and rows[0]["mean"] else None


def _lift_over(row: Mapping[str, Any], other: str) -> Interval | None:
    lift = next((lift for lift in row["lifts"] if lift["over"] == other), None)
    if lift is None or lift["low"] is None or lift["high"] is None:
        return None
    return Interval(mean=lift["mean"], low=lift["low"], high=lift["high"], n=lift["n"])


def _pairs(
    made: Callable[[int], Made], run_id: int, lifts: Sequence[tuple[Release | None, Interval | None]], *, unit: float
) -> Iterator[Pair]:
    own = made(run_id)
    for release, lift in lifts:
        if release is None or release.run_id is None or lift is None:
            continue
        other = made(release.run_id)
        if other.at < own.at and own.is_like(other):
            low, high = sorted((lift.low / unit, lift.high / unit))
            yield Pair(age_s=(own.at - other.at).total_seconds(), loss=lift.mean / unit, low=low, high=high)
