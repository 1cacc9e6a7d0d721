"""What a run tells whoever watches it (terminal, notebook, log): frozen facts in the past tense."""

from collections.abc import Callable

from penstock.core.records import CheckResult, DatasetVersion, Failure, Record, Usage
from penstock.core.states import NodeState


class RunStarted(Record, frozen=True, kw_only=True):
    """A run began; `total` nodes will be considered."""

    run_id: int
    pipeline: str
    total: int


class UnitStarted(Record, frozen=True, kw_only=True):
    """A process began to work on a node, or on one part of it."""

    node: str
    part: str
    reason: str
    number: int


class UnitEnded(Record, frozen=True, kw_only=True):
    """One try ended; `will_retry` when another follows."""

    node: str
    part: str
    failure: Failure | None
    usage: Usage
    will_retry: bool
    log: str = ""


class NodeEnded(Record, frozen=True, kw_only=True):
    """A node reached its final state."""

    node: str
    role: str
    state: NodeState
    reason: str
    units: int
    checks: tuple[CheckResult, ...] = ()
    dataset: DatasetVersion | None = None
    is_new_version: bool = False


class Waiting(Record, frozen=True, kw_only=True):
    """Another process is doing the same work; this one waits for its result."""

    node: str
    part: str


Event = RunStarted | UnitStarted | UnitEnded | NodeEnded | Waiting
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
    del event
