"""The state of a run in memory: what each node has become so far. The ledger holds the same facts, committed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from penstock.core.records import Artifact, CheckResult, DatasetVersion, Failure, Record
from penstock.core.settings import Policy
from penstock.core.states import NodeState
from penstock.engine.protocol import Given, Kind, Place, ReleasedModel
from penstock.pipeline.graph import Graph, Node
from penstock.pipeline.keys import KeyParts


class Champion(Record, frozen=True, kw_only=True):
    """The live release, as far as a run needs it."""

    release: str
    hash: str
    manifest_digest: str
    models: dict[str, ReleasedModel]


class Job(Record, frozen=True, kw_only=True):
    """What is to be executed; plain data.

    Attributes:
        graph: The pipeline with the platform's own nodes.
        params: Run parameters by node, defaults filled in.
        now: Logical time said by the caller, or None to take it from the data.
        as_of: Rows later than this are left for later intakes; None takes in whatever the sources hold.
        force: Nodes to run although their result is kept.
    """

    run_id: int
    graph: Graph
    place: Place
    params: dict[str, dict[str, Any]]
    policy: Policy
    now: datetime | None = None
    as_of: datetime | None = None
    started_at: datetime
    champion: Champion | None = None
    force: frozenset[str] = frozenset()


class Kept(Record, frozen=True, kw_only=True):
    """A result as the cache keeps it."""

    outputs: dict[str, Artifact] = {}
    parts: dict[str, dict[str, Artifact]] = {}
    checks: tuple[CheckResult, ...] = ()
    facts: dict[str, Any] = {}


@dataclass(slots=True, eq=False)  # compared by identity: its fields are large, and two are never the same work
class Unit:
    """One piece of a node that is kept, reused, retried and leased by itself."""

    node: Node
    part: str
    kind: Kind
    given: tuple[Given, ...]
    parts: KeyParts
    key: str
    params: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    number: int = 0
    losses: int = 0
    attempt_id: int = 0
    token: int = 0
    not_before: float = 0.0

    @property
    def lease(self) -> str:
        """Name of the lease that whoever does this work must hold."""
        return f"intake/{self.parts.node}" if self.kind == "intake" else f"result/{self.key}"


@dataclass(slots=True)
class NodeRun:
    """What a node has become in this run."""

    node: Node
    state: NodeState = NodeState.WAITING
    is_expanded: bool = False
    pending: int = 0
    reused: int = 0
    kept: dict[str, Kept] = field(default_factory=dict)
    dataset: DatasetVersion | None = None
    previous: DatasetVersion | None = None
    split: Kept | None = None
    failures: list[Failure] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether what depends on this node may start."""
        return self.state in {NodeState.SUCCEEDED, NodeState.REUSED}

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to this node."""
        return self.state not in {NodeState.WAITING, NodeState.RUNNING}

    def output(self, name: str) -> Artifact:
        """Return an output of a node that is not a fan-out."""
        return self.kept[""].outputs[name]


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as its units are made from it: what is to be executed, and what each node has become so far."""

    job: Job
    runs: Mapping[str, NodeRun]


class RunOutcome(Record, frozen=True, kw_only=True):
    """What a run came to; everything a release is made from.

    Attributes:
        nodes: Final state by node.
        kept: Results by node and part.
        now: The logical time the steps saw, ISO 8601.
    """

    run_id: int
    state: str
    nodes: dict[str, NodeState]
    kept: dict[str, dict[str, Kept]]
    datasets: dict[str, DatasetVersion]
    checks: tuple[CheckResult, ...]
    failures: dict[str, Failure]
    now: str | None
