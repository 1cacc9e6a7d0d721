"""A retrain asked for from outside: by a person, a webhook, another system. The same key is the same wish."""

from penstock.core import faults
from penstock.core.errors import NotFoundError
from penstock.core.records import Record
from penstock.project.workspace import Workspace
from penstock.store.ledger import causes, events
from penstock.worker.state import Kind
from penstock.worker.tick import pipelines_of


class Asked(Record, frozen=True, kw_only=True):
    """What became of a wish so far.

    Attributes:
        cause: "manual:KEY" or "webhook:KEY".
        state: Of the cause: "waiting", "running", "done", "skipped" or "failed".
        is_new: It was recorded now; otherwise it was known, or another waits already.
        run: The run that was begun for it, "r41"; None so far.
        said: Why, in words; of a skipped one, why not.
    """

    pipeline: str
    cause: str
    state: str
    is_new: bool
    run: str | None = None
    said: str = ""


def asked_of(found: causes.Cause, *, is_new: bool) -> Asked:
    """Return a wish as whoever asked is told of it."""
    run = None if found.run_id is None else f"r{found.run_id}"
    return Asked(
        pipeline=found.pipeline, cause=found.name, state=found.state, is_new=is_new, run=run, said=found.reason
    )


def ask_for_retrain(
    workspace: Workspace, pipeline: str, *, kind: Kind, key: str, said: str, actor: str | None = None
) -> bool:
    """Record a wish, which the next tick looks at; return False when it was recorded before.

    Args:
        workspace: The project.
        pipeline: Which is to be retrained.
        kind: "manual" only waits for its turn; "webhook" heeds quarantine and budget too.
        key: Names the wish: a hundred with one key are one retrain.
        said: Who asks, and why.
        actor: Who asks, for the audit trail; the kind when None.

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
        is_new = causes.put(conn, new)
        if is_new:
            details = {"cause": new.name, "reason": said}
            events.append(conn, actor=actor or kind, action="retrain.asked", target=pipeline, details=details)
        faults.point("wish_before_commit")
    faults.point("wish_after_commit")
    return is_new


def wish(workspace: Workspace, pipeline: str, *, kind: Kind, key: str) -> causes.Cause | None:
    """Return what became of a wish; None when nobody asked with this key."""
    with workspace.ledger.read() as conn:
        return causes.by_key(conn, pipeline, kind, key)


def wishes_waiting(workspace: Workspace, pipeline: str, kind: Kind = "webhook") -> int:
    """Return how many wishes of a kind wait for their turn."""
    with workspace.ledger.read() as conn:
        found = causes.open_causes(conn)
    return sum(c.pipeline == pipeline and c.kind == kind and c.state == "waiting" for c in found)


def one_line(said: str) -> str:
    """Return what somebody said as one line without what a terminal would act on."""
    return " ".join("".join(c if c.isprintable() else " " for c in said).split())
