"""Runs a pipeline: inspect, take in, execute, prove, release. The supervisor; it never imports user code."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from penstock.core import faults
from penstock.core.errors import CheckError, InputError, LeaseLostError, PenstockError, StoreError
from penstock.core.process import this_process
from penstock.core.records import CheckResult, Failure
from penstock.core.refs import RunRef
from penstock.core.states import AttemptState, RunState
from penstock.engine import logs
from penstock.engine.beating import held
from penstock.engine.events import Listener, ignore
from penstock.engine.execute import Execution
from penstock.engine.journal import LEASE_S, Journal
from penstock.engine.platform_nodes import only_nodes, with_platform_nodes
from penstock.engine.protocol import Engine
from penstock.engine.state import Champion, Job, RunOutcome
from penstock.engine.stopping import CancelledRunError, signals
from penstock.pipeline.graph import Graph, encode_graph
from penstock.pipeline.params import all_params, near_miss
from penstock.project import shown
from penstock.project.agreement import refuse_disagreement
from penstock.project.commits import Commit, commit_of
from penstock.project.contracts import check_contracts
from penstock.project.proving import PROOF, Asked, Proof, prove
from penstock.project.rollout.moves import take_up
from penstock.project.timing import evidence_of, timings_of
from penstock.project.workspace import Workspace, keep_code, live_champion, place_of, read_manifest
from penstock.releases import create
from penstock.releases.manifest import Manifest, encode_manifest, manifest_hash
from penstock.releases.replay import verdict
from penstock.releases.replay.verdict import Gated
from penstock.serving.predictions.records import predictions_folder
from penstock.store.ledger import causes, events, evidence, leases, recovery, releases, runs


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a caller may say about a run.

    Attributes:
        params: Run parameters, "node.param" or "param" to value.
        now: Logical time; None takes it from the data.
        force: Nodes to run although their result is kept.
        only: Nodes to run, with what they need; such a run makes no release. Empty for all.
        without_champion: Compare with the baselines alone; for a change after which the live release cannot be
            evaluated any more. Recorded with the release.
        engine: "local" or "ray"; None for the project's.
        workers: Most processes at once; None for the project's.
        cause: Why this run exists, for the record.
        cause_id: The recorded cause whose run this is to be, and the only one; None where nothing but a person asked.
        earlier: Releases before the live one that are judged too, to learn how models age.
    """

    params: Mapping[str, object]
    now: datetime | None = None
    force: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()
    without_champion: bool = False
    engine: str | None = None
    workers: int | None = None
    cause: str = "manual"
    cause_id: int | None = None
    earlier: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class RunReport:
    """What a run came to.

    Attributes:
        release: "movies@3" when the run's release stands (new or the same as before), else None.
        is_new_release: Whether this run made it.
        manifest: Everything the run used and made.
        checks: All results, the proof that serving answers the same included.
    """

    run_id: int
    pipeline: str
    state: str
    outcome: RunOutcome
    manifest: Manifest
    release: str | None
    is_new_release: bool
    checks: tuple[CheckResult, ...]
    failures: dict[str, Failure]

    @property
    def nodes(self) -> dict[str, str]:
        """What became of each node of the user's: "succeeded", "reused", "failed", "skipped"."""
        own = {node.name for node in self.manifest.graph.nodes}
        return {name: state.value for name, state in self.outcome.nodes.items() if name in own}

    @property
    def heading(self) -> str:
        """The run in one line."""
        release = f", release {self.release}" if self.release is not None else ", no release"
        return f"Run {RunRef(self.run_id)} of {self.pipeline}: {self.state}{release}"

    def __repr__(self) -> str:
        tables = [shown.node_rows(self.nodes, self.failures), shown.check_rows(self.checks)]
        return "\n".join([self.heading, *(shown.table_text(rows) for rows in tables if rows)])

    def _repr_html_(self) -> str:
        nodes = shown.node_rows(self.nodes, self.failures)
        checks = shown.table_html("Checks", ("Result", "Check", "Found"), shown.check_rows(self.checks))
        return f"<section>{shown.table_html(self.heading, ('State', 'Node', 'Why'), nodes)}{checks}</section>"


def run_graph(graph: Graph, workspace: Workspace, options: RunOptions, listener: Listener = ignore) -> RunReport:
    """Run a pipeline from its graph to its release.

    Raises:
        InputError: A parameter or a forced node is unknown or of the wrong type.
        CancelledRunError: A signal asked the run to stop.
        StoreError: The store cannot be written, or lake and ledger are not of the same time.
        LeaseLostError: The cause has a run already, or waits its turn.
    """
    policy = workspace.settings.policy(graph.pipeline)
    params = all_params(graph, {**policy.params, **options.params})
    _check_names(options.force | options.only, graph)
    asked = only_nodes(with_platform_nodes(graph), options.only)
    refuse_disagreement(graph.pipeline, asked.nodes, workspace)
    with workspace.ledger.write() as conn:
        lost = recovery.mark_lost(conn)
    logs.forget(workspace.home, lost)
    tree = keep_code(graph, workspace)
    commit = None if workspace.settings.is_replay else commit_of(workspace.settings.root, graph.files)
    live = live_champion(graph.pipeline, workspace)
    started_at = workspace.clock.now()
    graph_digest = workspace.blobs.put(encode_graph(graph))
    engine = workspace.crew.engine(options.engine or workspace.settings.engine, workspace.settings, options.workers)
    owner = this_process()
    try:
        with workspace.ledger.write() as conn:
            run_id = runs.create(
                conn,
                runs.NewRun(
                    pipeline=graph.pipeline,
                    cause=options.cause,
                    now_at=options.now.isoformat() if options.now is not None else None,
                    params=params,
                    graph_digest=graph_digest,
                    code_digest=tree,
                    environment_digest="",
                    engine=options.engine or workspace.settings.engine,
                    owner=owner,
                ),
            )
            token = leases.acquire(conn, leases.run_lease(run_id), owner, LEASE_S) or 0
            if options.cause_id is not None:
                causes.begin(conn, options.cause_id, run_id, owner, most=workspace.settings.retrains)
        job = Job(
            run_id=run_id,
            graph=asked,
            place=place_of(graph, tree, workspace),
            params=params,
            policy=policy.released,
            now=options.now,
            as_of=started_at if workspace.settings.is_replay else None,
            started_at=started_at,
            champion=None if options.without_champion else live,
            force=options.force,
        )
        journal = Journal(job, workspace.ledger, workspace.blobs, token=token)
        return _execute(_Under(job, graph, journal, workspace, live, options.earlier, commit), engine, listener)
    finally:
        engine.close()


@dataclass(frozen=True, slots=True)
class _Under:
    """What a run stands on, from its start to its end."""

    job: Job
    graph: Graph
    journal: Journal
    workspace: Workspace
    live: Champion | None
    earlier: int
    commit: Commit | None


def _execute(run: _Under, engine: Engine, listener: Listener) -> RunReport:
    with signals() as stop:
        try:
            outcome = Execution(run.job, engine, run.journal, listener, stop=stop).run()
            run.journal.flush()
            if run.earlier:
                from penstock.project.earlier import Judging, judge_earlier  # noqa: PLC0415 -- loads frames

                judging = Judging(run.workspace, run.job, outcome, engine, stop, run.journal.renew)
                judge_earlier(judging, most=run.earlier)
            return _conclude(run, outcome)
        except (KeyboardInterrupt, CancelledRunError) as error:
            _break_off(run, RunState.CANCELLED, Failure(kind="cancelled", message=_why(error)))
            raise
        except LeaseLostError:  # somebody has recorded the end of this run already
            raise
        except PenstockError as error:
            _break_off(run, RunState.FAILED, Failure(kind=error.code, message=error.message, hint=error.hint))
            raise
        except OSError as error:
            failure = Failure(kind=StoreError.code, message=f"{run.workspace.home} failed: {error}.")
            _break_off(run, RunState.FAILED, failure)
            raise StoreError(failure.message, hint="run again when it is mended: what was finished is kept") from error


def _conclude(run: _Under, outcome: RunOutcome) -> RunReport:
    manifest = create.manifest_of(
        run.graph,
        outcome,
        params=run.job.params,
        policy=run.job.policy,
        champion=run.job.champion.hash if run.job.champion is not None else None,
    )
    is_whole = {n.name for n in run.graph.nodes} <= {n.name for n in run.job.graph.nodes}
    asked: dict[str, Asked] = {}
    replayed: Gated | None = None
    if outcome.state == RunState.SUCCEEDED.value and is_whole:
        proof = _proof(run, manifest)
        asked = proof.asked
        run.journal.note_check("release", proof.check)
        if proof.measured is not None:
            run.journal.note_check("release", proof.measured)
        manifest = create.with_stand_ins(create.with_check(manifest, proof.check), proof.stand_ins)
        manifest = _with_contracts(run, manifest)
        if proof.check.passed:
            replayed = _replayed(run, manifest)
    digest = run.workspace.blobs.put(encode_manifest(manifest))
    release, is_new = _release(run, manifest, outcome, replayed) if is_whole else (None, False)
    checks = manifest.checks if replayed is None else (*manifest.checks, replayed.check)
    if replayed is not None:
        _keep_replay(run, replayed, release)
    failures = dict(outcome.failures)
    broken = next((c for c in checks if not c.passed), None)
    is_done = release is not None or (not is_whole and outcome.state == RunState.SUCCEEDED.value)
    state = RunState.SUCCEEDED if is_done else RunState.FAILED
    failure = next(iter(failures.values()), None)
    if failure is None and broken is not None:
        failure = Failure(kind="check", message=broken.message)
    timed = _timed(run, outcome, asked) if is_whole else None
    _finish(run, state, error=failure, release=release, manifest_digest=digest, timed=timed)
    return RunReport(
        run_id=run.job.run_id,
        pipeline=run.graph.pipeline,
        state=state.value,
        outcome=outcome,
        manifest=manifest,
        release=release,
        is_new_release=is_new,
        checks=checks,
        failures=failures,
    )


def _with_contracts(run: _Under, manifest: Manifest) -> Manifest:
    """Add the check that applications can go on with this release, where some are registered."""
    live = None if run.live is None else read_manifest(run.live.manifest_digest, run.workspace)
    check = check_contracts(run.workspace, live, manifest)
    if check is None:
        return manifest
    run.journal.note_check("release", check)
    return create.with_check(manifest, check)


def _timed(run: _Under, outcome: RunOutcome, asked: Mapping[str, Asked]) -> evidence.NewEvidence:
    with run.workspace.ledger.read() as conn:
        found = timings_of(conn, run.job, outcome, commit=run.commit, asked=asked)
    return evidence_of(run.graph.pipeline, found)


def _proof(run: _Under, manifest: Manifest) -> Proof:
    """Prove that the release can be served; what is live and the same was proven when it was made."""
    live = _live_with_same_content(run, manifest)
    kept = [] if live is None else [check for check in live.checks if check.name == PROOF]
    if live is None or not kept:
        return prove(manifest, run.workspace)
    return Proof(check=kept[0], stand_ins=live.stand_ins)


def _replayed(run: _Under, manifest: Manifest) -> Gated | None:
    """Ask what was made what the live release was asked; what has the same content as that one answers the same."""
    if run.live is None or _live_with_same_content(run, manifest) is not None:
        return None
    if not any(node.role == "serve" for node in manifest.graph.nodes):
        return None
    if not predictions_folder(run.workspace.home, manifest.pipeline).exists():
        found = Gated(check=verdict.not_replayed("nothing was ever asked here"))
    else:
        from penstock.project.replaying.gate import replay_for_gate  # noqa: PLC0415 -- loads frames

        with held(run.journal.renew):
            found = replay_for_gate(run.job.run_id, manifest, run.live, run.workspace)
    run.journal.note_check("release", found.check)
    return found


def _keep_replay(run: _Under, replayed: Gated, release: str | None) -> None:
    if replayed.replay is None:
        return
    run_name = str(RunRef(run.job.run_id))
    with run.workspace.ledger.write() as conn:
        run.journal.check_lease(conn)
        found = verdict.released_as(replayed.replay, release or run_name)
        evidence.add(conn, verdict.evidence_of(found, replayed.check, by=run_name))


def _live_with_same_content(run: _Under, manifest: Manifest) -> Manifest | None:
    if run.live is None:
        return None
    live = read_manifest(run.live.manifest_digest, run.workspace)
    return live if create.is_same_content(manifest, live) else None


def _release(run: _Under, manifest: Manifest, outcome: RunOutcome, replayed: Gated | None) -> tuple[str | None, bool]:
    """Create the release if the gate lets it through; the same manifest is the same release."""
    if replayed is not None and not replayed.check.passed:
        return None, False
    try:
        create.gate(manifest, outcome)
    except CheckError:
        return None, False
    live = _live_with_same_content(run, manifest)
    if live is not None and run.live is not None:
        return run.live.release, False
    # A release reads every byte of what it stands on; nothing damaged gets in unseen.
    create.secure(manifest, run.workspace.blobs)
    digest = run.workspace.blobs.put(encode_manifest(manifest))
    faults.point("release_before_commit")
    name = manifest.pipeline
    with run.workspace.ledger.write() as conn:
        run.journal.check_lease(conn)
        known = releases.by_hash(conn, name, manifest_hash(manifest))
        if known is None:
            _refuse_overtaken(run, releases.live(conn, name))
        made = releases.create(
            conn, name, release_hash=manifest_hash(manifest), manifest_digest=digest, run_id=run.job.run_id
        )
        if known is None:
            actor = str(RunRef(run.job.run_id))
            take_up(conn, made.ref, run.job.policy, by=actor, require=run.workspace.settings.policy(name).require)
            details = {"hash": made.hash, "compared_with": _compared_with(run)}
            events.append(conn, actor=actor, action="release.created", target=str(made.ref), details=details)
    faults.point("release_after_commit")
    if known is None:
        run.workspace.ledger.back_up()
    return str(made.ref), known is None


def _refuse_overtaken(run: _Under, live: releases.Release | None) -> None:
    """Refuse to replace a live release that this run was not compared with."""
    compared = run.live
    if live is not None and (compared is None or live.hash != compared.hash):
        raise CheckError(
            f"{live.ref} went live while run {RunRef(run.job.run_id)} was under way, "
            f"which was compared with {_compared_with(run)}.",
            hint="run again: what was made is kept, only the comparison is made anew",
        )


def _compared_with(run: _Under) -> str:
    champion = run.job.champion
    if champion is not None:
        return champion.release
    return "none" if run.live is None else f"none, though {run.live.release} was live"


def _finish(
    run: _Under,
    state: RunState,
    *,
    error: Failure | None,
    release: str | None = None,
    manifest_digest: str | None = None,
    timed: evidence.NewEvidence | None = None,
) -> None:
    with run.workspace.ledger.write() as conn:
        run.journal.check_lease(conn)
        if release is not None:
            runs.attach_release(conn, run.job.run_id, release)
        if manifest_digest is not None:
            runs.attach_manifest(conn, run.job.run_id, manifest_digest)
        if timed is not None:
            evidence.add(conn, timed)
        runs.finish(conn, run.job.run_id, state, error=error)
        leases.revoke(conn, leases.run_lease(run.job.run_id))


def _break_off(run: _Under, state: RunState, failure: Failure) -> None:
    """Record that a run ended before its end."""
    ended = AttemptState.CANCELLED if state is RunState.CANCELLED else AttemptState.LOST
    # Where the ledger takes no writes (a full disk, say), the next process finds this one dead and records it as lost.
    with suppress(StoreError, LeaseLostError), run.workspace.ledger.write() as conn:
        run.journal.check_lease(conn)
        run.journal.abandon(conn, ended, failure)
        runs.finish(conn, run.job.run_id, state, error=failure)
        leases.revoke(conn, leases.run_lease(run.job.run_id))


def _check_names(force: frozenset[str], graph: Graph) -> None:
    names = {n.name for n in graph.nodes}
    for name in sorted(force - names):
        near = near_miss(name, sorted(names))
        hint = f"did you mean {near!r}?" if near is not None else f"it has {', '.join(sorted(names))}"
        raise InputError(f"Pipeline {graph.pipeline!r} has no node {name!r}.", hint=hint)


def _why(error: BaseException) -> str:
    return str(error) or "interrupted (Ctrl-C)"
