"""Prepares the call of one node alone, from the working tree, with the inputs a run would give it."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.core.errors import InputError, StepError
from penstock.core.refs import RunRef
from penstock.core.states import NodeState
from penstock.engine import units
from penstock.engine.journal import Journal
from penstock.engine.platform_nodes import is_executed, with_platform_nodes
from penstock.engine.protocol import Place, Task
from penstock.engine.state import Job, NodeRun, RunOutcome, RunView, Unit
from penstock.pipeline.graph import Graph, Node
from penstock.pipeline.params import all_params, near_miss
from penstock.project.running import RunOptions, run_graph
from penstock.project.workspace import Workspace, live_champion


@dataclass(frozen=True, slots=True)
class Prepared:
    """A task written to a file, ready to be performed in the foreground."""

    file: Path
    part: str
    parts: tuple[str, ...]


def prepare(graph: Graph, node: str, workspace: Workspace, options: RunOptions, *, part: str | None = None) -> Prepared:
    """Make what a node needs, reusing what is kept, and write down the call a run would make.

    Args:
        graph: The pipeline.
        node: The node to call.
        workspace: Its project.
        options: As for a run.
        part: Key of a fan-out or model of an evaluation; None for the first, or the candidate.

    Raises:
        InputError: There is no such node or part, or nothing executes it.
        StepError: Something it needs fails.
    """
    found = _find(graph, node)
    job = _job(graph, workspace, options)
    needed = units.needs(found, job) & {n.name for n in graph.nodes if is_executed(n)}
    outcome = _make(needed, graph, workspace, options)
    view = RunView(job, {n.name: _as_run(n, outcome) for n in job.graph.nodes if is_executed(n)})
    work = _units(found, view, workspace)
    if part is None:
        part = _candidate(graph) if found.role == "evaluate" else work[0].part if work else ""
    chosen = next((u for u in work if u.part == part), None)
    if chosen is None:
        known = ", ".join(u.part for u in work[:10])
        raise InputError(f"Node {node!r} has no part {part!r}.", hint=f"it has {known}" if known else "it has no parts")
    task = Task(
        id=f"debug-{node}",
        kind=chosen.kind,
        pipeline=graph.pipeline,
        node=found,
        part=chosen.part,
        given=chosen.given,
        params=chosen.params,
        place=job.place,
        extra={**chosen.extra, "now": (job.now or job.started_at).isoformat()},
    )
    with tempfile.NamedTemporaryFile(dir=workspace.home / "tmp", prefix="debug-", suffix=".json", delete=False) as file:
        file.write(msgspec.json.encode(task))
    return Prepared(Path(file.name), chosen.part, tuple(u.part for u in work if u.part))


def _candidate(graph: Graph) -> str:
    return next((n.name for role in ("model", "baseline") for n in graph.nodes if n.role == role), "")


def _find(graph: Graph, name: str) -> Node:
    names = [n.name for n in graph.nodes if is_executed(n)]
    if name in names:
        # Without its gates: a check that failed on its input is often why a person looks at it.
        return msgspec.structs.replace(graph.node(name), after=())
    near = near_miss(name, names)
    hint = f"did you mean {near!r}?" if near else f"it has {', '.join(names)}"
    if any(n.name == name for n in graph.nodes):
        raise InputError(
            f"A run does not execute {name!r}: it answers requests.", hint=f"ask it: penstock predict {graph.pipeline}"
        )
    raise InputError(f"Pipeline {graph.pipeline!r} has no node {name!r}.", hint=hint)


def _job(graph: Graph, workspace: Workspace, options: RunOptions) -> Job:
    policy = workspace.settings.policy(graph.pipeline)
    root = os.fspath(workspace.settings.root)
    return Job(
        run_id=0,
        graph=with_platform_nodes(graph),
        # The working tree rather than a snapshot: the debugger shows, and a person mends, the real files.
        place=Place(root=root, home=os.fspath(workspace.home), code_dir=root, import_root=graph.import_root),
        params=all_params(graph, {**policy.params, **options.params}),
        policy=policy,
        now=options.now,
        started_at=workspace.clock.now(),
        champion=live_champion(graph.pipeline, workspace),
    )


def _make(needed: set[str], graph: Graph, workspace: Workspace, options: RunOptions) -> RunOutcome | None:
    if not needed:
        return None
    only = RunOptions(
        params=options.params, now=options.now, only=frozenset(needed), engine=options.engine, cause=options.cause
    )
    report = run_graph(graph, workspace, only)
    failed = [
        name for name in sorted(needed) if report.outcome.nodes.get(name) in {NodeState.FAILED, NodeState.SKIPPED}
    ]
    if failed:
        raise StepError(
            f"What it needs does not succeed: {', '.join(failed)}.",
            hint=f"see why: penstock show {RunRef(report.run_id)}; or debug that first",
        )
    return report.outcome


def _as_run(node: Node, outcome: RunOutcome | None) -> NodeRun:
    run = NodeRun(node)
    if outcome is not None and node.name in outcome.nodes:
        run.state = outcome.nodes[node.name]
        run.kept = dict(outcome.kept[node.name])
        run.dataset = run.previous = outcome.datasets.get(node.name)
    return run


def _units(node: Node, view: RunView, workspace: Workspace) -> list[Unit]:
    cut = units.needs_split(node, view)
    if cut:
        split = units.split_unit(node, cut, view)
        journal = Journal(view.job, workspace.ledger, workspace.blobs)
        kept = journal.lookup([split]).get(split.key)
        if kept is None:
            raise InputError(
                f"The inputs of {node.name!r} are not cut into parts yet.", hint="run the pipeline once, then debug it"
            )
        view.runs[node.name].split = kept
    return units.units_of(node, view)
