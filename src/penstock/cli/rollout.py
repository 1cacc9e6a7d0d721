"""`penstock rollouts`, `promote`, `rollback`, `pause`, `resume`, `split`, `approve`: a release reaches its users."""

from typing import Annotated

import typer

from penstock.cli.options import HERE, AsJson, Project
from penstock.cli.tables import grid, open_console, state_text, when, write_json
from penstock.core.errors import InputError
from penstock.project.rollout import moves
from penstock.project.rollout.moves import Moved
from penstock.project.workspace import open_workspace
from penstock.store.ledger.rollouts import Rollout

_LONGEST = 500
Pipeline = Annotated[str, typer.Argument(help="Name of the pipeline.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for whoever asks later.")]


def rollouts(
    pipeline: Annotated[str | None, typer.Argument(metavar="[PIPELINE]", help="Of this pipeline alone.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many at most.")] = 10,
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """List rollouts, newest first; of the one that is under way also what its guards find.

    Exit codes: 0 listed, 2 wrong input, 4 the store failed.

    Example:
        penstock rollouts
        penstock rollouts movies --json
    """
    with open_workspace(project, to_look=True) as workspace:
        found, now = moves.listing(pipeline, workspace, most=limit), workspace.clock.now()
    if as_json:
        write_json(found)
        return 0
    console = open_console()
    if not found:
        console.print("No rollout yet. `rollout` and `hold` in penstock.toml say how a release reaches its users.")
        return 0
    table = grid("whole", "whole", "whole", "right", "whole", "fold")
    for one in found:
        since = when(one.finished_at or one.entered_at, now)
        said = one.reason if not one.is_open else str(one.figures.get("said", one.reason))
        state = state_text(one.state.value, console)
        table.add_row(str(one.ref), str(one.base_ref or ""), state, one.stage_name, since, said)
    console.print(table)
    for one in found:
        if one.is_open:
            _show_guards(one)
    return 0


def promote(
    release: Annotated[str, typer.Argument(help="The release, as movies@5; or movies for the candidate under way.")],
    to: Annotated[str | None, typer.Option("--to", metavar="STAGE", help="Go to this stage, as 10% or 100%.")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Take a release to the next stage of its rollout, or begin the rollout.

    Without stages in the policy of the release it goes live at once. Approvals and evidence that policy asks for are
    never skipped.

    Exit codes: 0 done, 3 approvals or evidence are missing, 2 no such release or stage, 4 the store failed.

    Example:
        penstock promote movies@5
        penstock promote movies --to 100% --reason "the holiday is tomorrow"
    """
    with open_workspace(project) as workspace:
        return _tell(moves.promote(release, workspace, to=to, reason=_short(reason)), as_json=as_json)


def rollback(
    pipeline: Pipeline,
    to: Annotated[str | None, typer.Option("--to", metavar="RELEASE", help="Return to this release.")] = None,
    reason: Reason = "",
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Take back the candidate under way; without one, return to the release that was live before.

    Code, artifacts, checks and policy come back together. Servers follow within a second.

    Exit codes: 0 done, 2 there is nothing to return to, 4 the store failed.

    Example:
        penstock rollback movies
        penstock rollback movies --to movies@3 --reason "wrong prices"
    """
    with open_workspace(project) as workspace:
        return _tell(moves.roll_back(pipeline, workspace, to=to, reason=_short(reason)), as_json=as_json)


def pause(pipeline: Pipeline, reason: Reason = "", as_json: AsJson = False, project: Project = HERE) -> int:
    """Keep a rollout at its stage; guards still take it back.

    Exit codes: 0 done, 2 none is under way, 4 the store failed.

    Example:
        penstock pause movies --reason "looking at the long tail"
    """
    with open_workspace(project) as workspace:
        return _tell(moves.pause(pipeline, workspace, reason=_short(reason)), as_json=as_json)


def resume(pipeline: Pipeline, reason: Reason = "", as_json: AsJson = False, project: Project = HERE) -> int:
    """Let a paused rollout go on; its hold begins anew.

    Exit codes: 0 done, 2 none is paused, 4 the store failed.

    Example:
        penstock resume movies
    """
    with open_workspace(project) as workspace:
        return _tell(moves.resume(pipeline, workspace, reason=_short(reason)), as_json=as_json)


def split(
    pipeline: Pipeline,
    share: Annotated[str, typer.Argument(help="Share of the users whom the candidate answers, as 25%, or shadow.")],
    reason: Reason = "",
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Give the candidate under way a share by hand, and hold it there.

    Exit codes: 0 done, 3 approvals or evidence are missing, 2 none is under way or no such share, 4 the store failed.

    Example:
        penstock split movies 25%
    """
    with open_workspace(project) as workspace:
        return _tell(moves.split(pipeline, share, workspace, reason=_short(reason)), as_json=as_json)


def approve(
    release: Annotated[str, typer.Argument(help="The candidate, as movies@5.")],
    role: Annotated[str, typer.Option("--as", metavar="ROLE", help="The role in which you approve.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever asks later.")],
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Approve a candidate in a role that `approvals` in penstock.toml asks for; with the last one its rollout runs.

    Exit codes: 0 recorded, 2 no such candidate or role, 4 the store failed.

    Example:
        penstock approve movies@5 --as product --reason "the new genres look right"
    """
    if not reason.strip():
        raise InputError("An approval needs a reason.", hint='--reason "what you looked at"')
    with open_workspace(project) as workspace:
        return _tell(moves.approve(release, role, workspace, reason=_short(reason)), as_json=as_json)


def _short(reason: str) -> str:
    if len(reason) > _LONGEST:
        raise InputError(f"The reason has {len(reason)} characters.", hint=f"at most {_LONGEST}")
    return " ".join(reason.split())


def _tell(moved: Moved, *, as_json: bool) -> int:
    if as_json:
        write_json(moved)
    else:
        open_console().print(moved.said, soft_wrap=True)
    return 0


def _show_guards(rollout: Rollout) -> None:
    guards = rollout.figures.get("guards") or []
    console = open_console()
    for role in rollout.lacking:
        console.print(f"{rollout.ref} waits for {role}: penstock approve {rollout.ref} --as {role} --reason TEXT")
    if guards:
        console.print(f"\n{rollout.ref} at {rollout.stage_name}, {rollout.figures.get('requests', 0):,} answers:")
        for guard in guards:
            mark = "[red]✗[/red]" if guard["is_broken"] else "[green]✓[/green]"
            console.print(f"  {mark} {guard['name']:<22} {guard['said']}", soft_wrap=True)
