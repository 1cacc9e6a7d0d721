"""A retrain asked for from outside: by a person, a webhook, another system. The same key is the same wish."""

from penstock.core.errors import NotFoundError
from penstock.project.workspace import Workspace
from penstock.store.ledger import causes
from penstock.worker.state import Kind
from penstock.worker.tick import pipelines_of


def ask_for_retrain(workspace: Workspace, pipeline: str, *, kind: Kind, key: str, said: str) -> bool:
    """Record a wish, which the next tick looks at; return False when it was recorded before.

    Args:
        workspace: The project.
        pipeline: Which is to be retrained.
        kind: "manual" only waits for its turn; "webhook" heeds quarantine and budget too.
        key: Names the wish: a hundred with one key are one retrain.
        said: Who asks, and why.

    Raises:
        NotFoundError: The worker does not keep this pipeline.
    """
    kept = pipelines_of(workspace)
    if pipeline not in kept:
        hint = f"it keeps {', '.join(kept)}" if kept else "release one first: penstock run"
        raise NotFoundError(f"The worker keeps no pipeline {pipeline!r}.", hint=hint)
    priority = workspace.settings.policy(pipeline).priority
    new = causes.NewCause(pipeline=pipeline, kind=kind, key=key, priority=priority, reason=said)
    with workspace.ledger.write() as conn:
        return causes.put(conn, new)
