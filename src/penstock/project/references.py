"""What the ledger refers to: every blob that a result, a release or a run stands on, and who says so.

Belongs here: the marking that `doctor` and garbage collection share. Nothing is changed here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from penstock.core.errors import ArtifactError
from penstock.core.records import Artifact
from penstock.core.refs import RunRef
from penstock.pipeline.graph import decode_graph
from penstock.pipeline.snapshot import tree_digest
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.archive import needed, served_artifacts
from penstock.releases.manifest import Manifest
from penstock.store import codecs
from penstock.store.ledger import releases, results, runs, windows

_PAGE = 500


@dataclass(slots=True)
class Need:
    """Why a blob is needed.

    Attributes:
        artifacts: Artifacts it is, or is a part of.
        results: What is kept for reuse, as "movies/recommender".
        releases: Releases that cannot be served without it.
        others: Runs that show it, and releases that can be served without it.
    """

    artifacts: set[str] = field(default_factory=set)
    results: set[str] = field(default_factory=set)
    releases: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)


@dataclass(slots=True)
class References:
    """Everything referred to.

    Attributes:
        blobs: By digest, why it is needed.
        code: Names of the code snapshots, laid out under `code/`, that belong to a run or a release.
        walked: The blobs of each artifact, so that one shared by many runs is read once.
        unreadable: What could not be followed, since it is damaged itself, one sentence each.
    """

    blobs: dict[str, Need] = field(default_factory=dict)
    code: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)
    walked: dict[str, list[str]] = field(default_factory=dict)

    def need(self, digest: str) -> Need:
        """Return the entry of a blob; an empty one at first."""
        return self.blobs.setdefault(digest, Need())


def references(workspace: Workspace) -> References:
    """Return every blob and code snapshot that something in the ledger refers to."""
    found = References()
    with workspace.ledger.read() as conn:
        for result in results.every(conn):
            _follow_result(result, workspace, found)
        known = releases.of_pipeline(conn)
        for pipeline, digest in windows.profiles(conn):
            found.need(digest).others.add(f"monitors of {pipeline}")
    for release in known:
        _follow_release(release, workspace, found)
    for run in _runs(workspace):
        _follow_run(run, workspace, found)
    return found


def _follow_result(result: results.Result, workspace: Workspace, found: References) -> None:
    for artifact in result.outputs.values():
        for digest in _blobs_of(artifact, workspace, found):
            found.need(digest).results.add(f"{result.pipeline}/{result.node}")


def _runs(workspace: Workspace) -> Iterator[runs.Run]:
    before: int | None = None
    while True:
        with workspace.ledger.read() as conn:
            page = runs.page(conn, before=before, limit=_PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        before = page[-1].id


def _follow_release(release: releases.Release, workspace: Workspace, found: References) -> None:
    name = str(release.ref)
    found.need(release.manifest_digest).releases.add(name)
    manifest = _manifest(release.manifest_digest, name, workspace, found)
    if manifest is None:
        return
    found.code.add(tree_digest(manifest.graph.files))
    for artifact in served_artifacts(manifest):
        _blobs_of(artifact, workspace, found)
    try:
        for digest in needed(manifest, workspace.blobs):
            found.need(digest).releases.add(name)
    except ArtifactError:
        for artifact in served_artifacts(manifest):
            found.need(artifact.digest).releases.add(name)
    if release.run_id is not None:  # an imported one came without what only its run needed
        _follow_shown(manifest, name, workspace, found)


def _follow_run(run: runs.Run, workspace: Workspace, found: References) -> None:
    name = str(RunRef(run.id))
    found.code.add(run.code_digest)
    found.need(run.graph_digest).others.add(name)
    if run.graph_digest in workspace.blobs:
        try:
            graph = decode_graph(workspace.blobs.read(run.graph_digest))
        except ArtifactError as error:
            found.unreadable.append(f"The graph of {name} cannot be read: {error.message}")
        else:
            for file in graph.files:
                found.need(file.digest).others.add(name)
    if run.manifest_digest is not None:
        found.need(run.manifest_digest).others.add(name)
        manifest = _manifest(run.manifest_digest, name, workspace, found)
        if manifest is not None:
            _follow_shown(manifest, name, workspace, found)


def _follow_shown(manifest: Manifest, name: str, workspace: Workspace, found: References) -> None:
    rows = (artifact for one in manifest.evaluations.values() for artifact in one.rows.values())
    for artifact in (*manifest.artifacts.values(), *rows):
        for digest in _blobs_of(artifact, workspace, found):
            found.need(digest).others.add(name)


def _manifest(digest: str, name: str, workspace: Workspace, found: References) -> Manifest | None:
    try:
        return read_manifest(digest, workspace)
    except ArtifactError as error:
        found.unreadable.append(f"The manifest of {name} cannot be read: {error.message}")
        return None


def _blobs_of(artifact: Artifact, workspace: Workspace, found: References) -> list[str]:
    if artifact.digest in found.walked:
        return found.walked[artifact.digest]
    try:
        digests = codecs.blobs_of(artifact, workspace.blobs)
    except ArtifactError as error:
        digests = [artifact.digest]
        found.unreadable.append(f"Artifact {artifact.digest} cannot be followed to its parts: {error.message}")
    for digest in digests:
        found.need(digest).artifacts.add(artifact.digest)
    found.walked[artifact.digest] = digests
    return digests
