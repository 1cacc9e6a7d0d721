"""`penstock people`: who may look at the pages and act there."""

from datetime import timedelta
from typing import Annotated

import typer

from penstock.cli.options import HERE, AsJson, Project
from penstock.cli.tables import grid, open_console, write_json
from penstock.core.errors import InputError
from penstock.core.settings import parse_duration
from penstock.project import people as known
from penstock.project.workspace import Workspace, open_workspace
from penstock.store.ledger.people import EVERY, ROLES, Person, Role

_VERBS = ("list", "add", "invite", "remove", "token")


def people(
    verb: Annotated[str, typer.Argument(metavar="[VERB]", help="list, add, invite, remove or token.")] = "list",
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Of the person.")] = None,
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
    token; remove ends all they have at once; token makes one for programs, sent as Authorization: Bearer, for all that
    the person may or, with --role, for less. Tokens are shown once; only their hashes are kept.

    Exit codes: 0 done, 2 no such person or role, 4 the store failed.

    Example:
        penstock people add ada --role releaser --of movies
        penstock people invite ada
        penstock people token ada --role viewer --lasts 30d
        penstock people remove ada
    """
    if verb not in _VERBS:
        raise InputError(f"{verb!r} is nothing to do with people.", hint=f"write one of {', '.join(_VERBS)}")
    with open_workspace(project, to_look=verb == "list") as workspace:
        if verb == "list":
            return _list(known.list_people(workspace), as_json=as_json)
        if name is None:
            raise InputError(f"`penstock people {verb}` needs a name.", hint=f"penstock people {verb} ada")
        if verb == "remove":
            gone = known.remove_person(workspace, name)
            if as_json:
                write_json(gone)
            else:
                print(f"{name} may sign in no more; sessions and tokens of theirs have ended.")
            return 0
        return _made(_make(verb, name, workspace, _role(role), pipeline, lasts), verb, as_json=as_json)


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
