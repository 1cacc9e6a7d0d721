"""How much a copy of a server needs, and how sure that is: said by policy, measured under load, or estimated."""

import math
from collections.abc import Mapping
from typing import Any

from penstock.core.records import Record
from penstock.core.settings import Replicas
from penstock.project.workspace import Workspace
from penstock.releases.archive import needed
from penstock.releases.manifest import Manifest
from penstock.store.ledger import evidence
from penstock.store.ledger.releases import Release

_MI = 2**20
# A process with the libraries of a pipeline, and the processes beside the workers; both are generous.
_WORKER_BYTES = _BESIDE_BYTES = 256 * _MI
# What is loaded of a release: the bytes, and what is made from them.
_LOADED = 3
_HEADROOM = 1.25
# Predictions, the ledger, code: what a server writes while it lives.
WRITTEN_BYTES = 2048 * _MI


class Grant(Record, frozen=True, kw_only=True):
    """What one copy is granted.

    Attributes:
        disk_bytes: Room for the release, twice as it is taken in, and for what is written beside it.
        workers: Processes that answer in it.
        because: Where the memory comes from, in words.
    """

    cpus: float
    memory_bytes: int
    disk_bytes: int
    workers: int
    because: str

    @property
    def cpu(self) -> str:
        """Cores as Kubernetes writes them, "1500m"."""
        return f"{math.ceil(self.cpus * 1000)}m"

    @property
    def memory(self) -> str:
        """Memory as Kubernetes writes it, "640Mi"."""
        return f"{math.ceil(self.memory_bytes / _MI)}Mi"

    @property
    def disk(self) -> str:
        """Disk as Kubernetes writes it."""
        return f"{math.ceil(self.disk_bytes / _MI)}Mi"


def grant_of(release: Release, manifest: Manifest, replicas: Replicas, workspace: Workspace) -> Grant:
    """Return what a copy of a release is granted.

    Args:
        release: The release.
        manifest: Its manifest.
        replicas: What policy says.
        workspace: The project; the newest load test of the release is looked up in it.
    """
    workers = max(1, math.floor(replicas.cpus))
    memory, because = replicas.memory_bytes, "policy says it"
    size = sum(workspace.blobs.path(digest).stat().st_size for digest in set(needed(manifest, workspace.blobs)))
    if memory is None:
        with workspace.ledger.read() as conn:
            found = evidence.newest(conn, release.pipeline, "load", str(release.ref))
        measured = None if found is None else _measured(found.figures)
        if measured is not None:
            memory = math.ceil((measured * workers + _BESIDE_BYTES) * _HEADROOM)
            because = f"a load test measured {math.ceil(measured / _MI)} MiB in a worker"
        else:
            memory = workers * (_WORKER_BYTES + _LOADED * size) + _BESIDE_BYTES
            because = "an estimate from the size of the release; nothing was measured"
    disk = 2 * size + WRITTEN_BYTES
    return Grant(cpus=replicas.cpus, memory_bytes=memory, disk_bytes=disk, workers=workers, because=because)


def _measured(figures: Mapping[str, Any]) -> float | None:
    """Return the most memory that a worker had under load, where the test says it."""
    value = figures.get("worker_memory_bytes")
    return float(value) if isinstance(value, int | float) and value > 0 else None
