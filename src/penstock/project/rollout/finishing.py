"""The end of a rollout that went well: the candidate is live. Loads no numbers library."""

from typing import Any

import sqlalchemy as sa

from penstock.core.states import RolloutState
from penstock.store.ledger import releases, rollouts
from penstock.store.ledger.rollouts import Rollout

BY = "guards"


def finish(
    conn: sa.Connection, rollout: Rollout, reason: str, figures: dict[str, Any] | None = None, *, by: str = BY
) -> Rollout:
    """Let the candidate go live; where another release went live meanwhile, the rollout is replaced instead.

    Args:
        conn: A writing transaction.
        rollout: As it was when that was decided.
        reason: Why, in words.
        figures: What was found; None keeps what stands.
        by: Who decided.
    """
    live = releases.live(conn, rollout.pipeline)
    if live is not None and live.ref != rollout.base_ref:
        return rollouts.move(
            conn, rollout, RolloutState.REPLACED, by=by, reason=f"{live.ref} went live meanwhile", figures=figures
        )
    moved = rollouts.move(
        conn, rollout, RolloutState.DONE, by=by, reason=reason, stage=len(rollout.stages) - 1, figures=figures
    )
    releases.set_endpoint(conn, rollout.pipeline, rollout.ref, by=by)
    return moved
