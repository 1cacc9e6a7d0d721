"""The nodes the platform adds to every graph: built-in checks, summaries, frozen serving inputs, sampled answers.

They are ordinary nodes with an option `task` that says what performs them, so cache, attempts and gating are the same.
"""

import itertools
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet

import msgspec

from penstock.core.digest import digest_value
from penstock.pipeline.graph import Edge, Fingerprint, Graph, Node, texts

# Raise when what a platform node computes changes, so that kept results are not mistaken for new ones.
VERSION = 1
SAMPLED_REQUESTS = 12


def with_platform_nodes(graph: Graph) -> Graph:
    """Return the graph with the platform's own nodes and their gates."""
    added = [*_splits(graph), *_leaks(graph), *_summaries(graph), *_serving(graph)]
    gates: dict[str, list[str]] = {}
    needs = _needs(graph)
    for node in added:
        if node.role == "check":
            for name in _gated_by(node, graph, needs):
                gates.setdefault(name, []).append(node.name)
    nodes = [msgspec.structs.replace(n, after=(*n.after, *gates.get(n.name, ()))) for n in graph.nodes]
    return msgspec.structs.replace(graph, nodes=(*nodes, *added))


def only_nodes(graph: Graph, names: frozenset[str]) -> Graph:
    """Return the graph cut down to some nodes, what they need, and the checks that guard them."""
    if not names:
        return graph
    wanted = _with_all_needed(names, _needs(graph))
    return msgspec.structs.replace(graph, nodes=tuple(n for n in graph.nodes if n.name in wanted))


def all_needed_by(graph: Graph, name: str) -> set[str]:
    """Return every node that a node needs, directly or not, and itself."""
    return _with_all_needed({name}, _needs(graph))


def task_of(node: Node) -> str:
    """Return the kind of task that performs a node."""
    if "task" in node.options:
        return str(node.options["task"])
    return {"dataset": "intake", "check": "check"}.get(node.role, "call")


def is_platform(node: Node) -> bool:
    """Return whether the platform added this node."""
    return "task" in node.options


def is_executed(node: Node) -> bool:
    """Return whether a run executes this node; serve functions and outcomes are only declared."""
    return node.role not in {"serve", "fallback", "outcome"}


def _platform(name: str, task: str, about: Node, edges: tuple[Edge, ...], **options: object) -> Node:
    return Node(
        name=name,
        role="check" if task in {"built_in", "summarise"} else "step",
        function="",
        file=about.file,
        line=about.line,
        edges=edges,
        params=(),
        outputs=(name,) if task == "freeze" else (),
        options={"task": task, **options},
        code=Fingerprint(digest=digest_value(["platform", task, VERSION])),
    )


def _splits(graph: Graph) -> list[Node]:
    return [
        _platform(
            f"no-empty-split:{node.name}",
            "built_in",
            node,
            tuple(Edge(argument=o, source=o, node=node.name, form="lazy") for o in node.outputs),
            check="no_empty_split",
            step=node.name,
        )
        for node in graph.nodes
        if node.role == "step" and len(node.outputs) > 1 and node.each is None
    ]


def _leaks(graph: Graph) -> list[Node]:
    """Pair what a model learns from with what an evaluation judges by, when one step made both."""
    learned = [e for n in graph.nodes if n.role == "model" and n.each is None for e in n.edges if _is_split(graph, e)]
    judged = [e for n in graph.nodes if n.role == "evaluate" for e in n.edges]
    pairs = {
        (train.source, test.source): (train, test)
        for train, test in itertools.product(learned, judged)
        if train.node == test.node and train.source != test.source
    }
    return [_leak(graph, train, test) for train, test in pairs.values()]


def _is_split(graph: Graph, edge: Edge) -> bool:
    return bool(edge.node) and len(graph.node(edge.node).outputs) > 1 and graph.node(edge.node).each is None


def _leak(graph: Graph, train: Edge, test: Edge) -> Node:
    step = graph.node(train.node)
    before = _with_all_needed({step.name}, _needs(graph)) - {step.name}
    tables = [n for n in sorted(graph.nodes, key=lambda n: n.name) if n.role == "dataset" and n.name in before]
    return _platform(
        f"no-leakage:{train.source}:{test.source}",
        "built_in",
        step,
        tuple(
            Edge(argument=role, source=e.source, node=e.node, form="lazy")
            for role, e in (("train", train), ("test", test))
        ),
        check="leakage",
        keys=[list(texts(d.options.get("key"))) for d in tables if d.options.get("key")],
        times=[d.options["time"] for d in tables if d.options.get("time")],
    )


def _summaries(graph: Graph) -> list[Node]:
    return [
        _platform(
            f"evidence:{node.name}",
            "summarise",
            node,
            (Edge(argument="evaluation", source=node.outputs[0], node=node.name, form="evaluation"),),
            evaluation=dict(node.options),
        )
        for node in graph.nodes
        if node.role == "evaluate"
    ]


def _serving(graph: Graph) -> list[Node]:
    frozen: dict[str, Node] = {}
    answers: list[Node] = []
    for node in graph.nodes:
        if node.role not in {"serve", "fallback"}:
            continue
        for edge in node.edges:
            if edge.node and graph.node(edge.node).role == "dataset":
                name = frozen_name(edge.source)
                frozen[name] = _platform(
                    name,
                    "freeze",
                    graph.node(edge.node),
                    (Edge(argument="dataset", source=edge.source, node=edge.node, form="lazy"),),
                )
        answers.append(_answers(node, frozen.keys()))
    return [*frozen.values(), *answers]


def _answers(node: Node, frozen: Collection[str]) -> Node:
    edges = tuple(
        msgspec.structs.replace(e, node=frozen_name(e.source), source=frozen_name(e.source))
        if frozen_name(e.source) in frozen and e.form in {"polars", "lazy", "pandas", "arrow", "batches"}
        else e
        for e in node.edges
    )
    return msgspec.structs.replace(
        node,
        name=f"answers:{node.name}",
        role="step",
        edges=edges,
        outputs=(),
        after=(),
        options={
            "task": "answer",
            "examples": node.options.get("examples", []),
            "fields": [{"name": p.name, "type": p.type, "required": p.required} for p in node.params],
            "columns": node.options.get("columns", []),
            "samples": SAMPLED_REQUESTS,
        },
    )


def frozen_name(dataset: str) -> str:
    """Return the name of the node that freezes a dataset for serving."""
    return f"frozen:{dataset}"


def _needs(graph: Graph) -> dict[str, set[str]]:
    """Return, by node, the nodes it needs directly."""
    models = {n.name for n in graph.nodes if n.role in {"model", "baseline"}}
    needs = {n.name: {e.node for e in n.edges if e.node} | set(n.after) for n in graph.nodes}
    for node in graph.nodes:
        if node.role == "evaluate":
            needs[node.name] |= models
    return needs


def _with_all_needed(names: AbstractSet[str], needs: Mapping[str, set[str]]) -> set[str]:
    """Return some nodes and every node they need, directly or not."""
    # Asked for a few nodes at a time: the sets of all nodes together grow with the square of a long pipeline.
    found = set(names)
    waiting = list(names)
    while waiting:
        new = needs[waiting.pop()] - found
        found |= new
        waiting.extend(new)
    return found


def _gated_by(check: Node, graph: Graph, needs: Mapping[str, set[str]]) -> list[str]:
    sources = {e.source for e in check.edges}
    upstream = _with_all_needed({e.node for e in check.edges}, needs)
    return [
        n.name
        for n in graph.nodes
        if n.name not in upstream and n.role != "check" and sources & {e.source for e in n.edges}
    ]
