"""The states things go through, and the only tables that say which change is lawful."""

from enum import StrEnum

from penstock.core.errors import StoreError


class RunState(StrEnum):
    """The life of a run."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


class AttemptState(StrEnum):
    """The life of one try at one node."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    KILLED = "killed"  # its process died: signal, out of memory, os._exit
    CANCELLED = "cancelled"
    LOST = "lost"  # its supervisor died; recognised by a later process


class NodeState(StrEnum):
    """What became of a node within one run."""

    WAITING = "waiting"
    RUNNING = "running"
    REUSED = "reused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"  # something it needs failed
    CANCELLED = "cancelled"


class RolloutState(StrEnum):
    """The life of a rollout."""

    WAITING = "waiting"  # for approvals, or for evidence that policy requires
    RUNNING = "running"
    PAUSED = "paused"  # by a person: its share stays as it is
    DONE = "done"  # the candidate is live
    ROLLED_BACK = "rolled_back"  # by a guard or a person
    REPLACED = "replaced"  # by a newer candidate, or because another release went live


RUN_CHANGES: dict[RunState, frozenset[RunState]] = {
    RunState.RUNNING: frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.LOST}),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
    RunState.LOST: frozenset(),
}

ATTEMPT_CHANGES: dict[AttemptState, frozenset[AttemptState]] = {
    AttemptState.RUNNING: frozenset(AttemptState) - {AttemptState.RUNNING},
    **{state: frozenset() for state in AttemptState if state is not AttemptState.RUNNING},
}

_ENDS = {RolloutState.DONE, RolloutState.ROLLED_BACK, RolloutState.REPLACED}
ROLLOUT_CHANGES: dict[RolloutState, frozenset[RolloutState]] = {
    RolloutState.WAITING: frozenset({RolloutState.RUNNING, *_ENDS}),
    # To itself: the next stage, or another share.
    RolloutState.RUNNING: frozenset({RolloutState.RUNNING, RolloutState.PAUSED, *_ENDS}),
    RolloutState.PAUSED: frozenset({RolloutState.RUNNING, RolloutState.PAUSED, *_ENDS}),
    RolloutState.DONE: frozenset(),
    RolloutState.ROLLED_BACK: frozenset(),
    RolloutState.REPLACED: frozenset(),
}


def change_run(before: RunState, after: RunState) -> RunState:
    """Return `after` if a run may go there from `before`.

    Raises:
        StoreError: The change is not in the table.
    """
    if after in RUN_CHANGES[before]:
        return after
    raise StoreError(f"A run cannot go from {before.value!r} to {after.value!r}.")


def change_attempt(before: AttemptState, after: AttemptState) -> AttemptState:
    """Return `after` if an attempt may go there from `before`.

    Raises:
        StoreError: The change is not in the table.
    """
    if after in ATTEMPT_CHANGES[before]:
        return after
    raise StoreError(f"An attempt cannot go from {before.value!r} to {after.value!r}.")


def change_rollout(before: RolloutState, after: RolloutState) -> RolloutState:
    """Return `after` if a rollout may go there from `before`.

    Raises:
        StoreError: The change is not in the table.
    """
    if after in ROLLOUT_CHANGES[before]:
        return after
    raise StoreError(f"A rollout cannot go from {before.value!r} to {after.value!r}.")


class ExperimentState(StrEnum):
    """The life of an experiment."""

    PLANNED = "planned"
    RUNNING = "running"
    DECIDED = "decided"
    STOPPED = "stopped"  # by a person, before it decided


EXPERIMENT_CHANGES: dict[ExperimentState, frozenset[ExperimentState]] = {
    ExperimentState.PLANNED: frozenset({ExperimentState.RUNNING, ExperimentState.STOPPED}),
    ExperimentState.RUNNING: frozenset({ExperimentState.DECIDED, ExperimentState.STOPPED}),
    ExperimentState.DECIDED: frozenset(),
    ExperimentState.STOPPED: frozenset(),
}


def change_experiment(before: ExperimentState, after: ExperimentState) -> ExperimentState:
    """Return `after` if an experiment may go there from `before`.

    Raises:
        StoreError: The change is not in the table.
    """
    if after in EXPERIMENT_CHANGES[before]:
        return after
    raise StoreError(f"An experiment cannot go from {before.value!r} to {after.value!r}.")
