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
from penstock.serving.processes.sides import Beside
from penstock.store.ledger import experiments, releases, rollouts

_SERVER = "server"


class _Share(Record, frozen=True, kw_only=True):
    name: str
    share: float


class _Dealing(Record, frozen=True, kw_only=True):
    """What a server needs of `releases.experiments.plan.Plan`, whose statistics it has no use for."""

    salt: str
    arms: tuple[_Share, ...]
    dealt: tuple[str, ...]


_events = structlog.get_logger("penstock.rollout")


def beside_of(pipeline: str, workspace: Workspace) -> Beside | None:
    """Return the release that is to answer, or to see, a share of the requests now; None for none.

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


def _of_experiment(conn: sa.Connection, pipeline: str) -> Beside | None:
    found = experiments.open_of(conn, pipeline)
    if found is None or found.state is not ExperimentState.RUNNING:
        return None
    plan = msgspec.convert(found.plan, _Dealing)
    live = releases.live(conn, pipeline)
    if not plan.dealt or live is None or str(live.ref) != plan.dealt[-1]:
        return None
    ref = parse_ref(plan.dealt[0])
    if not isinstance(ref, ReleaseRef):
        return None
    share = next(arm.share for arm in plan.arms if arm.name == plan.dealt[0])
    manifest = releases.get(conn, ref).manifest_digest
    return Beside(ref=ref, manifest=manifest, share=share, salt=plan.salt, variant="experiment")


def take_back_unfit(ref: ReleaseRef, why: str, workspace: Workspace) -> None:
    """Take back a candidate that cannot be served at all; where the store is away, it is told, and stays unserved."""
    try:
        with workspace.ledger.write() as conn:
            found = rollouts.opened(conn, ref.pipeline)
            if found is not None and found.ref == ref:
                said = why.partition("\n")[0]
                figures = {"guards": [{"name": "serving", "is_broken": True, "said": said}]}
                rollouts.move(
                    conn,
                    found,
                    RolloutState.ROLLED_BACK,
                    by=_SERVER,
                    reason=f"it cannot be served: {said}",
                    figures=figures,
                )
    except PenstockError as error:
        _events.error("candidate_not_taken_back", release=str(ref), reason=str(error))
