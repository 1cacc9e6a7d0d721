"""What the scheduler says to an engine and what it hears back: frozen data, as msgpack between processes.

An engine runs tasks somewhere. It knows nothing of graphs, caches, leases or ledgers.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from penstock.core.records import Artifact, CheckResult, DatasetVersion, Failure, Record, Usage
from penstock.core.states import AttemptState
from penstock.pipeline.graph import Form, Node

Kind = Literal[
    "call",  # a user's step, model, baseline or evaluation: outputs become artifacts
    "intake",  # a dataset: new rows become a dataset version
    "peek",  # a dataset: count new rows, take in nothing
    "check",  # a user's check
    "split",  # frames to one artifact per key, before a fan-out
    "summarise",  # evaluation rows to means, slices, lifts and the built-in checks on them
    "built_in",  # built-in checks on data: empty split, leakage
    "freeze",  # a dataset version to an artifact, for serving
    "answer",  # a serve function called as the pipeline would, on sampled requests
]


class ReleasedModel(Record, frozen=True, kw_only=True):
    """A model out of a release, with the code its class lives in (directory laid out for import)."""

    artifact: Artifact
    code_dir: str
    import_root: str


class Given(Record, frozen=True, kw_only=True):
    """One argument of a call, and where its value comes from; exactly one of the sources is set.

    Attributes:
        argument: Name of the function's parameter.
        form: Form the function asks for.
        value: A plain value (a word, a key).
        artifact: An output of another node.
        dataset: A dataset at a version.
        parts: Outputs of a fan-out by key; also the rows of an evaluation by model.
        released: Models of the live release by node.
    """

    argument: str
    form: Form
    value: Any = None
    artifact: Artifact | None = None
    dataset: DatasetVersion | None = None
    parts: dict[str, Artifact] | None = None
    released: dict[str, ReleasedModel] | None = None


class Place(Record, frozen=True, kw_only=True):
    """Where a task finds things: the project, its store, and the code snapshot laid out for import."""

    root: str
    home: str
    code_dir: str
    import_root: str


class Limits(Record, frozen=True, kw_only=True):
    """What a task may use; None means no limit."""

    memory_bytes: int | None = None
    timeout_s: float | None = None


class Task(Record, frozen=True, kw_only=True):
    """One try at one piece of work.

    Attributes:
        id: Names the attempt; unique within a run of the scheduler.
        part: Key of a fan-out, model of an evaluation, or "".
        extra: What only this kind needs (intake rules, requests to answer, roles of models), plain JSON.
    """

    id: str
    kind: Kind
    pipeline: str
    node: Node
    part: str = ""
    given: tuple[Given, ...] = ()
    params: dict[str, Any] = {}
    place: Place
    limits: Limits = Limits()
    extra: dict[str, Any] = {}


class Result(Record, frozen=True, kw_only=True):
    """What came of a task.

    Attributes:
        outputs: Artifact by output name.
        parts: By key, artifact by output or input name (kind "split").
        dataset: The version an intake committed, or found unchanged.
        checks: Results of user and built-in checks.
        facts: Plain JSON of this kind: metrics, answers, counts.
        log: Last lines the user's code printed.
    """

    id: str
    state: AttemptState
    outputs: dict[str, Artifact] = {}
    parts: dict[str, dict[str, Artifact]] = {}
    dataset: DatasetVersion | None = None
    checks: tuple[CheckResult, ...] = ()
    facts: dict[str, Any] = {}
    failure: Failure | None = None
    usage: Usage = Usage()
    log: str = ""


class Engine(Protocol):
    """Runs tasks in processes of its own. Both implementations pass `penstock.testing.engines`."""

    @property
    def slots(self) -> int:
        """How many tasks can run at once."""
        ...

    def submit(self, task: Task) -> None:
        """Start a task, or queue it when every slot is taken. Never blocks on user code."""
        ...

    def results(self, timeout_s: float) -> Sequence[Result]:
        """Wait up to `timeout_s` for tasks to end and return their results, each exactly once."""
        ...

    def cancel(self, task_id: str) -> None:
        """End a task and whatever it started; its result arrives as cancelled."""
        ...

    def close(self) -> None:
        """End everything. Idempotent."""
        ...
