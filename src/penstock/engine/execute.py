"""The scheduler: walks the graph as inputs become ready, reuses what is kept, starts what is not, commits what ends.

One thread, one loop. It holds leases for what it started; a result counts when the ledger's transaction commits.
"""

import collections
import time
from collections.abc import Sequence

from penstock.core.records import CheckResult, Failure
from penstock.core.states import AttemptState, NodeState, RunState
from penstock.engine import retries, units
from penstock.engine.events import Listener, NodeEnded, RunStarted, UnitEnded, UnitStarted, Waiting
from penstock.engine.journal import Journal
from penstock.engine.platform_nodes import is_executed
from penstock.engine.protocol import Engine, Limits, Result, Task
from penstock.engine.state import Job, Kept, NodeRun, RunOutcome, RunView, Unit
from penstock.engine.stopping import Stop

_RENEW_EVERY_S = 5.0
_LOOK_AGAIN_S = 0.2
_IDLE_S = 0.5


class Execution:
    """One run being executed.

    Args:
        job: What to execute.
        engine: Where tasks run; stays open, the caller closes it.
        journal: The run's door to the ledger.
        listener: Is told what happens, in order.
        stop: Tells when the run is to end early.
    """

    def __init__(self, job: Job, engine: Engine, journal: Journal, listener: Listener, *, stop: Stop) -> None:
        self._job = job
        self._engine = engine
        self._journal = journal
        self._tell = listener
        self._stop = stop
        self.runs = {n.name: NodeRun(n) for n in job.graph.nodes if is_executed(n)}
        self._view = RunView(job, self.runs)
        self._needs = {name: units.needs(run.node, job) & set(self.runs) for name, run in self.runs.items()}
        self._running: dict[str, Unit] = {}
        self._due: list[Unit] = []
        self._renewed_at = time.monotonic()
        self._missing = {name: len(needed) for name, needed in self._needs.items()}
        self._needed_by = _turned(self._needs)
        self._ready = collections.deque(name for name, count in self._missing.items() if not count)

    def run(self) -> RunOutcome:
        """Execute to the end and return what came of it.

        Raises:
            KeyboardInterrupt: Ctrl-C asked the run to stop; its attempts are marked so.
            CancelledRunError: SIGTERM did.
            LeaseLostError: Another process has taken this run for dead; nothing more is recorded.
            StoreError: The ledger cannot be written; the run is recognised as lost by the next process.
        """
        self._tell(RunStarted(run_id=self._job.run_id, pipeline=self._job.graph.pipeline, total=len(self.runs)))
        with self._stop.held():
            while self._advance():
                self._receive(self._wait())
                self._stop.check()
                self._renew()
        is_done = all(run.is_done for run in self.runs.values())
        return self._outcome(RunState.SUCCEEDED if is_done else RunState.FAILED)

    def _advance(self) -> bool:
        """Expand, reuse and start whatever can be; return whether anything is left to wait for."""
        while self._ready:
            self._due.extend(self._without_reused(self._expand()))
        self._start_due()
        return bool(self._running or self._due or self._ready)

    def _expand(self) -> list[Unit]:
        found: list[Unit] = []
        while self._ready:
            run = self.runs[self._ready.popleft()]
            if run.is_over or run.is_expanded:
                continue
            if not all(self.runs[n].is_done for n in self._needs[run.node.name]):
                self._end_node(run, NodeState.SKIPPED)
                continue
            cut = units.needs_split(run.node, self._view)
            new = [units.split_unit(run.node, cut, self._view)] if cut else units.units_of(run.node, self._view)
            run.is_expanded = True
            run.pending += len(new)
            found.extend(new)
            if not new:
                self._end_node(run, NodeState.SUCCEEDED)
        return found

    def _without_reused(self, fresh: list[Unit]) -> list[Unit]:
        force = self._job.force
        kept = self._journal.lookup([u for u in fresh if u.kind != "intake" and u.node.name not in force])
        left = [u for u in fresh if u.key not in kept]
        reasons = self._journal.reasons(left, force)
        for unit, reason in zip(left, reasons, strict=True):
            unit.reason = reason
        for unit in [u for u in fresh if u.key in kept]:
            self._keep(unit, kept[unit.key], is_reused=True)
        return left

    def _start_due(self) -> None:
        now = time.monotonic()
        # A few more than can run, so that no process waits for a transaction; the rest another run may take.
        free = max(0, 2 * self._engine.slots - len(self._running))
        ready = [u for u in self._due if u.not_before <= now][:free]
        if not ready:
            return
        started, kept = self._journal.start(ready, self._job.force)
        chosen = set(ready)
        self._due = [u for u in self._due if u not in chosen]
        for unit in ready:
            if unit in started:
                self._submit(unit)
            elif unit.key in kept:
                self._keep(unit, kept[unit.key], is_reused=True)
            else:
                self._wait_for_other(unit, now)

    def _wait_for_other(self, unit: Unit, now: float) -> None:
        if not unit.not_before:
            self._tell(Waiting(node=unit.node.name, part=unit.part))
        unit.not_before = now + _LOOK_AGAIN_S
        self._due.append(unit)

    def _submit(self, unit: Unit) -> None:
        policy = retries.policy_of(self._job.policy, unit.node.name)
        task = Task(
            id=f"{self._job.run_id}-{unit.attempt_id}",
            kind=unit.kind,
            pipeline=self._job.graph.pipeline,
            node=unit.node,
            part=unit.part,
            given=unit.given,
            params=unit.params,
            place=self._job.place,
            limits=Limits(memory_bytes=policy.memory_bytes, timeout_s=policy.timeout_s),
            extra={**unit.extra, **self._journal.intake_facts(unit)},
        )
        self._running[task.id] = unit
        self.runs[unit.node.name].state = NodeState.RUNNING
        self._engine.submit(task)
        self._tell(UnitStarted(node=unit.node.name, part=unit.part, reason=unit.reason, number=unit.number))

    def _receive(self, results: Sequence[Result]) -> None:
        known = [(self._running.pop(r.id), r) for r in results if r.id in self._running]
        ended = [(unit, self._journal.explained(unit, result)) for unit, result in known]
        if not ended:
            return
        refused = self._journal.finish(ended)
        for unit, result in ended:
            if unit in refused:
                self._due.append(retries.again(unit, wait_s=_LOOK_AGAIN_S))
            else:
                self._settle(unit, result)

    def _settle(self, unit: Unit, result: Result) -> None:
        policy = retries.policy_of(self._job.policy, unit.node.name)
        wait_s = retries.wait_before_retry(unit, result, policy)
        will_retry = wait_s is not None
        self._tell(
            UnitEnded(
                node=unit.node.name,
                part=unit.part,
                failure=result.failure,
                usage=result.usage,
                will_retry=will_retry,
                log=result.log,
            )
        )
        if wait_s is not None:
            self._due.append(retries.again(unit, wait_s=wait_s, lost=retries.is_loss(result)))
        elif result.state is AttemptState.SUCCEEDED:
            self._keep(unit, _kept(result), is_reused=False, result=result)
        else:
            self._fail(unit, result)

    def _keep(self, unit: Unit, kept: Kept, *, is_reused: bool, result: Result | None = None) -> None:
        run = self.runs[unit.node.name]
        run.pending -= 1
        run.reused += is_reused
        run.reasons.append("" if is_reused else unit.reason)
        if unit.kind == "split":
            run.split, run.is_expanded = kept, False
            self._ready.append(run.node.name)
            return
        run.kept[unit.part] = kept
        if unit.kind == "intake" and result is not None:
            run.previous, run.dataset = self._journal.previous(unit), result.dataset
        if run.pending == 0:
            self._end_node(run, _state_after(run))

    def _fail(self, unit: Unit, result: Result) -> None:
        run = self.runs[unit.node.name]
        run.pending -= 1
        if result.failure is not None:
            run.failures.append(result.failure)
        run.kept[unit.part] = _kept(result)
        if run.pending == 0:
            self._end_node(run, NodeState.FAILED)

    def _end_node(self, run: NodeRun, state: NodeState) -> None:
        run.state = NodeState.FAILED if run.failures and state is not NodeState.SKIPPED else state
        for name in self._needed_by[run.node.name]:
            self._missing[name] -= 1
            if not self._missing[name] or not run.is_done:
                self._ready.append(name)
        reason = next((r for r in run.reasons if r), "")
        self._journal.node_ended(run, reason)
        self._tell(
            NodeEnded(
                node=run.node.name,
                role=run.node.role,
                state=run.state,
                reason=reason,
                units=len(run.kept),
                checks=checks_of(run),
                dataset=run.dataset,
                is_new_version=run.dataset is not None and run.dataset != run.previous,
            )
        )

    def _wait(self) -> Sequence[Result]:
        patience = self._patience()
        if self._running:
            return self._engine.results(patience)
        # An engine without tasks has nothing to wait for; a retry or another run's lease takes its time.
        time.sleep(patience)
        return ()

    def _patience(self) -> float:
        if self._ready:
            return 0.0
        # What is due but was not started waits for a free slot, not for a time.
        later = [u.not_before for u in self._due if u.not_before] if len(self._running) < 2 * self._engine.slots else []
        return max(0.0, min([_IDLE_S, *(moment - time.monotonic() for moment in later)]))

    def _renew(self) -> None:
        if time.monotonic() - self._renewed_at > _RENEW_EVERY_S:
            self._renewed_at = time.monotonic()
            self._journal.renew()

    def _outcome(self, state: RunState) -> RunOutcome:
        runs = self.runs
        now = None
        if any(e.form == "word" and e.source == "now" for n in self._job.graph.nodes for e in n.edges):
            now = units.logical_now(self._view).isoformat()
        return RunOutcome(
            run_id=self._job.run_id,
            state=state.value,
            nodes={name: run.state for name, run in runs.items()},
            kept={name: dict(run.kept) for name, run in runs.items()},
            datasets={name: run.dataset for name, run in runs.items() if run.dataset is not None},
            checks=tuple(c for run in runs.values() for c in checks_of(run)),
            failures={name: run.failures[0] for name, run in runs.items() if run.failures},
            now=now,
        )


def _turned(needs: dict[str, set[str]]) -> dict[str, list[str]]:
    turned: dict[str, list[str]] = {name: [] for name in needs}
    for name, needed in needs.items():
        for other in needed:
            turned[other].append(name)
    return turned


def checks_of(run: NodeRun) -> tuple[CheckResult, ...]:
    """Return the check results of a node, over all its parts."""
    return tuple(check for _, kept in sorted(run.kept.items()) for check in kept.checks)


def _state_after(run: NodeRun) -> NodeState:
    broken = [c for c in checks_of(run) if not c.passed]
    if broken:
        run.failures.append(Failure(kind="check", message=broken[0].message))
        return NodeState.FAILED
    return NodeState.REUSED if run.reused >= len(run.kept) and run.dataset is None else NodeState.SUCCEEDED


def _kept(result: Result) -> Kept:
    return Kept(outputs=result.outputs, parts=result.parts, checks=result.checks, facts=result.facts)
