"""What a server is told of the release that stands beside the live one, and what becomes of one that is unfit."""

import msgspec
import sqlalchemy as sa
import structlog

from penstock.core.errors import PenstockError
from penstock.core.records import Record
from penstock.core.refs import ReleaseRef, parse_ref
from penstock.core.states import ExperimentState, RolloutState
from penstock.project.workspace import Workspace
from penstock.releases.rollout import parse_stages
from penstock.serving.plane.split import FALLBACK, Split
from penstock.serving.processes.sides import Beside
from penstock.store.ledger import events, experiments, releases, rollouts

_SERVER = "server"
ARM_UNFIT = "experiment.arm_unfit"


class _Share(Record, frozen=True, kw_only=True):
    name: str
    share: float


class _Dealing(Record, frozen=True, kw_only=True):
    """What a server needs of `releases.experiments.plan.Plan`, whose statistics it has no use for."""

    salt: str
    arms: tuple[_Share, ...]
    dealt: tuple[str, ...]


_events = structlog.get_logger("penstock.rollout")


def beside_of(pipeline: str, workspace: Workspace) -> Beside | Split | None:
    """Return the release, or the split with the fallback, that is to answer or see a share now; None for none.

    A rollout comes first: while it is under way, an experiment deals no keys.
    """
    with workspace.ledger.read() as conn:
        found = rollouts.opened(conn, pipeline)
        if found is None:
            return _of_experiment(conn, pipeline)
        if found.state is RolloutState.WAITING:
            return None
        release = releases.get(conn, found.ref)
    stage = parse_stages(found.stages)[found.stage]
    return Beside(
        ref=found.ref,
        manifest=release.manifest_digest,
        share=stage.share,
        salt=f"rollout {found.id}",
        variant="shadow" if stage.is_shadow else "canary",
    )


def _of_experiment(conn: sa.Connection, pipeline: str) -> Beside | Split | None:
    found = experiments.open_of(conn, pipeline)
    if found is None or found.state is not ExperimentState.RUNNING:
        return None
    plan = msgspec.convert(found.plan, _Dealing)
    live = releases.live(conn, pipeline)
    if not plan.dealt or live is None or str(live.ref) != plan.dealt[-1]:
        return None
    share = next(arm.share for arm in plan.arms if arm.name == plan.dealt[0])
    if plan.dealt[0] == FALLBACK:
        return Split(release=str(live.ref), share=share, salt=plan.salt, variant=FALLBACK)
    ref = parse_ref(plan.dealt[0])
    if not isinstance(ref, ReleaseRef):
        return None
    manifest = releases.get(conn, ref).manifest_digest
    return Beside(ref=ref, manifest=manifest, share=share, salt=plan.salt, variant="experiment")


def take_back_unfit(ref: ReleaseRef, why: str, workspace: Workspace) -> None:
    """Take back a candidate that cannot be served at all; where the store is away, it is told, and stays unserved.

    Of an arm of an experiment it is written down, and the next look ends the experiment.
    """
    said = why.partition("\n")[0]
    try:
        with workspace.ledger.write() as conn:
            found = rollouts.opened(conn, ref.pipeline)
            running = experiments.open_of(conn, ref.pipeline)
            if found is not None and found.ref == ref:
                figures = {"guards": [{"name": "serving", "is_broken": True, "said": said}]}
                rollouts.move(
                    conn,
                    found,
                    RolloutState.ROLLED_BACK,
                    by=_SERVER,
                    reason=f"it cannot be served: {said}",
                    figures=figures,
                )
            elif found is None and running is not None and str(ref) in msgspec.convert(running.plan, _Dealing).dealt:
                details = {"arm": str(ref), "reason": f"{ref} cannot be served: {said}"}
                events.append(
                    conn, actor=_SERVER, action=ARM_UNFIT, target=f"{ref.pipeline}/{running.name}", details=details
                )
    except PenstockError as error:
        _events.error("candidate_not_taken_back", release=str(ref), reason=str(error))
