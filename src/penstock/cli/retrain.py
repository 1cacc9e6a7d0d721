"""`penstock retrain`: ask for a retrain, which the worker does when its turn comes."""

import uuid
from typing import Annotated

import typer

from penstock.cli.options import HERE, AsJson, Project
from penstock.cli.tables import open_console, write_json
from penstock.core.errors import InputError
from penstock.project.moving import person
from penstock.project.workspace import Workspace, open_workspace
from penstock.store.ledger import causes
from penstock.worker.asking import Asked, ask_for_retrain, asked_of, one_line, wish

_LONGEST = 200


def retrain(
    pipeline: Annotated[str, typer.Argument(help="Name of the pipeline.")],
    key: Annotated[
        str | None, typer.Option("--key", help="Names the wish: asked again with it, nothing is added.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever asks later.")] = "",
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Ask for a retrain: the worker runs it when its turn comes, whatever cool-down, quarantine and budget say.

    Without --key, a wish that waits already stands for this one too. `penstock up` or `penstock tick` runs it.

    Exit codes: 0 recorded or known, 2 no such pipeline or wrong input, 4 the store failed.

    Example:
        penstock retrain movies
        penstock retrain movies --reason "the catalogue was mended"
        penstock retrain movies --key release-2026-03 --json
    """
    if len(reason) > _LONGEST or (key is not None and not 1 <= len(key) <= 128):
        raise InputError("The reason or the key is too long.", hint="at most 200 characters, and 128 for a key")
    with open_workspace(project) as workspace:
        asked = _ask(workspace, pipeline, key, reason)
    if as_json:
        write_json(asked)
        return 0
    if asked.is_new:
        said = f"Asked: {pipeline} is to be retrained ({asked.cause}). `penstock up` or `penstock tick` runs it."
    elif asked.run is not None:
        said = f"Asked before ({asked.cause}): {asked.state}, see penstock show {asked.run}"
    else:
        said = f"Asked before ({asked.cause}): {asked.state}. {asked.said}"
    open_console().print(said, soft_wrap=True)
    return 0


def _ask(workspace: Workspace, pipeline: str, key: str | None, reason: str) -> Asked:
    waits = _waiting(workspace, pipeline) if key is None else None
    if waits is not None:
        return asked_of(waits, is_new=False)
    key, actor = key or uuid.uuid4().hex[:12], person()
    said = f"{actor} asked for it: {one_line(reason) or 'no reason'}"
    is_new = ask_for_retrain(workspace, pipeline, kind="manual", key=key, said=said, actor=actor)
    found = wish(workspace, pipeline, kind="manual", key=key)
    if found is None:
        raise InputError(f"The wish {key!r} is not recorded.", hint="ask again")
    return asked_of(found, is_new=is_new)


def _waiting(workspace: Workspace, pipeline: str) -> causes.Cause | None:
    with workspace.ledger.read() as conn:
        found = causes.open_causes(conn)
    mine = (c for c in found if c.pipeline == pipeline and c.kind == "manual" and c.state == "waiting")
    return next(mine, None)
