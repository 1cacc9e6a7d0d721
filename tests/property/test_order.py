"""For any pipeline without a cycle: an order exists, respects every need, and every check stands where it can."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from penstock.pipeline.graph import Edge, Fingerprint, Node, Role
from penstock.pipeline.order import arrange, cycles, inputs_of, sort

ROLES: tuple[Role, ...] = ("step", "model", "check", "evaluate")


def _node(name: str, role: Role, takes: list[str]) -> Node:
    edges = [Edge(argument=source, source=source, node=source, form="value") for source in takes]
    if role == "evaluate":
        edges.append(Edge(argument="model", source="model", node="", form="word"))
    return Node(
        name=name,
        role=role,
        function=f"m:{name}",
        file="m.py",
        line=1,
        edges=tuple(edges),
        params=(),
        outputs=(name,),
        code=Fingerprint(digest=""),
    )


@st.composite
def pipelines(draw: st.DrawFn) -> list[Node]:
    """Nodes that take only earlier ones, declared in any order."""
    nodes: list[Node] = []
    for index in range(draw(st.integers(1, 14))):
        # Evaluations come last, since they take every model; checks give nothing.
        role: Role = draw(st.sampled_from(ROLES)) if index else "step"
        givers = [node.name for node in nodes if node.role not in {"check", "evaluate"}]
        if role == "check":
            givers += [node.name for node in nodes if node.role == "evaluate"]
        nodes.append(_node(f"n{index}", role, draw(st.lists(st.sampled_from(givers), unique=True)) if givers else []))
    return draw(st.permutations(nodes))


@given(pipelines())
def test_every_node_comes_after_what_it_needs(nodes: list[Node]) -> None:
    """All nodes are there once, after their inputs and after the checks that gate them."""
    arranged = arrange(nodes)
    assert {node.name for node in arranged} == {node.name for node in nodes}
    models = frozenset(node.name for node in nodes if node.role == "model")
    done: set[str] = set()
    for node in arranged:
        assert done >= inputs_of(node.edges, models) | set(node.after)
        done.add(node.name)


@given(pipelines())
def test_a_check_gates_all_it_can(nodes: list[Node]) -> None:
    """A node that shares an input with a check waits for it, unless the check waits for that node."""
    arranged = arrange(nodes)
    models = frozenset(node.name for node in nodes if node.role == "model")
    takes = {node.name: inputs_of(node.edges, models) for node in nodes}
    needs = {node.name: takes[node.name] | set(node.after) for node in arranged}
    for check in (node for node in arranged if node.role == "check"):
        before, waiting = set[str](), [check.name]
        while waiting:
            for name in needs[waiting.pop()] - before:
                before.add(name)
                waiting.append(name)
        for node in arranged:
            shares = bool(takes[check.name] & takes[node.name]) and node.role != "check"
            assert (check.name in node.after) == (shares and node.name not in before)


@given(st.dictionaries(st.integers(0, 8).map(str), st.frozensets(st.integers(0, 8).map(str)), min_size=1))
def test_cycles_are_found_exactly_when_no_order_exists(drawn: dict[str, frozenset[str]]) -> None:
    """Each cycle told is one: every node on it is needed by the next."""
    needs = {name: needed & drawn.keys() for name, needed in drawn.items()}
    order, stuck = sort(needs)
    found = cycles(needs)
    assert bool(found) == bool(stuck) == (len(order) < len(needs))
    for cycle in found:
        assert cycle[0] == cycle[-1]
        assert all(before in needs[after] for before, after in itertools.pairwise(cycle))
