"""Judges earlier releases on the rows that a run has just judged its candidate by, to learn how models age.

It decides nothing and holds nothing up: what cannot be judged any more is left out, and a bound is put on what it uses.
"""

from dataclasses import dataclass
from datetime import datetime

import polars as pl
import sqlalchemy as sa
import structlog

from penstock.checks.evaluation import Evaluation, Lift, Roles
from penstock.core.errors import PenstockError, StoreError
from penstock.core.records import Artifact, Interval
from penstock.engine.platform_nodes import with_platform_nodes
from penstock.engine.protocol import Engine, Limits, Place, Result, Task
from penstock.engine.retries import policy_of
from penstock.engine.state import Job, NodeRun, RunView, Unit
from penstock.engine.stopping import CancelledRunError, signals
from penstock.engine.units import CHAMPION, units_of
from penstock.pipeline.graph import Node, texts
from penstock.pipeline.snapshot import tree_digest
from penstock.project.ageing import Made, evaluation_of, is_higher_better, made_by
from penstock.project.running import RunReport
from penstock.project.workspace import Workspace, champion_of, place_of
from penstock.releases.manifest import Manifest
from penstock.store import codecs
from penstock.store.ledger import ages, attempts, releases
from penstock.store.ledger.releases import Release

_events = structlog.get_logger("penstock.worker")
# Of what a run used, at most this much again is spent on earlier releases.
SHARE = 0.1
_LOOK_S = 0.2


def judge_earlier(workspace: Workspace, report: RunReport, *, most: int, share: float = SHARE) -> int:
    """Judge earlier releases as a run has judged its candidate and the champion; return how many were.

    What that uses counts as use of the run.

    Args:
        workspace: The project.
        report: A run of this process that reached its evaluation.
        most: Most earlier releases, the champion that the run was compared with aside.
        share: Of what the run used, how much of it again may be spent on them, in CPU seconds.

    Raises:
        StoreError: The store is away.
        CancelledRunError: This process was asked to stop.
    """
    evaluation = evaluation_of(report.manifest.graph)
    if evaluation is None or evaluation.name not in report.manifest.evaluations or most <= 0:
        return 0
    with workspace.ledger.read() as conn:
        own = made_by(conn, report.run_id)
        found = _comparable(conn, report, own)
        used = attempts.of_run(conn, report.run_id)
    once_s = max((a.cpu_s or 0.0 for a in used if a.node == evaluation.name), default=0.0)
    affordable = share * sum(a.cpu_s or 0.0 for a in used) / once_s if once_s else 0.0
    chosen = found[: int(min(most, affordable))]
    if not chosen:
        return 0
    engine = workspace.crew.engine(workspace.settings.engine, workspace.settings, 1)
    try:
        judging = _Judging(workspace, report, evaluation, own.at, engine)
        return sum(judging.judge(release) for release in chosen)
    finally:
        engine.close()


def _comparable(conn: sa.Connection, report: RunReport, own: Made) -> list[Release]:
    """Return the earlier releases that differ from this run by their data alone, the newest first."""
    left_out = {report.manifest.champion, report.release}
    earlier: list[Release] = []
    for release in releases.of_pipeline(conn, report.pipeline):
        if release.run_id is None or {release.hash, str(release.ref)} & left_out:
            continue
        made = made_by(conn, release.run_id)
        if made.at < own.at and made.is_like(own):
            earlier.append(release)
    return earlier


@dataclass(frozen=True, slots=True)
class _Judging:
    """A run whose candidate others are held against."""

    workspace: Workspace
    report: RunReport
    evaluation: Node
    now: datetime
    engine: Engine

    @property
    def manifest(self) -> Manifest:
        return self.report.manifest

    @property
    def place(self) -> Place:
        return place_of(self.manifest.graph, tree_digest(self.manifest.graph.files), self.workspace)

    def judge(self, release: Release) -> bool:
        """Judge one release and record what the candidate gains over it; False where it cannot be judged."""
        try:
            unit = self._unit(release)
            result = self._perform(unit, release)
            lift = self._lift(result.outputs[unit.node.outputs[0]]) if result.failure is None else None
        except (StoreError, CancelledRunError):
            raise
        except PenstockError as error:  # damaged, of a shape that this code does not know, or of other examples
            _not_judged(release, error.message)
            return False
        self._record(unit, release, result, lift)
        if result.failure is not None:
            _not_judged(release, result.failure.message)
        return lift is not None

    def _unit(self, release: Release) -> Unit:
        """Return the work that judges a release: that of the champion, with this release in its place."""
        graph = with_platform_nodes(self.manifest.graph)
        job = Job(
            run_id=self.report.run_id,
            graph=graph,
            place=self.place,
            params=self.manifest.params,
            policy=self.manifest.policy,
            now=self.now,
            started_at=self.now,
            champion=champion_of(release, self.workspace),
        )
        outcome = self.report.outcome
        done = {
            node.name: NodeRun(node, kept=outcome.kept.get(node.name, {}), dataset=outcome.datasets.get(node.name))
            for node in graph.nodes
            if node.name in outcome.nodes
        }
        return next(unit for unit in units_of(self.evaluation, RunView(job, done)) if unit.part == CHAMPION)

    def _perform(self, unit: Unit, release: Release) -> Result:
        policy = policy_of(self.manifest.policy, unit.node.name)
        task = Task(
            id=f"{self.report.run_id}-age-{release.version}",
            kind=unit.kind,
            pipeline=self.report.pipeline,
            node=unit.node,
            part=unit.part,
            given=unit.given,
            params=unit.params,
            place=self.place,
            limits=Limits(memory_bytes=policy.memory_bytes, timeout_s=policy.timeout_s),
            extra=unit.extra,
        )
        with signals() as stop, stop.held():
            self.engine.submit(task)
            while True:
                found = next((r for r in self.engine.results(_LOOK_S) if r.id == task.id), None)
                if found is not None:
                    return found
                stop.check()

    def _lift(self, older: Artifact) -> Lift:
        """Return what the candidate gains over it, on the same rows."""
        node = self.evaluation
        candidate = next(n.name for n in self.manifest.graph.nodes if n.role == "model")
        artifacts = {candidate: self.manifest.evaluations[node.name].rows[candidate], CHAMPION: older}
        frames = {
            name: codecs.load(artifact, self.workspace.blobs, form="polars") for name, artifact in artifacts.items()
        }
        evaluation = Evaluation(
            {name: frame for name, frame in frames.items() if isinstance(frame, pl.DataFrame)},
            roles=Roles(candidate=candidate, champion=CHAMPION),
            metric=str(node.options.get("metric") or ""),
            slices=texts(node.options.get("slices")),
            key=texts(node.options.get("key")),
            higher_is_better=is_higher_better(node),
        )
        return evaluation.lift(candidate, over=CHAMPION)

    def _record(self, unit: Unit, release: Release, result: Result, lift: Lift | None) -> None:
        """Record what it used, as an attempt of the run, and what was found: in one transaction, once all is known."""
        new = attempts.NewAttempt(
            run_id=self.report.run_id,
            node=f"age:{unit.node.name}",
            part=str(release.ref),
            number=1,
            token=0,
            key=unit.key,
        )
        with self.workspace.ledger.write() as conn:
            number = attempts.start(conn, new)
            ended = attempts.Ended(id=number, state=result.state, usage=result.usage, failure=result.failure)
            attempts.finish_all(conn, [ended])
            if lift is not None:
                found = ages.Earlier(
                    run_id=self.report.run_id,
                    evaluation=self.evaluation.name,
                    release=str(release.ref),
                    metric=lift.metric,
                    lift=Interval(mean=lift.mean, low=lift.low, high=lift.high, n=lift.n),
                )
                ages.put_earlier(conn, found)


def _not_judged(release: Release, reason: str) -> None:
    _events.info("earlier_release_not_judged", release=str(release.ref), reason=reason)
