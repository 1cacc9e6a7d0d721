"""What differs between two runs or releases: finds the manifests a person means, and has them compared."""

import msgspec

from penstock.core.errors import InputError, NotFoundError, PenstockError
from penstock.core.refs import ReleaseRef, RunRef, parse_ref
from penstock.project.contracts import breaches_of
from penstock.project.replaying.replay import Asked, replay_pair
from penstock.project.replaying.requests import choose_requests
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.compare import Difference, compare
from penstock.store.ledger import releases, runs

_LOOKED_AT = 200
# A diff is to be quick: what `penstock replay` does with more, and keeps, this does with few, and shows.
_REPLAYED = 500
_BUDGET_S = 20.0


def diff(
    workspace: Workspace, before: str | None = None, after: str | None = None, *, is_replayed: bool = False
) -> Difference:
    """Compare two runs or releases.

    Args:
        workspace: The project.
        before: "r41" or "movies@3". Alone, it is compared with the one before it.
        after: The same; without both, the last two runs are compared.
        is_replayed: Both are asked recorded requests, in processes of their own, where they are two releases.

    Raises:
        InputError: A text is no reference, or a run ended before there was anything to compare.
        NotFoundError: There is no such run or release, or none before it.
    """
    if before is None:
        last = _last_run(workspace)
        return _compare(_run_before(last, workspace), last, workspace, is_replayed=is_replayed)
    if after is None:
        given = parse_ref(before)
        return _compare(_one_before(given, workspace), given, workspace, is_replayed=is_replayed)
    return _compare(parse_ref(before), parse_ref(after), workspace, is_replayed=is_replayed)


def _compare(
    before: ReleaseRef | RunRef, after: ReleaseRef | RunRef, workspace: Workspace, *, is_replayed: bool
) -> Difference:
    digests = [_manifest_digest(ref, workspace) for ref in (before, after)]
    one, other = (read_manifest(digest, workspace) for digest in digests)
    found = compare((str(before), one), (str(after), other), workspace.blobs)
    if one.pipeline == other.pipeline:
        found = msgspec.structs.replace(found, breaches=tuple(breaches_of(workspace, one, other)))
    are_releases = isinstance(before, ReleaseRef) and isinstance(after, ReleaseRef)
    if not is_replayed or not are_releases or one.pipeline != other.pipeline or digests[0] == digests[1]:
        return found
    if not all(any(node.role == "serve" for node in manifest.graph.nodes) for manifest in (one, other)):
        return found
    asked = [
        Asked(name=str(ref), digest=digest, manifest=manifest)
        for ref, digest, manifest in zip((before, after), digests, (one, other), strict=True)
    ]
    return _with_replay(found, asked[0], asked[1], workspace)


def _with_replay(found: Difference, before: Asked, after: Asked, workspace: Workspace) -> Difference:
    chosen = choose_requests(after.manifest.pipeline, workspace, most=_REPLAYED)
    if not chosen.requests:
        return msgspec.structs.replace(found, not_replayed="no request was recorded that can be asked again")
    try:
        replayed = replay_pair(before, after, chosen, workspace, budget_s=_BUDGET_S)
    except PenstockError as error:  # the rest of the comparison stands without it
        return msgspec.structs.replace(found, not_replayed=error.message)
    return msgspec.structs.replace(found, replay=replayed)


def _manifest_digest(ref: ReleaseRef | RunRef, workspace: Workspace) -> str:
    with workspace.ledger.read() as conn:
        if isinstance(ref, ReleaseRef):
            return releases.get(conn, ref).manifest_digest
        run = runs.get(conn, ref.id)
    if run.manifest_digest is None:
        raise InputError(
            f"Run {str(ref)!r} has nothing to compare: it is {run.state.value} and did not reach its end.",
            hint="compare runs that ended by themselves; `penstock runs` lists them",
        )
    return run.manifest_digest


def _one_before(ref: ReleaseRef | RunRef, workspace: Workspace) -> ReleaseRef | RunRef:
    if isinstance(ref, RunRef):
        return _run_before(ref, workspace)
    if ref.version == 1:
        raise NotFoundError(f"There is no release before {str(ref)!r}.", hint="name two: penstock diff A B")
    return ReleaseRef(ref.pipeline, ref.version - 1)


def _last_run(workspace: Workspace) -> RunRef:
    with workspace.ledger.read() as conn:
        found = next((r for r in runs.page(conn, limit=_LOOKED_AT) if r.manifest_digest is not None), None)
    if found is None:
        raise NotFoundError("There is no run to compare yet.", hint="make one: penstock run")
    return RunRef(found.id)


def _run_before(ref: RunRef, workspace: Workspace) -> RunRef:
    with workspace.ledger.read() as conn:
        pipeline = runs.get(conn, ref.id).pipeline
        earlier = runs.page(conn, pipeline=pipeline, before=ref.id, limit=_LOOKED_AT)
    found = next((r for r in earlier if r.manifest_digest is not None), None)
    if found is None:
        raise NotFoundError(
            f"There is no run of {pipeline!r} before {str(ref)!r} to compare with.", hint="name two: penstock diff A B"
        )
    return RunRef(found.id)
