"""When a failed try is worth another: infrastructure loss twice by default, user exceptions as policy says. Pure."""

import time

from penstock.core.settings import Policy, StepPolicy, parse_duration
from penstock.core.states import AttemptState
from penstock.engine.protocol import Result
from penstock.engine.state import Unit

LOSSES_ALLOWED = 2
_LOST = frozenset({"signal", "lost"})
_NEVER = frozenset({"memory", "cancelled", "refused", "damaged", "store"})


def policy_of(policy: Policy, node: str) -> StepPolicy:
    """Return what the engineer grants a node; platform nodes follow the node they are about."""
    return policy.steps.get(node, StepPolicy())


def wait_before_retry(unit: Unit, result: Result, policy: StepPolicy) -> float | None:
    """Return seconds to wait before the next try, or None when there is none."""
    if result.state is AttemptState.SUCCEEDED or result.failure is None or result.failure.kind in _NEVER:
        return None
    if result.failure.kind in _LOST:
        return 0.0 if unit.losses < LOSSES_ALLOWED else None
    tries = unit.number - unit.losses
    if tries > policy.retries:
        return None
    return float(parse_duration(policy.retry_wait) * 2 ** (tries - 1))


def is_loss(result: Result) -> bool:
    """Return whether the platform lost the process, rather than the user's code failing."""
    return result.failure is not None and result.failure.kind in _LOST


def again(unit: Unit, *, wait_s: float, lost: bool = False) -> Unit:
    """Return the unit made ready for its next try."""
    unit.losses += lost
    unit.not_before = time.monotonic() + wait_s
    unit.attempt_id = 0
    return unit
