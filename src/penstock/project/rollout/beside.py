"""What a server is told of a rollout: the release that stands beside the live one, and what becomes of an unfit one."""

import structlog

from penstock.core.errors import PenstockError
from penstock.core.refs import ReleaseRef
from penstock.core.states import RolloutState
from penstock.project.workspace import Workspace
from penstock.releases.rollout import parse_stages
from penstock.serving.processes.sides import Beside
from penstock.store.ledger import releases, rollouts

_SERVER = "server"
_events = structlog.get_logger("penstock.rollout")


def beside_of(pipeline: str, workspace: Workspace) -> Beside | None:
    """Return the candidate that is to answer, or to see, a share of the requests now; None for none."""
    with workspace.ledger.read() as conn:
        found = rollouts.opened(conn, pipeline)
        if found is None or found.state is RolloutState.WAITING:
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
