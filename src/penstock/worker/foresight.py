"""What a worker would decide about one pipeline, told without doing it, and without loading what runs pipelines.

Belongs here: the preview as a status shows it. What is decided: `decide`; the preview of a whole tick: `tick`.
"""

from datetime import datetime

from penstock.project.status.records import Due, Waits
from penstock.project.workspace import Workspace
from penstock.store.ledger import causes, releases
from penstock.worker.decide import decide_each
from penstock.worker.gather import gather, trained
from penstock.worker.slots import check_schedule, next_slot
from penstock.worker.state import WEIGHED, Action, Hold, Looked, Queue, Skip, Start, Worth


def foresee(workspace: Workspace, pipeline: str, now: datetime, *, worth: Worth | None = None) -> Due:
    """Return what the next look would begin, hold and skip, and when the schedule comes next.

    Args:
        workspace: The project.
        pipeline: Which pipeline.
        now: UTC.
        worth: What is expected of a retrain, where that is known.

    Raises:
        InputError: Its schedule cannot be followed.
        StoreError: The store cannot be read.
    """
    policy = workspace.settings.policy(pipeline)
    if policy.schedule is not None:
        check_schedule(policy.schedule, policy.timezone)
    actions = _decided(workspace, pipeline, now, worth)
    said = {_name(a.kind, a.key): a.reason for a in actions if isinstance(a, Queue)}
    with workspace.ledger.read() as conn:
        waiting = [c for c in causes.open_causes(conn) if c.pipeline == pipeline and c.state == "waiting"]
    said |= {cause.name: cause.reason for cause in waiting}
    begins = {a.cause.name: Waits(cause=a.cause.name, said=said[a.cause.name]) for a in actions if isinstance(a, Start)}
    skips = {
        _name(a.kind, a.key): Waits(cause=_name(a.kind, a.key), said=a.reason) for a in actions if isinstance(a, Skip)
    }
    holds = {_name(a.kind, a.key): a for a in actions if isinstance(a, Hold)}
    held = {cause.name: _held(cause) for cause in waiting}
    names = [name for name in said if name not in begins and name not in skips]
    waits = [_waits(name, said[name], holds.get(name), held.get(name)) for name in names]
    return Due(
        slot=None if policy.schedule is None else next_slot(policy.schedule, policy.timezone, now),
        begins=tuple(begins.values()),
        waits=tuple(waits),
        skips=tuple(skips.values()),
        worth="" if worth is None else worth.said,
        figures={} if worth is None else worth.figures,
        is_worth=None if worth is None else worth.is_worth,
        is_weighed=any(found.cause.partition(":")[0] in WEIGHED for found in begins.values()),
    )


def _decided(workspace: Workspace, pipeline: str, now: datetime, worth: Worth | None) -> list[Action]:
    """Decide on this pipeline beside those whose retrains take up room, or whose releases it builds on."""
    names = _names(workspace, pipeline)
    live = trained({*names, *workspace.settings.policy(pipeline).upstream}, workspace)
    known = {} if worth is None else {pipeline: worth}
    with workspace.ledger.read() as conn:
        state, noticed = gather(conn, workspace, live, now, names=names, worth=known)
    actions = decide_each(state, (*noticed, Looked()), now)
    return [a for a in actions if (a.cause.pipeline if isinstance(a, Start) else a.pipeline) == pipeline]


def _names(workspace: Workspace, pipeline: str) -> list[str]:
    with workspace.ledger.read() as conn:
        is_kept = releases.live(conn, pipeline) is not None
        others = {cause.pipeline for cause in causes.open_causes(conn)}
    is_kept = is_kept or workspace.settings.policy(pipeline).schedule is not None
    return sorted(others | ({pipeline} if is_kept else set()))


def _name(kind: str, key: str) -> str:
    return f"{kind}:{key}"


def _held(cause: causes.Cause) -> tuple[str, datetime | None]:
    held = cause.figures.get("held") or {}
    until = held.get("until")
    return str(held.get("reason", "")), datetime.fromisoformat(until) if isinstance(until, str) else None


def _waits(name: str, said: str, hold: Hold | None, kept: tuple[str, datetime | None] | None) -> Waits:
    if hold is not None:
        return Waits(cause=name, said=said, held=hold.reason, until=hold.until)
    held, until = kept or ("", None)
    return Waits(cause=name, said=said, held=held, until=until)
