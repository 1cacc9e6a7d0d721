"""A project opened: its settings and its store, and the code of a pipeline laid out for run processes."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import DamagedError, StoreError
from penstock.core.settings import Settings, load_settings
from penstock.engine.protocol import Place, ReleasedModel
from penstock.engine.state import Champion
from penstock.pipeline.graph import Graph
from penstock.pipeline.snapshot import lay_out, read_files, tree_digest
from penstock.project.crew import Crew, Fresh
from penstock.releases.manifest import Manifest, decode_manifest
from penstock.store import lake
from penstock.store.blobs import Blobs
from penstock.store.ledger import Ledger, releases


@dataclass(frozen=True, slots=True)
class Workspace:
    """A project and its store, open; and who runs user code for it."""

    settings: Settings
    ledger: Ledger
    blobs: Blobs
    clock: Clock
    crew: Crew = field(default_factory=Fresh)

    @property
    def lake(self) -> "lake.Lake":
        """The versioned tables of all datasets."""
        return lake.Lake(self.home / "lake")

    @property
    def home(self) -> Path:
        """Where everything is kept."""
        return self.settings.home


@contextlib.contextmanager
def open_workspace(start: Path, clock: Clock | None = None, *, to_look: bool = False) -> Iterator[Workspace]:
    """Open the project that `start` lies in; make its store when there is none.

    Args:
        start: A directory of the project.
        clock: Where times come from.
        to_look: Nothing will be kept: where there is no store, an empty one is shown and nothing is made.

    Raises:
        StoreError: The store cannot be made or read.
        InputError: `penstock.toml` is not usable.
    """
    clock = clock or Clock()
    settings = load_settings(start)
    with contextlib.ExitStack() as stack:
        if to_look and settings.ledger_url.startswith("sqlite") and not settings.home.exists():
            empty = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-")))
            settings = msgspec.structs.replace(settings, home=empty, ledger_url=f"sqlite:///{empty / 'ledger.db'}")
        yield stack.enter_context(open_store(settings, clock))


@contextlib.contextmanager
def open_store(settings: Settings, clock: Clock, crew: Crew | None = None) -> Iterator[Workspace]:
    """Open the store that settings name; make it when there is none.

    Args:
        settings: The project.
        clock: Where times come from.
        crew: Who runs user code; a process for each piece of work when None.

    Raises:
        StoreError: The store cannot be made or read.
    """
    try:
        for part in ("blobs", "lake", "code", "tmp", "predictions", "cache"):
            (settings.home / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{settings.home} cannot be written: {error.strerror}.",
            hint="make the directory writable, or set PENSTOCK_HOME to one that is",
        ) from error
    ledger = Ledger.open(settings.ledger_url, clock)
    try:
        yield Workspace(settings, ledger, Blobs(settings.home / "blobs"), clock, crew or Fresh())
    finally:
        ledger.close()


def keep_code(graph: Graph, workspace: Workspace) -> str:
    """Keep the code snapshot of a graph in the blobs and lay it out for import; return its tree digest.

    Raises:
        StoreError: A file changed while it was read.
    """
    tree = tree_digest(graph.files)
    target = workspace.home / "code" / tree
    # What is not recorded yet is spared by its age, so using it again has to make it young for whoever sweeps now.
    if workspace.blobs.renew(f.digest for f in graph.files) and _renew(target, workspace.clock):
        return tree
    # What is kept already need not lie on disk: the cells of a notebook never do.
    contents = {f.path: workspace.blobs.read(f.digest) for f in graph.files if f.digest in workspace.blobs}
    new = tuple(f for f in graph.files if f.path not in contents)
    contents |= read_files(workspace.settings.root, new)
    for file in new:
        if workspace.blobs.put(contents[file.path]) != file.digest:
            raise StoreError(f"{file.path} changed while it was read.", hint="run the command again")
    lay_out(contents, target)
    return tree


def released_code(manifest: Manifest, workspace: Workspace) -> Path:
    """Lay out the code of a release for import and return the directory."""
    target = workspace.home / "code" / tree_digest(manifest.graph.files)
    if not _renew(target, workspace.clock):
        lay_out({f.path: workspace.blobs.read(f.digest) for f in manifest.graph.files}, target)
    return target


def _renew(folder: Path, clock: Clock) -> bool:
    """Begin the grace of a code folder anew; False when it is not there."""
    now_ns = int(clock.now().timestamp() * 1e9)
    try:
        with contextlib.suppress(PermissionError):  # another user's folder: its age then counts from when they made it
            os.utime(folder, ns=(now_ns, now_ns))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def place_of(graph: Graph, tree: str, workspace: Workspace) -> Place:
    """Return where tasks of this graph find things."""
    return Place(
        root=os.fspath(workspace.settings.root),
        home=os.fspath(workspace.home),
        code_dir=os.fspath(workspace.home / "code" / tree),
        import_root=graph.import_root,
    )


def read_manifest(digest: str, workspace: Workspace) -> Manifest:
    """Return a manifest kept in the blobs.

    Raises:
        DamagedError: Its bytes are damaged or gone.
    """
    return decode_manifest(workspace.blobs.read(digest))


def live_champion(pipeline: str, workspace: Workspace) -> Champion | None:
    """Return the live release of a pipeline as a run needs it; None when there is none.

    Raises:
        DamagedError: The live release is damaged; a candidate must not be compared with nothing instead.
    """
    with workspace.ledger.read() as conn:
        found = releases.live(conn, pipeline)
    if found is None:
        return None
    try:
        return champion_of(found, workspace)
    except DamagedError as error:
        raise DamagedError(
            f"The live release {pipeline}@{found.version} is damaged: {error.message}",
            hint="see what is wrong: penstock doctor; then import the release again or roll back",
        ) from error


def champion_of(found: releases.Release, workspace: Workspace) -> Champion:
    """Return a release as a run that is compared with it needs it.

    Raises:
        DamagedError: Its manifest or code is damaged.
    """
    manifest = read_manifest(found.manifest_digest, workspace)
    code = released_code(manifest, workspace)
    models = {n.name: n.outputs[0] for n in manifest.graph.nodes if n.role == "model" and n.each is None}
    return Champion(
        release=str(found.ref),
        hash=found.hash,
        manifest_digest=found.manifest_digest,
        models={
            name: ReleasedModel(
                artifact=manifest.artifacts[f"{name}/{output}"],
                code_dir=os.fspath(code),
                import_root=manifest.graph.import_root,
            )
            for name, output in models.items()
        },
    )
