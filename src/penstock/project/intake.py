"""A run of the datasets alone: takes in what has come, so that whoever judges next sees it."""

from datetime import datetime

from penstock.core.records import Record
from penstock.pipeline.graph import Graph
from penstock.project.running import RunOptions, run_graph
from penstock.project.workspace import Workspace
from penstock.store.ledger import runs

CAUSE = "intake"


class TakenIn(Record, frozen=True, kw_only=True):
    """What an intake did.

    Attributes:
        state: "succeeded" or "failed".
        datasets: The version of each dataset after it, "ratings@8".
        failures: By dataset that could not be taken in, why.
    """

    run_id: int
    state: str
    datasets: dict[str, str]
    failures: dict[str, str]


def take_in(graph: Graph, workspace: Workspace, *, now: datetime | None = None) -> TakenIn | None:
    """Take in the new rows of every dataset of a pipeline; None when it has no dataset.

    Args:
        graph: The pipeline.
        workspace: The project.
        now: What the dataset functions are told as `now`.

    Raises:
        StoreError: The store cannot be written.
    """
    names = frozenset(node.name for node in graph.nodes if node.role == "dataset")
    if not names:
        return None
    report = run_graph(graph, workspace, RunOptions(params={}, now=now, only=names, cause=CAUSE))
    return TakenIn(
        run_id=report.run_id,
        state=report.state,
        datasets={name: str(version) for name, version in report.outcome.datasets.items()},
        failures={name: failure.message for name, failure in report.failures.items()},
    )


def is_intake_due(pipeline: str, workspace: Workspace, now: datetime) -> bool:
    """Return whether the datasets of a pipeline have not been looked at for as long as policy allows."""
    with workspace.ledger.read() as conn:
        newest = runs.page(conn, pipeline=pipeline, limit=1)
    if not newest:
        return True
    # In the future lies what was begun by a clock that was wrong: that says nothing about when rows were looked for.
    rest_s = (now - newest[0].started_at).total_seconds()
    return not 0 <= rest_s < workspace.settings.policy(pipeline).intake_s
