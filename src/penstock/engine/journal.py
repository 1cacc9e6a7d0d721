"""A run's door to the ledger: looks up what is kept, starts attempts under leases, commits results, or is refused.

One transaction per step of the loop. A result counts when its transaction commits under the lease it was made under.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from penstock.core import faults
from penstock.core.errors import LeaseLostError, NotFoundError
from penstock.core.process import this_process
from penstock.core.records import Artifact, CheckResult, DatasetVersion, Failure, Interval
from penstock.core.refs import RunRef
from penstock.core.states import AttemptState, NodeState
from penstock.engine.protocol import Result
from penstock.engine.state import Job, Kept, NodeRun, Unit
from penstock.pipeline.keys import KeyParts, explain
from penstock.store import lake
from penstock.store.blobs import Blobs
from penstock.store.ledger import Ledger, artifacts, attempts, checks, datasets, leases, results, runs

LEASE_S = 30.0
# Between a key and the name of an argument: a key may hold one as well, a name never does.
_TAB = "\t"


class Journal:
    """What one run reads from and writes to the ledger.

    Args:
        job: The run.
        token: Fencing token of the run's own lease.
    """

    def __init__(self, job: Job, ledger: Ledger, blobs: Blobs, *, token: int = 0) -> None:
        self._job = job
        self._ledger = ledger
        self._blobs = blobs
        self._token = token
        self._owner = this_process()
        self._held: dict[str, int] = {}
        self._previous: dict[str, DatasetVersion | None] = {}
        self._ended_nodes: list[runs.RunNode] = []
        self._reused: list[str] = []
        self._pending_evidence: list[tuple[str, str, Kept]] = []

    def lookup(self, units: Sequence[Unit]) -> dict[str, Kept]:
        """Return what is kept under the units' keys and still there in the blobs."""
        if not units:
            return {}
        with self._ledger.read() as conn:
            return self._lookup(conn, units)

    def _lookup(self, conn: Any, units: Sequence[Unit]) -> dict[str, Kept]:
        kinds = {u.key: u.kind for u in units}
        found = results.get(conn, list(kinds)) if kinds else {}
        kept = {key: _decode(result, kinds[key]) for key, result in found.items() if self._is_there(result)}
        self._reused.extend(kept)
        return kept

    def _is_there(self, result: results.Result) -> bool:
        return all(artifact.digest in self._blobs for artifact in result.outputs.values())

    def made_before(self, nodes: Sequence[str]) -> dict[str, KeyParts]:
        """Return what the newest result of each node rested on; nodes that were never made are missing."""
        with self._ledger.read() as conn:
            found = {name: results.newest_of_node(conn, self._job.graph.pipeline, name) for name in nodes}
        return {name: msgspec.convert(r.explanation, KeyParts) for name, r in found.items() if r is not None}

    def reasons(self, units: Sequence[Unit], force: frozenset[str]) -> list[str]:
        """Say in words why each unit has to run."""
        if not units:
            return []
        with self._ledger.read() as conn:
            return [self._reason(conn, unit, force) for unit in units]

    def _reason(self, conn: Any, unit: Unit, force: frozenset[str]) -> str:
        if unit.node.name in force:
            return "asked for with --force"
        if unit.kind == "intake":
            return "looks for new rows"
        newest = results.newest(conn, self._job.graph.pipeline, unit.node.name, unit.part)
        if newest is None:
            return "never run"
        if newest.key == unit.key:
            return "its result is no longer there"
        return explain(msgspec.convert(newest.explanation, KeyParts), unit.parts)

    def start(self, units: Sequence[Unit], force: frozenset[str]) -> tuple[set[Unit], dict[str, Kept]]:
        """Start an attempt for every unit whose lease is free.

        Returns:
            The units started, and results that another process has kept since they were looked up; a unit
            in neither is being worked on by somebody else.

        Raises:
            LeaseLostError: Another process has taken this run for dead.
        """
        # A start lost in a power cut never happened; a killed process loses nothing.
        with self._ledger.write(durable=False) as conn:
            self.check_lease(conn)
            kept = self._lookup(conn, [u for u in units if u.kind != "intake" and u.node.name not in force])
            tokens: dict[Unit, int] = {}
            for unit in units:
                token = None if unit.key in kept else leases.acquire(conn, unit.lease, self._owner, LEASE_S)
                if token is not None:
                    tokens[unit] = token
            ids = attempts.start_all(conn, [self._new_attempt(unit, token) for unit, token in tokens.items()])
            self._write_notes(conn)
        self._forget_notes()
        for (unit, token), attempt_id in zip(tokens.items(), ids, strict=True):
            unit.token, unit.attempt_id, unit.number = token, attempt_id, unit.number + 1
            self._held[unit.lease] = token
        return set(tokens), kept

    def _new_attempt(self, unit: Unit, token: int) -> attempts.NewAttempt:
        return attempts.NewAttempt(
            run_id=self._job.run_id,
            node=unit.node.name,
            part=unit.part,
            number=unit.number + 1,
            token=token,
            key=unit.key,
        )

    def intake_facts(self, unit: Unit) -> dict[str, Any]:
        """Return what an intake task needs to know beside its function."""
        if unit.kind not in {"intake", "peek"}:
            return {}
        pipeline = self._job.graph.pipeline
        self._previous[unit.node.name] = (
            lake.Lake(Path(self._job.place.home) / "lake").table(pipeline, unit.node.name).latest()
        )
        now = self._job.now if self._job.now is not None else self._job.started_at
        as_of = None if self._job.as_of is None else self._job.as_of.isoformat()
        return {"taken_at": self._job.started_at.isoformat(), "now": now.isoformat(), "as_of": as_of}

    def previous(self, unit: Unit) -> DatasetVersion | None:
        """Return the version of a dataset before this run took in."""
        return self._previous.get(unit.node.name)

    def finish(self, ended: Sequence[tuple[Unit, Result]]) -> list[Unit]:
        """Commit results; return the units whose lease was taken over, whose results therefore do not count."""
        faults.point("result_before_commit")
        try:
            with self._ledger.write() as conn:
                self.check_lease(conn)
                self._commit(conn, ended)
                self._write_notes(conn)
            self._forget_notes()
            refused: list[Unit] = []
        except LeaseLostError:
            refused = self._finish_one_by_one(ended)
        for unit, _ in ended:
            self._held.pop(unit.lease, None)
        faults.point("result_after_commit")
        return refused

    def _finish_one_by_one(self, ended: Sequence[tuple[Unit, Result]]) -> list[Unit]:
        refused: list[Unit] = []
        for unit, result in ended:
            try:
                with self._ledger.write() as conn:
                    self._commit(conn, [(unit, result)])
            except LeaseLostError as error:
                refused.append(unit)
                failure = Failure(kind="lost", message=error.message, hint=error.hint)
                with self._ledger.write() as conn:
                    # The run itself may be what was lost: then its attempts have ended, and so does this process.
                    self.check_lease(conn)
                    lost = attempts.Ended(id=unit.attempt_id, state=AttemptState.LOST, failure=failure)
                    attempts.finish_all(conn, [lost])
        return refused

    def _commit(self, conn: Any, ended: Sequence[tuple[Unit, Result]]) -> None:
        run_id = self._job.run_id
        for unit, _ in ended:
            leases.check(conn, unit.lease, unit.token)
        for unit, result in ended:
            made = [*result.outputs.values(), *(a for p in result.parts.values() for a in p.values())]
            artifacts.put(conn, made, made_by=f"r{run_id}/{unit.node.name}")
            self._commit_facts(conn, unit, result)
        kept = [_encode(self._job.graph.pipeline, u, r) for u, r in ended if _is_kept(u, r)]
        results.put(conn, kept, run_id=run_id)
        attempts.finish_all(
            conn,
            [
                attempts.Ended(id=u.attempt_id, state=r.state, usage=r.usage, failure=r.failure, log=r.log)
                for u, r in ended
            ],
        )
        for unit, _ in ended:
            leases.release(conn, unit.lease, unit.token)

    def explained(self, unit: Unit, result: Result) -> Result:
        """Say of a damaged input who made it and what makes it again, of a process that left where its words are."""
        failure, digest = result.failure, result.facts.get("damaged")
        if failure is not None and failure.kind == "exit" and result.log:
            told = f"see what it printed: penstock show {RunRef(self._job.run_id)} --log {shlex.quote(unit.node.name)}"
            failure = msgspec.structs.replace(failure, hint=f"a step must return or raise; {told}")
            return msgspec.structs.replace(result, failure=failure)
        if failure is None or digest is None:
            return result
        maker = self.made_by(digest)
        made = f" It was made by {maker}." if maker else ""
        hint = f"run again to rebuild it: penstock run {self._job.graph.pipeline}"
        failure = msgspec.structs.replace(failure, message=f"{failure.message}{made}", hint=hint)
        return msgspec.structs.replace(result, failure=failure)

    def _commit_facts(self, conn: Any, unit: Unit, result: Result) -> None:
        run_id = self._job.run_id
        if result.dataset is not None:
            datasets.put(conn, result.dataset, run_id=run_id)
        damaged = result.facts.get("damaged")
        if damaged is not None:  # whatever holds it is made again by the next run
            results.drop_holding(conn, damaged)
        self._put_evidence(conn, unit.node.name, unit.part, _kept_of(result))

    def _put_evidence(self, conn: Any, node: str, part: str, kept: Kept) -> None:
        subject = f"{node}/{part}" if part else node
        checks.put(conn, self._job.run_id, [checks.RunCheck(subject=subject, check=c) for c in kept.checks])
        rows = kept.facts.get("metrics", [])
        checks.put_metrics(conn, self._job.run_id, [_metric(node.removeprefix("evidence:"), row) for row in rows])

    def node_ended(self, run: NodeRun, reason: str) -> None:
        """Note the final state of a node; written with the next transaction."""
        parts = run.kept or {"": Kept()}
        for part, kept in parts.items():
            self._ended_nodes.append(
                runs.RunNode(
                    node=run.node.name,
                    part=part,
                    state=run.state,
                    reason=reason,
                    result=_brief(run, kept),
                )
            )
            if run.state is NodeState.REUSED:
                self._pending_evidence.append((run.node.name, part, kept))

    def note_check(self, subject: str, check: CheckResult) -> None:
        """Record a check that belongs to the run as a whole."""
        with self._ledger.write() as conn:
            checks.put(conn, self._job.run_id, [checks.RunCheck(subject=subject, check=check)])

    def check_lease(self, conn: Any) -> None:
        """Refuse to go on when another process has taken this run for dead.

        Raises:
            LeaseLostError: The run's lease is no longer held.
        """
        leases.check(conn, leases.run_lease(self._job.run_id), self._token)

    def flush(self) -> None:
        """Write what was noted since the last transaction.

        Raises:
            LeaseLostError: Another process has taken this run for dead.
        """
        with self._ledger.write() as conn:
            self.check_lease(conn)
            self._write_notes(conn)
        self._forget_notes()

    def _write_notes(self, conn: Any) -> None:
        runs.set_nodes(conn, self._job.run_id, self._ended_nodes)
        for node, part, kept in self._pending_evidence:
            if kept.checks or "metrics" in kept.facts:
                self._put_evidence(conn, node, part, kept)
        results.touch(conn, self._reused, run_id=self._job.run_id)

    def _forget_notes(self) -> None:
        # Only once the transaction stands: what was rolled back is written with the next one.
        self._ended_nodes.clear()
        self._reused.clear()
        self._pending_evidence.clear()

    def renew(self) -> None:
        """Hold the leases of the run and of everything it has started; a lost unit is noticed when it commits.

        Raises:
            LeaseLostError: Another process has taken this run for dead.
        """
        with self._ledger.write(durable=False) as conn:
            leases.renew(conn, leases.run_lease(self._job.run_id), self._token, LEASE_S)
            for name, token in self._held.items():
                _renew_if_held(conn, name, token)

    def abandon(self, conn: Any, state: AttemptState, failure: Failure) -> None:
        """End whatever still runs, and give its leases back."""
        attempts.end_running(conn, self._job.run_id, state, failure)
        for name, token in self._held.items():
            leases.release(conn, name, token)
        self._write_notes(conn)

    def made_by(self, digest: str) -> str:
        """Return who made an artifact, as "r41/recommender"; "" when nobody knows."""
        try:
            with self._ledger.read() as conn:
                return artifacts.get(conn, digest).made_by
        except NotFoundError:
            return ""


def _renew_if_held(conn: Any, name: str, token: int) -> None:
    try:
        leases.renew(conn, name, token, LEASE_S)
    except LeaseLostError:
        return  # refused when it commits, which is where it matters


def _is_kept(unit: Unit, result: Result) -> bool:
    return (
        unit.kind not in {"intake", "peek"}
        and result.state is AttemptState.SUCCEEDED
        and all(c.passed for c in result.checks)
    )


def _encode(pipeline: str, unit: Unit, result: Result) -> results.NewResult:
    outputs = dict(result.outputs)
    for part, given in result.parts.items():
        outputs |= {f"{part}{_TAB}{argument}": artifact for argument, artifact in given.items()}
    return results.NewResult(
        key=unit.key,
        pipeline=pipeline,
        node=unit.node.name,
        part=unit.part,
        outputs=outputs,
        facts={"checks": [msgspec.to_builtins(c) for c in result.checks], **result.facts},
        explanation=msgspec.to_builtins(unit.parts),
        attempt_id=unit.attempt_id,
    )


def _decode(result: results.Result, kind: str) -> Kept:
    facts = dict(result.facts)
    found = tuple(msgspec.convert(c, CheckResult) for c in facts.pop("checks", []))
    if kind != "split":
        return Kept(outputs=result.outputs, checks=found, facts=facts)
    parts: dict[str, dict[str, Artifact]] = {key: {} for key in facts.get("keys", {})}
    for name, artifact in result.outputs.items():
        part, _, argument = name.rpartition(_TAB)
        parts.setdefault(part, {})[argument] = artifact
    return Kept(parts=parts, checks=found, facts=facts)


def _kept_of(result: Result) -> Kept:
    return Kept(outputs=result.outputs, parts=result.parts, checks=result.checks, facts=result.facts)


def _brief(run: NodeRun, kept: Kept) -> dict[str, Any]:
    brief: dict[str, Any] = {name: msgspec.to_builtins(artifact) for name, artifact in kept.outputs.items()}
    if run.dataset is not None:
        brief["dataset"] = str(run.dataset)
    if run.failures:
        brief["failure"] = msgspec.to_builtins(run.failures[0])
    if "table" in kept.facts:  # what an evaluation found, for whoever looks at the run later
        brief["table"] = kept.facts["table"]
    return brief


def _metric(node: str, row: Mapping[str, Any]) -> checks.Metric:
    return checks.Metric(
        node=node,
        model=row["model"],
        metric=row["metric"],
        slice=row.get("slice", ""),
        value_of_slice=str(row.get("value", "")),
        interval=Interval(mean=_or_nan(row["mean"]), low=_or_nan(row["low"]), high=_or_nan(row["high"]), n=row["n"]),
    )


def _or_nan(value: float | None) -> float:
    # A slice of one row has a mean without an interval.
    return math.nan if value is None else value
