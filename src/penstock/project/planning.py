"""What a run would do, and why: the graph, the cache and a look at the sources, without running anything."""

from dataclasses import dataclass
from datetime import datetime

from penstock.core.errors import StepError
from penstock.engine import engines
from penstock.engine.journal import Journal
from penstock.engine.plan import PlanLine, Source, plan
from penstock.engine.platform_nodes import with_platform_nodes
from penstock.engine.protocol import Engine, Task
from penstock.engine.state import Job
from penstock.pipeline.graph import Graph, Node
from penstock.pipeline.params import all_params
from penstock.project import shown
from penstock.project.agreement import refuse_disagreement
from penstock.project.running import RunOptions
from penstock.project.workspace import Workspace, keep_code, live_champion, place_of


@dataclass(frozen=True, slots=True, repr=False)
class PlanReport:
    """What a run would do.

    Attributes:
        lines: One per node of the user's, in the order in which they can run.
        warnings: What could not be seen in the code, so that a change of it would go unnoticed.
    """

    pipeline: str
    goal: str
    lines: tuple[PlanLine, ...]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        rows = shown.plan_rows(self.lines)
        table = [shown.table_text(rows)] if rows else []
        return "\n".join([f"Plan of {self.pipeline}", *table, *(f"  warning: {w}" for w in self.warnings)])

    def _repr_html_(self) -> str:
        rows = [*shown.plan_rows(self.lines), *(("warning", "", w) for w in self.warnings)]
        return shown.table_html(f"Plan of {self.pipeline}", ("Action", "Node", "Why"), rows)


def plan_graph(graph: Graph, workspace: Workspace, options: RunOptions, *, look: bool = True) -> PlanReport:
    """Return what a run would do.

    Args:
        graph: The pipeline.
        workspace: Its project.
        options: As for a run.
        look: Call dataset functions to count new rows; without, only the code and what is kept are considered.

    Raises:
        InputError: A parameter is unknown or of the wrong type.
        StepError: A dataset function failed.
        StoreError: Lake and ledger are not of the same time.
    """
    policy = workspace.settings.policy(graph.pipeline)
    tree = keep_code(graph, workspace)
    job = Job(
        run_id=0,
        graph=with_platform_nodes(graph),
        place=place_of(graph, tree, workspace),
        params=all_params(graph, {**policy.params, **options.params}),
        policy=policy,
        now=options.now,
        started_at=workspace.clock.now(),
        champion=live_champion(graph.pipeline, workspace),
        force=options.force,
    )
    refuse_disagreement(graph.pipeline, graph.nodes, workspace)
    datasets = [n for n in graph.nodes if n.role == "dataset"]
    latest = {n.name: workspace.lake.table(graph.pipeline, n.name).latest() for n in datasets}
    counts = _look(datasets, job, workspace, options) if look and datasets else {}
    sources = {name: Source(version=version, new_rows=counts.get(name)) for name, version in latest.items()}
    lines = plan(job, Journal(job, workspace.ledger, workspace.blobs), sources)
    warnings = dict.fromkeys([*graph.warnings, *(w for n in graph.nodes for w in n.code.warnings)])
    return PlanReport(graph.pipeline, graph.goal, tuple(lines), tuple(warnings))


def _look(datasets: list[Node], job: Job, workspace: Workspace, options: RunOptions) -> dict[str, int | None]:
    engine = engines.make("local", workspace.settings, options.workers)
    try:
        for node in datasets:
            engine.submit(_peek(node, job))
        return _counted(engine, len(datasets))
    finally:
        engine.close()


def _peek(node: Node, job: Job) -> Task:
    now: datetime = job.now if job.now is not None else job.started_at
    return Task(
        id=f"peek-{node.name}",
        kind="peek",
        pipeline=job.graph.pipeline,
        node=node,
        params=job.params.get(node.name, {}),
        place=job.place,
        extra={"now": now.isoformat(), "taken_at": job.started_at.isoformat()},
    )


def _counted(engine: Engine, expected: int) -> dict[str, int | None]:
    counts: dict[str, int | None] = {}
    while len(counts) < expected:
        for result in engine.results(1.0):
            if result.failure is not None:
                raise StepError(f"{result.failure.traceback}{result.failure.message}", hint=result.failure.hint)
            counts[result.id.removeprefix("peek-")] = result.facts["new_rows"]
    return counts
