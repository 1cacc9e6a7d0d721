"""What a run would do, and why, without doing it."""

import graphlib
from collections.abc import Mapping
from typing import Literal

import msgspec

from penstock.core.records import DatasetVersion, Record
from penstock.core.states import NodeState
from penstock.engine import units
from penstock.engine.journal import Journal
from penstock.engine.platform_nodes import is_executed, is_platform
from penstock.engine.state import Job, Kept, NodeRun, RunView, Unit
from penstock.pipeline.keys import KeyParts, explain, node_key

Action = Literal["run", "reuse", "depends"]


class PlanLine(Record, frozen=True, kw_only=True):
    """What would happen to one node.

    Attributes:
        action: "run", "reuse", or "depends": whether it runs is known once what it needs has run.
        reason: Why, in words.
    """

    node: str
    role: str
    action: Action
    reason: str
    file: str
    line: int


class Source(Record, frozen=True, kw_only=True):
    """A dataset before a run: what is in the lake, and what its function would add."""

    version: DatasetVersion | None
    new_rows: int | None


def plan(job: Job, journal: Journal, sources: Mapping[str, Source]) -> list[PlanLine]:
    """Return one line per node of the user's, in the order in which they can run.

    Args:
        job: What would be executed.
        journal: The door to what is kept.
        sources: By dataset, what is there and what is new.
    """
    view = RunView(job, {n.name: NodeRun(n) for n in job.graph.nodes if is_executed(n)})
    lines: list[PlanLine] = []
    for name, run in _in_order(view):
        action, reason = _decide(run, view, journal, sources)
        run.state = NodeState.REUSED if action == "reuse" else NodeState.WAITING
        if not is_platform(run.node):
            node = run.node
            lines.append(
                PlanLine(node=name, role=node.role, action=action, reason=reason, file=node.file, line=node.line)
            )
    return _with_own_changes(lines, job, journal)


def _with_own_changes(lines: list[PlanLine], job: Job, journal: Journal) -> list[PlanLine]:
    """Say "run" of nodes that wait for others but will run in any case: never made, or changed themselves."""
    before = journal.made_before([line.node for line in lines if line.action == "depends"])
    return [_judged(line, before.get(line.node), job) if line.action == "depends" else line for line in lines]


def _judged(line: PlanLine, before: KeyParts | None, job: Job) -> PlanLine:
    if before is None:
        return msgspec.structs.replace(line, action="run", reason="never run")
    after = msgspec.structs.replace(before, code=job.graph.node(line.node).code, params=job.params.get(line.node, {}))
    if node_key(before) == node_key(after):
        return line
    return msgspec.structs.replace(line, action="run", reason=explain(before, after))


def _in_order(view: RunView) -> list[tuple[str, NodeRun]]:
    needs = {name: units.needs(run.node, view.job) & set(view.runs) for name, run in view.runs.items()}
    order = graphlib.TopologicalSorter(needs).static_order()
    return [(name, view.runs[name]) for name in order]


def _decide(run: NodeRun, view: RunView, journal: Journal, sources: Mapping[str, Source]) -> tuple[Action, str]:
    node = run.node
    if node.role == "dataset":
        return _decide_dataset(run, sources[node.name])
    blockers = [n for n in sorted(units.needs(node, view.job) & set(view.runs)) if not view.runs[n].is_done]
    if blockers:
        return "depends", f"unless {_listed(blockers)} out the same"
    cut = units.needs_split(node, view)
    if cut:
        split = units.split_unit(node, cut, view)
        kept = journal.lookup([split]).get(split.key)
        if kept is None:
            return "run", journal.reasons([split], frozenset())[0]
        run.split = kept
    return _decide_units(run, units.units_of(node, view), view.job, journal)


def _decide_units(run: NodeRun, found: list[Unit], job: Job, journal: Journal) -> tuple[Action, str]:
    is_forced = run.node.name in job.force
    kept = {} if is_forced else journal.lookup(found)
    missing = [u for u in found if u.key not in kept]
    if not missing:
        run.kept = {u.part: kept[u.key] for u in found}
        return "reuse", "nothing it reaches has changed"
    reason = journal.reasons(missing[:1], job.force)[0]
    if len(found) > 1:
        reason = f"{len(missing)} of {len(found)} parts: {reason}"
    return "run", reason


def _decide_dataset(run: NodeRun, source: Source) -> tuple[Action, str]:
    run.dataset = run.previous = source.version
    since = f" since {source.version}" if source.version is not None else ""
    if source.new_rows is None:
        return "run", f"will look for new rows{since}"
    if source.new_rows == 0 and source.version is not None:
        run.kept = {"": Kept()}
        return "reuse", f"no new rows{since}"
    rows = "row" if source.new_rows == 1 else "rows"
    return "run", f"{source.new_rows:,} new {rows}{since}"


def _listed(names: list[str]) -> str:
    shown = [n for n in names if ":" not in n] or names
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return f"{', '.join(shown[:3])}{more} {'comes' if len(shown) == 1 else 'come'}"
