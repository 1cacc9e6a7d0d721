"""How long each run took, node by node, kept with the commit it was made from, and whether that is more than usual.

Belongs here: the record of a run's times as evidence, and what a series of them says. The test: `monitoring.pace`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.process import this_process
from penstock.core.records import Record
from penstock.core.refs import RunRef
from penstock.core.states import AttemptState
from penstock.engine.state import Job, RunOutcome
from penstock.monitoring.pace import REFERENCE, Slowdown, Took, factor_of, slowdown_of, usual_of
from penstock.pipeline.graph import Node
from penstock.project.commits import Commit
from penstock.project.proving import Asked
from penstock.store.ledger import attempts, evidence, runs

# Runs looked back over: a node that is mostly reused was last run long ago.
_MOST = 80
# Growth that nobody minds: what starting a process and importing a library varies by.
_LEAST_CPU_S, _LEAST_ANSWER_S, _LEAST_BYTES = 0.25, 0.0002, 64e6


class Timing(Record, frozen=True, kw_only=True):
    """What one node took in one run, per part where it has several.

    Attributes:
        cpu_s: Of a serve function, for one answer.
        rows: Rows it was given; None where nobody knows.
        reason: Why it ran, in words.
        usual_cpu_s: What the runs before took, by their median; None while too few say it.
        factor: CPU time by what is usual, beyond what more rows explain.
    """

    cpu_s: float
    wall_s: float = 0.0
    peak_bytes: int = 0
    rows: int | None = None
    reason: str = ""
    is_answer: bool = False
    usual_cpu_s: float | None = None
    factor: float | None = None


class RunTimings(Record, frozen=True, kw_only=True):
    """What a run took: the figures of evidence of kind "timing".

    Attributes:
        commit: Of git, when it began; None where there is none.
        code: Digest of the code snapshot.
        cpu_s: Of the nodes of which the usual time is known, together.
        usual_cpu_s: What these usually take.
        factor: The one by the other, beyond what more rows explain.
    """

    run: str
    nodes: dict[str, Timing]
    commit: Commit | None = None
    code: str = ""
    host: str = ""
    finished_at: datetime | None = None
    cpu_s: float | None = None
    usual_cpu_s: float | None = None
    factor: float | None = None


class Slower(Record, frozen=True, kw_only=True):
    """A node that takes more than it did.

    Attributes:
        what: "CPU time", "CPU time of an answer" or "memory".
        usual: Runs before the change, oldest first; `since` are those after it.
    """

    node: str
    what: str
    change: Slowdown
    usual: tuple[RunTimings, ...]
    since: tuple[RunTimings, ...]


def timings_of(
    conn: sa.Connection, job: Job, outcome: RunOutcome, *, commit: Commit | None, asked: Mapping[str, Asked]
) -> RunTimings:
    """Return what a run took, compared with the runs before it.

    Args:
        conn: A transaction; what became of the nodes is written.
        job: The run.
        outcome: What it came to.
        commit: What the project stood at when it began.
        asked: What an answer of each serve function took, when the release was proven.
    """
    reasons = {(n.node, n.part): n.reason for n in runs.nodes(conn, job.run_id)}
    rows = {node.name: _rows_given(node, outcome) for node in job.graph.nodes}
    fans = {node.name for node in job.graph.nodes if node.each is not None}
    nodes: dict[str, Timing] = {}
    for name, tries in _grouped(attempts.of_run(conn, job.run_id), fans).items():
        first, count = tries[0], len(tries)
        given = rows.get(first.node)
        nodes[name] = Timing(
            cpu_s=sum(a.cpu_s or 0.0 for a in tries) / count,
            wall_s=sum(a.wall_s or 0.0 for a in tries) / count,
            peak_bytes=max(a.peak_bytes or 0 for a in tries),
            rows=None
            if given is None
            else given // (max(len(outcome.kept.get(first.node, ())), 1) if count > 1 else 1),
            reason=reasons.get((first.node, first.part), ""),
        )
    nodes |= {
        name: Timing(cpu_s=one.cpu_s, wall_s=one.cpu_s, peak_bytes=one.peak_bytes, is_answer=True)
        for name, one in asked.items()
    }
    made = RunTimings(
        run=str(RunRef(job.run_id)),
        nodes=nodes,
        commit=commit,
        code=job.place.code_dir.rpartition("/")[2],
        host=this_process().host,
    )
    return _compared(made, recorded(conn, job.graph.pipeline))


def evidence_of(pipeline: str, timings: RunTimings) -> evidence.NewEvidence:
    """Return the times of a run as the ledger keeps them."""
    return evidence.NewEvidence(
        pipeline=pipeline, subject=timings.run, kind="timing", by=timings.run, figures=msgspec.to_builtins(timings)
    )


def recorded(conn: sa.Connection, pipeline: str, most: int = _MOST) -> list[RunTimings]:
    """Return the times of the newest runs of a pipeline, oldest first."""
    found = evidence.of_kind(conn, pipeline, "timing", most=most)
    return [
        msgspec.structs.replace(msgspec.convert(one.figures, RunTimings), finished_at=one.at) for one in reversed(found)
    ]


def timings_of_run(conn: sa.Connection, pipeline: str, run: str) -> RunTimings | None:
    """Return the times of one run; None where none were kept, as of runs of some nodes only."""
    found = evidence.newest(conn, pipeline, "timing", run)
    return None if found is None else msgspec.convert(found.figures, RunTimings)


def slower(series: Sequence[RunTimings]) -> list[Slower]:
    """Return the nodes that take more than they did, as far as the newest runs still show it.

    Args:
        series: Times of runs, oldest first.
    """
    names = sorted({name for one in series for name in one.nodes})
    return [found for name in names for found in _slower(name, series)]


def _slower(name: str, series: Sequence[RunTimings]) -> Iterator[Slower]:
    own = [one for one in series if name in one.nodes][-2 * REFERENCE :]
    for what, took, least in _measures(name, own):
        found = slowdown_of(took, least=least)
        if found is not None:
            cut = len(own) - found.after
            usual = own[cut - found.before : cut]
            yield Slower(node=name, what=what, change=found, usual=tuple(usual), since=tuple(own[cut:]))


def _measures(name: str, own: Sequence[RunTimings]) -> Iterator[tuple[str, list[Took], float]]:
    times = [one.nodes[name] for one in own]
    is_answer = bool(times) and times[-1].is_answer
    what, least = ("CPU time of an answer", _LEAST_ANSWER_S) if is_answer else ("CPU time", _LEAST_CPU_S)
    yield what, [_took(t) for t in times], least
    yield "memory", [Took(t.peak_bytes, t.rows) for t in times], _LEAST_BYTES


def _compared(made: RunTimings, before: Sequence[RunTimings]) -> RunTimings:
    nodes: dict[str, Timing] = {}
    for name, timing in made.nodes.items():
        known = [_took(one.nodes[name]) for one in before if name in one.nodes]
        found, usual = factor_of(known, _took(timing)), usual_of(known)
        nodes[name] = msgspec.structs.replace(timing, factor=found, usual_cpu_s=usual)
    known_ones = [t for t in nodes.values() if t.factor and t.usual_cpu_s is not None and not t.is_answer]
    cpu_s = sum(t.cpu_s for t in known_ones)
    expected = sum(t.cpu_s / t.factor for t in known_ones if t.factor)
    return msgspec.structs.replace(
        made,
        nodes=nodes,
        cpu_s=cpu_s if known_ones else None,
        usual_cpu_s=sum(t.usual_cpu_s or 0.0 for t in known_ones) if known_ones else None,
        factor=cpu_s / expected if expected else None,
    )


def _took(timing: Timing) -> Took:
    return Took(timing.cpu_s, timing.rows)


def _grouped(tries: Sequence[attempts.Attempt], fans: set[str]) -> dict[str, list[attempts.Attempt]]:
    """Return the attempts that made something, by node; models that an evaluation goes through are each their own.

    Of a fan-out, cutting its input into parts is left out: that is no part.
    """
    found: dict[str, list[attempts.Attempt]] = {}
    for one in tries:
        if one.state is AttemptState.SUCCEEDED and (one.part or one.node not in fans):
            name = one.node if one.node in fans or not one.part else f"{one.node}/{one.part}"
            found.setdefault(name, []).append(one)
    return found


def _rows_given(node: Node, outcome: RunOutcome) -> int | None:
    if node.role == "dataset":
        version = outcome.datasets.get(node.name)
        return None if version is None else version.rows_added or None
    given: list[Any] = []
    for edge in node.edges:
        version = outcome.datasets.get(edge.source)
        made = outcome.kept.get(edge.node, {}).get("")
        if version is not None:
            given.append(version.rows)
        elif made is not None and edge.source in made.outputs:
            given.append(made.outputs[edge.source].rows)
    return sum(n for n in given if n is not None) or None
