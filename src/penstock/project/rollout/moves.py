"""What begins and moves a rollout: a release that is made, and people."""

from collections.abc import Sequence
from typing import Literal

import sqlalchemy as sa

from penstock.core.errors import CheckError, InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.refs import ReleaseRef, parse_name
from penstock.core.settings import Policy, parse_duration
from penstock.core.states import RolloutState
from penstock.project.capacity.required import lacking_evidence
from penstock.project.contracts import refuse_breaking_release
from penstock.project.moving import find_release, person
from penstock.project.rollout.finishing import finish
from penstock.project.workspace import Workspace
from penstock.releases.rollout import WHOLE, parse_stage, parse_stages
from penstock.store.ledger import events, releases, rollouts
from penstock.store.ledger.evidence import Kind
from penstock.store.ledger.rollouts import NewRollout, Rollout

_HOLD = "10m"
_MOST_EVENTS = 10_000


class Moved(Record, frozen=True, kw_only=True):
    """What a command did.

    Attributes:
        live: The release that callers are answered by, apart from a share.
        rollout: The rollout as it stands now; None where none was touched.
        said: In words.
    """

    pipeline: str
    live: str | None
    rollout: Rollout | None
    said: str


def take_up(
    conn: sa.Connection,
    ref: ReleaseRef,
    policy: Policy,
    *,
    by: str,
    require: Sequence[Kind] = (),
    is_asked: bool = False,
) -> Rollout | None:
    """Begin the rollout of a release; where there is nothing to roll out beside, it goes live at once.

    Args:
        conn: A writing transaction.
        ref: The release.
        policy: Its own.
        by: Who has it begun.
        require: Evidence that it must have passed before.
        is_asked: A person asked for it, and not the run that made the release.

    Returns:
        None when it went live at once: policy asks for nothing before, or nothing was live.
    """
    live = releases.live(conn, ref.pipeline)
    if live is None or not (policy.rollout or policy.approvals or require):
        before = rollouts.opened(conn, ref.pipeline)
        if before is not None:
            rollouts.move(conn, before, RolloutState.REPLACED, by=by, reason=f"{ref} went live")
        releases.set_endpoint(conn, ref.pipeline, ref, by=by)
        return None
    if is_asked and live.ref == ref:
        raise InputError(f"{ref} is live already.", hint=f"see `penstock rollouts {ref.pipeline}`")
    new = NewRollout(
        pipeline=ref.pipeline,
        candidate=ref.version,
        base=live.version,
        stages=tuple(stage.name for stage in parse_stages(policy.rollout)),
        hold_s=parse_duration(policy.hold or _HOLD),
        approvals=policy.approvals,
        waits=bool(lacking_evidence(conn, str(ref), ref.pipeline, require)),
    )
    begun = rollouts.begin(conn, new, by=by)
    return begun if begun.state is RolloutState.WAITING else _at_once(conn, begun, by=by)


def go_on(conn: sa.Connection, rollout: Rollout, require: Sequence[Kind], *, by: str) -> Rollout:
    """Let a rollout that waits run, once nothing that policy asks for is missing."""
    if rollout.state is not RolloutState.WAITING or _missing(conn, rollout, require):
        return rollout
    roles = f"approved by {', '.join(rollout.approvals)}" if rollout.approvals else "all evidence is there"
    return _at_once(conn, rollouts.move(conn, rollout, RolloutState.RUNNING, by=by, reason=roles), by=by)


def _at_once(conn: sa.Connection, rollout: Rollout, *, by: str) -> Rollout:
    if rollout.stages == (WHOLE,):
        return finish(conn, rollout, "policy has no stage before the whole", by=by)
    return rollout


def _missing(conn: sa.Connection, rollout: Rollout, require: Sequence[Kind]) -> list[tuple[str, str]]:
    """Return what a rollout waits for, each with the command that brings it."""
    lacks = lacking_evidence(conn, str(rollout.ref), rollout.pipeline, require)
    roles = [
        (f"approval by {role}", f"penstock approve {rollout.ref} --as {role} --reason TEXT") for role in rollout.lacking
    ]
    return [*roles, *((f"{one.kind} evidence", one.hint) for one in lacks)]


def _refuse_waiting(conn: sa.Connection, rollout: Rollout, workspace: Workspace, *, by: str) -> Rollout:
    """Return a rollout that runs.

    Raises:
        CheckError: Something that policy asks for is missing.
    """
    require = workspace.settings.policy(rollout.pipeline).require
    gone_on = go_on(conn, rollout, require, by=by)
    if gone_on.state is RolloutState.WAITING:
        lacks = _missing(conn, gone_on, require)
        raise CheckError(
            f"{rollout.ref} waits for {', '.join(said for said, _ in lacks)}.",
            hint="; ".join(dict.fromkeys(hint for _, hint in lacks if hint)),
        )
    return gone_on


def promote(
    target: str, workspace: Workspace, *, to: str | None = None, reason: str = "", by: str | None = None
) -> Moved:
    """Take a release to its next stage, or to a named one; begin its rollout where none is under way.

    Args:
        target: "movies@5", or "movies" for the candidate of the rollout that is under way.
        workspace: The project.
        to: The stage, as "10%" or "100%"; None for the next, or for the first of a rollout that begins.
        reason: Why, for the record.
        by: Who does it; the account of this process when None.

    Raises:
        NotFoundError: There is no such release, or no rollout under way.
        InputError: It is live already, or there is no such stage.
        CheckError: Approvals or evidence that policy asks for are missing, or it breaks an application.
    """
    actor = by or person()
    ref = _candidate(target, workspace)
    manifest = refuse_breaking_release(workspace, ref)
    with workspace.ledger.write() as conn:
        rollout = rollouts.opened(conn, ref.pipeline)
        if rollout is None or rollout.ref != ref:
            require = workspace.settings.policy(ref.pipeline).require
            rollout = take_up(conn, ref, manifest.policy, by=actor, require=require, is_asked=True)
            if rollout is None:
                return _moved(conn, ref.pipeline, None, f"{ref} is live.")
            if to is None:
                return _moved(conn, ref.pipeline, rollout, f"The rollout of {ref} has begun: {_where(rollout)}.")
        rollout = _refuse_waiting(conn, rollout, workspace, by=actor)
        if rollout.state is RolloutState.DONE:
            return _moved(conn, ref.pipeline, rollout, f"{ref} is live.")
        why = reason or "promoted by hand"
        stage = rollout.stage + 1 if to is None else _stage_named(rollout, to)
        if rollout.stages[stage] == WHOLE or parse_stage(rollout.stages[stage]).is_whole:
            moved = finish(conn, rollout, why, by=actor)
            return _moved(conn, ref.pipeline, moved, f"{ref} is live.")
        moved = rollouts.move(conn, rollout, RolloutState.RUNNING, by=actor, reason=why, stage=stage)
        return _moved(conn, ref.pipeline, moved, f"{ref} is at {moved.stage_name}.")


def roll_back(
    pipeline: str, workspace: Workspace, *, to: str | None = None, reason: str = "", by: str | None = None
) -> Moved:
    """Take back the candidate that is under way; where none is, return to the release that was live before.

    The whole release comes back: code, artifacts, checks and policy.

    Args:
        pipeline: Name of the pipeline.
        workspace: The project.
        to: The release to return to; None for the one that was live before.
        reason: Why, for the record.
        by: Who does it; the account of this process when None.

    Raises:
        NotFoundError: There is nothing to return to.
        InputError: The release is of another pipeline, live, or newer than the live one.
    """
    name, actor = parse_name(pipeline, what="pipeline"), by or person()
    why = reason or "rolled back by hand"
    wanted = None if to is None else find_release(to, workspace).ref
    if wanted is not None and wanted.pipeline != name:
        raise InputError(f"{wanted} is no release of {name!r}.", hint=f"write it as {name}@3")
    with workspace.ledger.write() as conn:
        rollout = rollouts.opened(conn, name)
        if rollout is not None:
            rollout = rollouts.move(conn, rollout, RolloutState.ROLLED_BACK, by=actor, reason=why)
            if wanted is None:
                return _moved(
                    conn, name, rollout, f"{rollout.ref} is taken back; {rollout.base_ref} answers everybody."
                )
        live = releases.live(conn, name)
        before = wanted or _live_before(conn, name)
        if live is None or before is None:
            raise NotFoundError(f"{name!r} has no earlier live release.", hint=f"see `penstock releases {name}`")
        if before == live.ref:
            raise InputError(f"{before} is live already.", hint=f"see `penstock releases {name}`")
        if before.version > live.version:
            raise InputError(f"{before} is newer than {live.ref}, which is live.", hint=f"penstock promote {before}")
        releases.set_endpoint(conn, name, before, by=actor)
        details = {"before": str(live.ref), "after": str(before), "reason": why}
        events.append(conn, actor=actor, action="release.rolled_back", target=str(live.ref), details=details)
        return _moved(conn, name, rollout, f"{before} is live again, in place of {live.ref}.")


def pause(pipeline: str, workspace: Workspace, *, reason: str = "", by: str | None = None) -> Moved:
    """Keep a rollout where it is until somebody goes on; guards still take it back.

    Raises:
        NotFoundError: None is under way.
    """
    return _keep(pipeline, workspace, "pause", reason=reason or "paused by hand", by=by or person())


def resume(pipeline: str, workspace: Workspace, *, reason: str = "", by: str | None = None) -> Moved:
    """Let a paused rollout go on: its hold begins anew.

    Raises:
        NotFoundError: None is under way.
    """
    return _keep(pipeline, workspace, "resume", reason=reason or "resumed by hand", by=by or person())


def split(pipeline: str, share: str, workspace: Workspace, *, reason: str = "") -> Moved:
    """Give the candidate a share by hand; the rollout is paused there.

    Raises:
        NotFoundError: No rollout is under way.
        InputError: The share is none, or the whole.
        CheckError: The candidate breaks an application that came meanwhile.
    """
    stage = parse_stage(share)
    if stage.is_whole:
        raise InputError(f"{share!r} is everybody.", hint=f"penstock promote {pipeline} --to 100%")
    refuse_breaking_release(workspace, _candidate(pipeline, workspace))
    with workspace.ledger.write() as conn:
        rollout = _refuse_waiting(conn, _opened(conn, pipeline), workspace, by=person())
        others = [parse_stage(name) for name in rollout.stages if name != stage.name]
        names = [one.name for one in sorted([*others, stage], key=lambda one: one.share)]
        moved = rollouts.move(
            conn,
            rollout,
            RolloutState.PAUSED,
            by=person(),
            reason=reason or f"{stage.name} by hand",
            stage=names.index(stage.name),
            stages=tuple(names),
        )
        return _moved(conn, pipeline, moved, f"{moved.ref} is held at {moved.stage_name}.")


def approve(target: str, role: str, workspace: Workspace, *, reason: str, by: str | None = None) -> Moved:
    """Approve a candidate in a role that policy asks for; with the last approval its rollout runs.

    Raises:
        NotFoundError: There is no such release, or its rollout is not under way.
        InputError: Policy asks for no such approval.
        CheckError: The candidate breaks an application that came meanwhile.
    """
    ref = _candidate(target, workspace)
    refuse_breaking_release(workspace, ref)
    with workspace.ledger.write() as conn:
        rollout = _opened(conn, ref.pipeline)
        if rollout.ref != ref:
            raise NotFoundError(f"{ref} is not the candidate under way.", hint=f"that is {rollout.ref}")
        require = workspace.settings.policy(ref.pipeline).require
        actor = by or person()
        approved = rollouts.approve(conn, rollout, role, by=actor, reason=reason)
        approved = go_on(conn, approved, require, by=actor)
        lacks = _missing(conn, approved, require) if approved.state is RolloutState.WAITING else []
        rest = f"; it waits for {', '.join(said for said, _ in lacks)}" if lacks else f": {_where(approved)}"
        return _moved(conn, ref.pipeline, approved, f"{ref} is approved as {role}{rest}.")


def listing(pipeline: str | None, workspace: Workspace, *, most: int = 20) -> list[Rollout]:
    """Return the newest rollouts of a pipeline, or of all."""
    with workspace.ledger.read() as conn:
        return rollouts.page(conn, pipeline, most=most)


def _keep(pipeline: str, workspace: Workspace, what: Literal["pause", "resume"], *, reason: str, by: str) -> Moved:
    state = RolloutState.PAUSED if what == "pause" else RolloutState.RUNNING
    with workspace.ledger.write() as conn:
        rollout = _opened(conn, pipeline)
        allowed = {RolloutState.RUNNING} if what == "pause" else {RolloutState.PAUSED}
        if rollout.state not in allowed:
            raise InputError(
                f"The rollout of {rollout.ref} is {rollout.state.value}.", hint=f"see `penstock rollouts {pipeline}`"
            )
        moved = rollouts.move(conn, rollout, state, by=by, reason=reason)
        return _moved(conn, pipeline, moved, f"{moved.ref}: {_where(moved)}.")


def _candidate(target: str, workspace: Workspace) -> ReleaseRef:
    if "@" in target:
        return find_release(target, workspace).ref
    with workspace.ledger.read() as conn:
        return _opened(conn, target).ref


def _opened(conn: sa.Connection, pipeline: str) -> Rollout:
    name = parse_name(pipeline, what="pipeline")
    found = rollouts.opened(conn, name)
    if found is None:
        raise NotFoundError(
            f"No rollout of {name!r} is under way.",
            hint=f"begin one: penstock promote {name}@3; see `penstock rollouts`",
        )
    return found


def _stage_named(rollout: Rollout, to: str) -> int:
    wanted = parse_stage(to)
    names = [parse_stage(name).share for name in rollout.stages]
    if wanted.share not in names:
        raise InputError(
            f"The rollout of {rollout.ref} has no stage {to!r}.",
            hint=f"one of {', '.join(rollout.stages)}; penstock split {rollout.pipeline} {to} gives any share",
        )
    return names.index(wanted.share)


def _live_before(conn: sa.Connection, pipeline: str) -> ReleaseRef | None:
    """Return the newest release older than the live one that was live once: taken back twice, two steps."""
    live = releases.live(conn, pipeline)
    if live is None:
        return None
    served = (e.details.get("before") for e in events.page(conn, target=pipeline, limit=_MOST_EVENTS))
    versions = {int(str(text).rpartition("@")[2]) for text in served if text is not None}
    older = [version for version in versions if version < live.version]
    return ReleaseRef(pipeline, max(older)) if older else None


def _moved(conn: sa.Connection, pipeline: str, rollout: Rollout | None, said: str) -> Moved:
    live = releases.live(conn, pipeline)
    return Moved(pipeline=pipeline, live=None if live is None else str(live.ref), rollout=rollout, said=said)


def _where(rollout: Rollout) -> str:
    if rollout.lacking:
        return f"it waits for approval by {', '.join(rollout.lacking)}"
    if rollout.state is RolloutState.WAITING:
        return "it waits for evidence"
    return f"{rollout.state.value} at {rollout.stage_name}"
