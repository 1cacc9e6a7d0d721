"""`penstock people`: who may look at the pages and act there."""

from datetime import timedelta
from typing import Annotated, Any

import msgspec
import typer

from penstock.cli.options import HERE, AsJson, Project
from penstock.cli.tables import grid, open_console, write_json
from penstock.core.errors import InputError
from penstock.core.settings import parse_duration
from penstock.project import people as known
from penstock.project.workspace import Workspace, open_workspace
from penstock.store.ledger.people import EVERY, ROLES, KeptToken, Person, Role

_VERBS = ("list", "add", "invite", "remove", "token", "tokens", "revoke")


def people(
    verb: Annotated[
        str, typer.Argument(metavar="[VERB]", help="list, add, invite, remove, token, tokens or revoke.")
    ] = "list",
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Of the person; of revoke, the id of a token.")
    ] = None,
    *,
    role: Annotated[
        str | None, typer.Option("--role", help=f"{', '.join(ROLES)}; each may what those before it may.")
    ] = None,
    pipeline: Annotated[str, typer.Option("--of", metavar="PIPELINE", help="For this pipeline; else for all.")] = EVERY,
    lasts: Annotated[str, typer.Option("--lasts", help="How long a token for programs works.")] = "90d",
    as_json: AsJson = False,
    project: Project = HERE,
) -> int:
    """Say who may look at the pages of `penstock up`, and who may act there.

    add gives somebody a role, and a token that signs them in once, within ten minutes; invite gives them another such
    token; remove ends all they have at once, or with --of their role for one pipeline. token makes one for programs,
    sent as Authorization: Bearer, for all that the person may or, with --role, for less; tokens lists those that work,
    revoke ends one. Tokens are shown once; only their hashes are kept.

    Exit codes: 0 done, 2 no such person or role, 4 the store failed.

    Example:
        penstock people add ada --role releaser --of movies
        penstock people invite ada
        penstock people token ada --role viewer --lasts 30d
        penstock people tokens ada
        penstock people revoke 018f312b4c00
        penstock people remove ada
    """
    if verb not in _VERBS:
        raise InputError(f"{verb!r} is nothing to do with people.", hint=f"write one of {', '.join(_VERBS)}")
    with open_workspace(project, to_look=verb in {"list", "tokens"}) as workspace:
        if verb == "list":
            return _list(known.list_people(workspace), as_json=as_json)
        if name is None:
            raise InputError(f"`penstock people {verb}` needs a name.", hint=f"penstock people {verb} ada")
        if verb == "tokens":
            return _tokens(known.list_tokens(workspace, name), as_json=as_json)
        if verb in {"remove", "revoke"}:
            return _ended(verb, name, workspace, pipeline, as_json=as_json)
        return _made(_make(verb, name, workspace, _role(role), pipeline, lasts), verb, as_json=as_json)


def _ended(verb: str, name: str, workspace: Workspace, pipeline: str, *, as_json: bool) -> int:
    ended: Person | KeptToken
    if verb == "revoke":
        ended, said = known.revoke_token(workspace, name), f"Token {name} is refused from now on."
    elif pipeline != EVERY:
        ended, said = known.take_role(workspace, name, pipeline), f"{name} has no role for {pipeline} any more."
    else:
        ended = known.remove_person(workspace, name)
        said = f"{name} may sign in no more; sessions and tokens of theirs have ended."
    if as_json:
        write_json(_without_hash(ended))
    else:
        print(said)
    return 0


def _without_hash(one: Person | KeptToken) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(one).items() if name != "hash"}


def _tokens(found: list[KeptToken], *, as_json: bool) -> int:
    if as_json:
        write_json([_without_hash(one) for one in found])
        return 0
    console = open_console()
    if not found:
        console.print("No token for programs works.")
        return 0
    table = grid("whole", "whole", "fold")
    for one in found:
        ends = "" if one.expires_at is None else f"until {one.expires_at:%Y-%m-%d %H:%M} UTC"
        table.add_row(one.id, ends, f"as {one.role}" if one.role is not None else "for all that the person may")
    console.print(table)
    return 0


def _make(verb: str, name: str, workspace: Workspace, role: Role | None, pipeline: str, lasts: str) -> known.Made:
    if verb == "invite":
        return known.invite(workspace, name)
    if verb == "token":
        return known.make_api_token(workspace, name, lasts=timedelta(seconds=parse_duration(lasts)), role=role)
    if role is None:
        raise InputError("It is not said what they may.", hint=f"give --role, one of {', '.join(ROLES)}")
    return known.add_person(workspace, name, role, pipeline=pipeline)


def _role(text: str | None) -> Role | None:
    found = next((one for one in ROLES if one == text), None)
    if text is not None and found is None:
        raise InputError(f"{text!r} is no role.", hint=f"one of {', '.join(ROLES)}")
    return found


def _made(made: known.Made, verb: str, *, as_json: bool) -> int:
    if as_json:
        write_json({"person": made.person, "token": made.token})
        return 0
    name = made.person.name
    if verb == "token":
        print(f"Programs of {name} send this, which is shown only now:\n\n  Authorization: Bearer {made.token}")
        print(f"\nEnd it: penstock people revoke {made.token.split('_')[2]}")
        return 0
    print(
        f"{name} signs in once, within ten minutes, at the address of the pages with this, which is shown only now:\n"
    )
    print(f"  /sign-in?token={made.token}")
    return 0


def _list(found: list[Person], *, as_json: bool) -> int:
    if as_json:
        write_json(found)
        return 0
    console = open_console()
    if not found:
        console.print(
            "Nobody yet. `penstock up` lets the account that starts it in; add others: penstock people add NAME"
        )
        return 0
    table = grid("whole", "fold")
    for one in found:
        table.add_row(
            one.name, ", ".join(f"{grant.role} of {grant.pipeline or 'all pipelines'}" for grant in one.grants)
        )
    console.print(table)
    return 0
