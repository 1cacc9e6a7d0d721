"""Makes a release again from what it says of itself, and compares the bytes: the proof that it can be rebuilt."""

import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from penstock.core.errors import InputError, NotFoundError
from penstock.core.process import this_process
from penstock.core.records import DatasetVersion, Failure, Record
from penstock.core.refs import ReleaseRef, parse_ref
from penstock.core.states import AttemptState
from penstock.engine import engines
from penstock.engine.events import ignore
from penstock.engine.execute import Execution
from penstock.engine.journal import LEASE_S, Journal
from penstock.engine.platform_nodes import with_platform_nodes
from penstock.engine.protocol import Engine, Result, Task
from penstock.engine.state import Champion, Job, RunOutcome
from penstock.engine.stopping import signals
from penstock.engine.units import CHAMPION
from penstock.pipeline.snapshot import tree_digest
from penstock.project.workspace import Workspace, champion_of, place_of, read_manifest, released_code
from penstock.releases import create
from penstock.releases.environment import environment_differences
from penstock.releases.manifest import Manifest
from penstock.store.ledger import Ledger, leases, releases, runs


class Reproduction(Record, frozen=True, kw_only=True):
    """What came of making a release again.

    Attributes:
        release: The release, "movies@3".
        same: Whether every output has the bytes it was released with.
        compared: How many outputs were compared.
        differing: Names of outputs with other bytes, "node/output", or that are on one side only.
        failures: Why nodes failed this time.
        environment: Packages that the code imports and that are of another version here.
    """

    release: str
    same: bool
    compared: int
    differing: tuple[str, ...] = ()
    failures: dict[str, Failure] = {}
    environment: tuple[str, ...] = ()


def reproduce(ref: str, workspace: Workspace) -> Reproduction:
    """Run a release again from its own code snapshot, dataset versions, parameters and logical time.

    Every node runs; nothing kept is reused, nothing is taken in, and no run or release is recorded. Only bytes that
    differ are new in the blobs, where garbage collection finds them.

    Args:
        ref: The release, "movies@3".
        workspace: The project that holds it and its data.

    Raises:
        InputError: The text is no reference of a release, or its data are not in this lake.
        NotFoundError: There is no such release.
        DamagedError: The release's code is damaged.
        CancelledRunError: A signal asked for the end.
    """
    parsed = parse_ref(ref)
    if not isinstance(parsed, ReleaseRef):
        raise InputError(f"{ref!r} is a run, not a release.", hint="write a release as movies@12")
    with workspace.ledger.read() as conn:
        found = releases.get(conn, parsed)
    manifest = read_manifest(found.manifest_digest, workspace)
    pinned = {name: _pinned(manifest, name, workspace) for name in manifest.datasets}
    outcome = _run_again(manifest, pinned, workspace)
    made = create.manifest_of(
        manifest.graph, outcome, params=manifest.params, policy=manifest.policy, champion=manifest.champion
    )
    before, after = (_digests(m) for m in (manifest, made))
    differing = tuple(sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n)))
    return Reproduction(
        release=str(parsed),
        same=not differing and not outcome.failures,
        compared=len(before),
        differing=differing,
        failures=outcome.failures,
        environment=tuple(environment_differences(manifest)),
    )


def _pinned(manifest: Manifest, name: str, workspace: Workspace) -> DatasetVersion:
    released = manifest.datasets[name]
    try:
        version = workspace.lake.table(manifest.pipeline, name).version(released.version)
    except NotFoundError as error:
        raise InputError(
            f"{name}@{released.version} is not in this lake, so the release cannot be made again here.",
            hint="reproduce it in the project that made it",
        ) from error
    if version.digest != released.digest:
        raise InputError(
            f"{name}@{released.version} of this lake holds other rows than the release was made from.",
            hint="reproduce it in the project that made it",
        )
    return version


def _run_again(manifest: Manifest, pinned: dict[str, DatasetVersion], workspace: Workspace) -> RunOutcome:
    released_code(manifest, workspace)
    tree = tree_digest(manifest.graph.files)
    owner = this_process()
    # A ledger of its own: nothing kept is found in it, and what is recorded goes with it.
    with tempfile.TemporaryDirectory(prefix="reproduce-", dir=workspace.home / "tmp") as scratch:
        ledger = Ledger.open(f"sqlite:///{Path(scratch) / 'ledger.db'}", workspace.clock)
        engine = _Pinned(engines.make("local", workspace.settings, None), pinned)
        try:
            with ledger.write() as conn:
                run_id = runs.create(conn, _new_run(manifest, tree))
                token = leases.acquire(conn, leases.run_lease(run_id), owner, LEASE_S) or 0
            job = Job(
                run_id=run_id,
                graph=with_platform_nodes(manifest.graph),
                place=place_of(manifest.graph, tree, workspace),
                params=manifest.params,
                policy=manifest.policy,
                now=datetime.fromisoformat(manifest.now) if manifest.now is not None else None,
                started_at=workspace.clock.now(),
                champion=_champion(manifest, workspace),
            )
            journal = Journal(job, ledger, workspace.blobs, token=token)
            with signals() as stop:
                return Execution(job, engine, journal, ignore, stop=stop).run()
        finally:
            engine.close()
            ledger.close()


def _new_run(manifest: Manifest, tree: str) -> runs.NewRun:
    return runs.NewRun(
        pipeline=manifest.pipeline,
        cause="reproduces a release",
        params=manifest.params,
        graph_digest="",
        code_digest=tree,
        environment_digest="",
        owner=this_process(),
    )


def _champion(manifest: Manifest, workspace: Workspace) -> Champion | None:
    """Return the release it was compared with, where that is known here: functions may ask for it."""
    if manifest.champion is None:
        return None
    with workspace.ledger.read() as conn:
        found = releases.by_hash(conn, manifest.pipeline, manifest.champion)
    return None if found is None else champion_of(found, workspace)


def _digests(manifest: Manifest) -> dict[str, str]:
    judged = {f"{n.name}/{CHAMPION}" for n in manifest.graph.nodes if n.role == "evaluate"}
    return {name: a.digest for name, a in manifest.artifacts.items() if name.rpartition("/")[0] not in judged}


class _Pinned:
    """An engine that answers every intake with the version the release was made from, and runs the rest."""

    def __init__(self, engine: Engine, versions: dict[str, DatasetVersion]) -> None:
        self._engine = engine
        self._versions = versions
        self._answered: list[Result] = []

    @property
    def slots(self) -> int:
        return self._engine.slots

    def submit(self, task: Task) -> None:
        if task.kind != "intake":
            self._engine.submit(task)
            return
        version = self._versions[task.node.name]
        self._answered.append(Result(id=task.id, state=AttemptState.SUCCEEDED, dataset=version))

    def results(self, timeout_s: float) -> Sequence[Result]:
        if not self._answered:
            return self._engine.results(timeout_s)
        found, self._answered = self._answered, []
        return found

    def cancel(self, task_id: str) -> None:
        self._engine.cancel(task_id)

    def close(self) -> None:
        self._engine.close()
