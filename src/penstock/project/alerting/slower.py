"""The alert that a node takes more time or memory than it did: since which run, and what changed with that run.

Read from the times that runs left as evidence, at each look; see `project.timing`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from penstock.project.alerting.cases import Fact
from penstock.project.commits import range_of
from penstock.project.timing import RunTimings, Slower, recorded, slower

KIND = "slower"
_NO_NEWS = frozenset({"", "asked for with --force", "looks for new rows", "never run", "its result is no longer there"})


def slower_facts(conn: sa.Connection, pipeline: str) -> list[Fact]:
    """Return what takes more than it did, one fact per node.

    Args:
        conn: A transaction.
        pipeline: Name of the pipeline.
    """
    found: dict[str, list[Slower]] = {}
    for one in slower(recorded(conn, pipeline)):
        found.setdefault(one.node, []).append(one)
    return [_fact(node, sorted(ones, key=lambda one: -one.change.score)) for node, ones in found.items()]


def _fact(node: str, found: list[Slower]) -> Fact:
    worst = found[0]
    before, first, newest = worst.usual[-1], worst.since[0], worst.since[-1]
    commits, changed = range_of(before.commit, first.commit), list(_changed(before, first, node))
    said = f"{node} {' and '.join(_grown(one) for one in found)}. It began with {first.run}, after {before.run}"
    said += f": commits {commits}" if ".." in commits else f", at commit {commits}" if commits else ""
    said += f"; {'; '.join(changed)}." if changed else "."
    evidence: dict[str, Any] = {
        "run": first.run,
        "before": before.run,
        "commits": commits,
        "changed": changed,
        "score": worst.change.score,
        "usual": {one.run: _short(worst, one) for one in worst.usual},
        "since": {one.run: _short(worst, one) for one in worst.since},
    }
    at = first.finished_at or datetime.fromtimestamp(0, UTC)
    return Fact(kind=KIND, subject=node, mark=newest.run, at=at, said=said, evidence=evidence)


def _grown(one: Slower) -> str:
    change = one.change
    return (
        f"takes {change.factor:.1f} times the {one.what}: {_amount(one, change.now)} in the last {change.after} runs, "
        f"{_amount(one, change.usual)} in the {change.before} before"
    )


def _changed(before: RunTimings, first: RunTimings, node: str) -> Iterator[str]:
    """Return what was different in the first slow run, as far as the ledger knows it."""
    reason = first.nodes[node].reason
    if reason not in _NO_NEWS:
        yield reason
    elif before.code != first.code:
        yield f"the code differs: penstock diff {before.run} {first.run}"
    if before.host != first.host:
        yield f"it ran on {first.host} instead of {before.host}"


def _amount(one: Slower, amount: float) -> str:
    if one.what == "memory":
        return f"{amount / 1e6:,.0f} MB"
    return f"{amount * 1e3:.3g} ms" if amount < 1 else f"{amount:.3g} s"


def _short(one: Slower, timings: RunTimings) -> float:
    timing = timings.nodes[one.node]
    return timing.peak_bytes if one.what == "memory" else round(timing.cpu_s, 6)
