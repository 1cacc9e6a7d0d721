"""Judges earlier releases on the rows that a run has just judged its candidate by, to learn how models age.

It decides nothing: what cannot be judged any more is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import polars as pl
import sqlalchemy as sa
import structlog

from penstock.checks.evaluation import Evaluation, Lift, Roles
from penstock.core.errors import PenstockError, StoreError
from penstock.core.records import Artifact, Interval
from penstock.core.states import NodeState
from penstock.engine.protocol import Engine, Limits, Result, Task
from penstock.engine.retries import policy_of
from penstock.engine.state import Job, NodeRun, RunOutcome, RunView, Unit
from penstock.engine.stopping import CancelledRunError, Stop
from penstock.engine.units import CHAMPION, units_of
from penstock.pipeline.graph import Node, texts
from penstock.project.ageing import evaluation_of, is_higher_better, made_by
from penstock.project.workspace import Workspace, champion_of
from penstock.store import codecs
from penstock.store.ledger import ages, attempts, releases
from penstock.store.ledger.releases import Release

_events = structlog.get_logger("penstock.worker")
_LOOK_S = 0.2
_RENEW_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Judging:
    """A run that has judged its candidate, and where its work is done.

    Attributes:
        job: What it was to execute.
        outcome: What came of it.
        stop: Whether this process was asked to stop.
        renew: Holds on to the leases of the run.
    """

    workspace: Workspace
    job: Job
    outcome: RunOutcome
    engine: Engine
    stop: Stop
    renew: Callable[[], None]

    @property
    def candidate(self) -> str:
        """The model that the run wants to release."""
        return next(node.name for node in self.job.graph.nodes if node.role == "model")

    def judge(self, release: Release, evaluation: Node) -> bool:
        """Judge one release and record what the candidate gains over it; False where it cannot be judged."""
        try:
            unit = self._unit(release, evaluation)
            result = self._perform(unit, release)
            lift = self._lift(result.outputs[unit.node.outputs[0]], evaluation) if result.failure is None else None
        except (StoreError, CancelledRunError):
            raise
        except PenstockError as error:  # damaged, of a shape that this code does not know, or of other examples
            _not_judged(release, error.message)
            return False
        self._record(unit, release, result, lift)
        if result.failure is not None:
            _not_judged(release, result.failure.message)
        return lift is not None

    def _unit(self, release: Release, evaluation: Node) -> Unit:
        """Return the work that judges a release: that of the champion, with this release in its place."""
        job = msgspec.structs.replace(self.job, champion=champion_of(release, self.workspace))
        kept, datasets = self.outcome.kept, self.outcome.datasets
        done = {
            node.name: NodeRun(node, kept=kept.get(node.name, {}), dataset=datasets.get(node.name))
            for node in job.graph.nodes
            if node.name in self.outcome.nodes
        }
        return next(unit for unit in units_of(evaluation, RunView(job, done)) if unit.part == CHAMPION)

    def _perform(self, unit: Unit, release: Release) -> Result:
        policy = policy_of(self.job.policy, unit.node.name)
        task = Task(
            id=f"{self.job.run_id}-age-{release.version}",
            kind=unit.kind,
            pipeline=self.job.graph.pipeline,
            node=unit.node,
            part=unit.part,
            given=unit.given,
            params=unit.params,
            place=self.job.place,
            limits=Limits(memory_bytes=policy.memory_bytes, timeout_s=policy.timeout_s),
            extra=unit.extra,
        )
        renew_at_s = self.workspace.clock.monotonic_s()
        with self.stop.held():
            self.engine.submit(task)
            while True:
                found = next((r for r in self.engine.results(_LOOK_S) if r.id == task.id), None)
                if found is not None:
                    return found
                self.stop.check()
                if self.workspace.clock.monotonic_s() > renew_at_s:
                    renew_at_s += _RENEW_EVERY_S
                    self.renew()

    def _lift(self, older: Artifact, node: Node) -> Lift:
        """Return what the candidate gains over it, on the same rows."""
        candidate = self.candidate
        artifacts = {candidate: self.outcome.kept[node.name][candidate].outputs[node.outputs[0]], CHAMPION: older}
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
            run_id=self.job.run_id,
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
                    run_id=self.job.run_id,
                    evaluation=unit.node.name,
                    release=str(release.ref),
                    metric=lift.metric,
                    lift=Interval(mean=lift.mean, low=lift.low, high=lift.high, n=lift.n),
                )
                ages.put_earlier(conn, found)


def judge_earlier(judging: Judging, *, most: int) -> int:
    """Judge earlier releases as a run has judged its candidate and the champion; return how many were.

    It is part of the run: who is killed meanwhile does it again with the run, so what is known of ageing does not
    depend on where a process died. What it uses counts as use of the run.

    Args:
        judging: The run.
        most: Most earlier releases, the champion that the run was compared with aside.

    Raises:
        StoreError: The store is away.
        CancelledRunError: This process was asked to stop.
    """
    evaluation = evaluation_of(judging.job.graph)
    if most <= 0 or judging.job.champion is None or evaluation is None or evaluation.name not in judging.outcome.kept:
        return 0
    if judging.outcome.nodes.get(evaluation.name) not in {NodeState.SUCCEEDED, NodeState.REUSED}:
        return 0
    with judging.workspace.ledger.read() as conn:
        chosen = _comparable(conn, judging.job)[:most]
    return sum(judging.judge(release, evaluation) for release in chosen)


def _comparable(conn: sa.Connection, job: Job) -> list[Release]:
    """Return the releases before the champion that differ from this run by their data alone, the newest first."""
    own, champion = made_by(conn, job.run_id), job.champion
    earlier: list[Release] = []
    for release in releases.of_pipeline(conn, job.graph.pipeline):
        if release.run_id is None or (champion is not None and release.hash == champion.hash):
            continue
        made = made_by(conn, release.run_id)
        if made.at < own.at and made.is_like(own):
            earlier.append(release)
    return earlier


def _not_judged(release: Release, reason: str) -> None:
    _events.info("earlier_release_not_judged", release=str(release.ref), reason=reason)
