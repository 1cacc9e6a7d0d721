"""The order in which nodes can run: what needs what, which checks stand before which nodes, and where it goes round.

Belongs here: arithmetic on names. Does not: how names are found in signatures (`describe`).
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from penstock.pipeline.graph import Edge, Node, Role

Needs = Mapping[str, AbstractSet[str]]
_ANSWERING: frozenset[Role] = frozenset({"serve", "fallback"})
_COMPARED: frozenset[Role] = frozenset({"model", "baseline"})


def inputs_of(edges: Iterable[Edge], models: frozenset[str]) -> frozenset[str]:
    """Return the nodes whose results come in over `edges`; the word `model` stands for all of `models`."""
    edges = tuple(edges)
    makers = frozenset(edge.node for edge in edges if edge.node)
    takes_model = any(edge.form == "word" and edge.source == "model" for edge in edges)
    return makers | models if takes_model else makers


def arrange(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return nodes, which have no cycle, with `after` filled in and in an order in which they can run.

    A check over some inputs gates every node that takes one of them, unless the check itself needs that node, and
    every node that answers requests. Among nodes that are ready, the one declared first comes first.
    """
    models = _compared(nodes)
    needs = {node.name: set(inputs_of(node.edges, models)) for node in nodes}
    after = _gates(nodes, needs, models)
    for name, checks in after.items():
        needs[name] |= set(checks)
    by_name = {node.name: node for node in nodes}
    order, _ = sort(needs)
    return tuple(_gated(by_name[name], tuple(after.get(name, ()))) for name in order)


def sort(needs: Needs) -> tuple[list[str], set[str]]:
    """Return the names in an order that respects `needs`, first come first served, and those no order reaches."""
    place = {name: index for index, name in enumerate(needs)}
    names = list(needs)
    waiting = {name: len(needed) for name, needed in needs.items()}
    users: dict[str, list[str]] = {name: [] for name in needs}
    for name, needed in needs.items():
        for other in needed:
            users[other].append(name)
    ready = [place[name] for name, count in waiting.items() if not count]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for user in users[name]:
            waiting[user] -= 1
            if not waiting[user]:
                heapq.heappush(ready, place[user])
    return order, set(needs).difference(order)


def cycles(needs: Needs) -> list[list[str]]:
    """Return cycles that share no node, one for each place where it goes round; data flows from each to the next."""
    found: list[list[str]] = []
    _, stuck = sort(needs)
    while stuck:
        path = [next(name for name in needs if name in stuck)]
        while True:
            following = next(name for name in needs if name in stuck and name in needs[path[-1]])
            if following in path:
                break
            path.append(following)
        found.append([following, *reversed(path[path.index(following) :])])
        left = {name: set(needs[name]) & stuck - set(path) for name in needs if name in stuck - set(path)}
        _, stuck = sort(left)
        needs = left
    return found


def _gates(nodes: Sequence[Node], needs: Mapping[str, set[str]], models: frozenset[str]) -> dict[str, list[str]]:
    users: dict[str, list[str]] = {}
    answering = [node.name for node in nodes if node.role in _ANSWERING]
    for node in nodes:
        if node.role != "check":
            for source in _sources(node, models):
                users.setdefault(source, []).append(node.name)
    after: dict[str, list[str]] = {}
    for check in nodes:
        if check.role != "check":
            continue
        before = _all_needed(check.name, needs, after)
        candidates = [name for source in sorted(_sources(check, models)) for name in users.get(source, ())]
        for name in dict.fromkeys([*candidates, *answering]):
            if name not in before:  # a node the check needs, even by way of another gate, cannot wait for it
                after.setdefault(name, []).append(check.name)
    return after


def _all_needed(start: str, needs: Needs, after: Mapping[str, Iterable[str]]) -> set[str]:
    seen, open_ = {start}, [start]
    while open_:
        name = open_.pop()
        new = {*needs[name], *after.get(name, ())} - seen
        seen |= new
        open_.extend(new)
    return seen


def _sources(node: Node, models: frozenset[str]) -> frozenset[str]:
    sources = frozenset(edge.source for edge in node.edges if edge.node)
    return sources | models if any(e.form == "word" and e.source == "model" for e in node.edges) else sources


def _compared(nodes: Iterable[Node]) -> frozenset[str]:
    return frozenset(node.name for node in nodes if node.role in _COMPARED)


def _gated(node: Node, after: tuple[str, ...]) -> Node:
    return msgspec.structs.replace(node, after=after) if after else node
