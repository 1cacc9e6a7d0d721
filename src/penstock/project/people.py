"""Who may look and act: people, their roles, and the tokens that say who asks."""

import re
from datetime import timedelta

from penstock.core.errors import InputError
from penstock.core.records import Record
from penstock.core.refs import parse_name
from penstock.core.tokens import is_same, new_token, read_token
from penstock.project.moving import person
from penstock.project.workspace import Workspace
from penstock.store.ledger import events, people
from penstock.store.ledger.people import EVERY, ROLES, Grant, KeptToken, Person, Role

SIGN_IN_FOR = timedelta(minutes=10)
SESSION_FOR = timedelta(hours=12)
_LONGEST_API = timedelta(days=366)
_NOT_IN_NAMES = re.compile(r"[^a-z0-9._-]")


class Caller(Record, frozen=True, kw_only=True):
    """Somebody who showed a good token.

    Attributes:
        name: Of the person.
        grants: What they may, as far as the token lets them.
        token: Id of the token.
        is_session: It came in a cookie, which a browser sends whoever made it ask.
    """

    name: str
    grants: tuple[Grant, ...]
    token: str
    is_session: bool

    def may(self, role: Role, pipeline: str = EVERY) -> bool:
        """Whether they have a role, or one above it, for a pipeline; "" for all of them."""
        return any(_reaches(grant.role, role) for grant in self.grants if grant.pipeline in {EVERY, pipeline})


class Made(Record, frozen=True, kw_only=True):
    """A person with a token, to be shown once; it is kept nowhere."""

    person: Person
    token: str


def add_person(workspace: Workspace, name: str, role: Role, *, pipeline: str = EVERY, by: str | None = None) -> Made:
    """Let somebody sign in, or give them another role; return a token that signs them in once.

    Raises:
        InputError: The name or the pipeline is not usable.
    """
    parse_name(name, what="person")
    if pipeline:
        parse_name(pipeline, what="pipeline")
    token, kept = new_token("signin")
    with workspace.ledger.write() as conn:
        found = people.add(conn, name, Grant(pipeline=pipeline, role=role), by=by or person())
        people.put_token(conn, kept, "signin", name, expires_at=workspace.clock.now() + SIGN_IN_FOR)
    return Made(person=found, token=token)


def invite(workspace: Workspace, name: str, *, by: str | None = None) -> Made:
    """Return a token that signs a person in once.

    Raises:
        NotFoundError: There is no such person.
    """
    token, kept = new_token("signin")
    with workspace.ledger.write() as conn:
        found = people.get(conn, name)
        people.put_token(conn, kept, "signin", name, expires_at=workspace.clock.now() + SIGN_IN_FOR)
        events.append(conn, actor=by or person(), action="person.invited", target=name)
    return Made(person=found, token=token)


def admit_owner(workspace: Workspace) -> Made:
    """Let the account that runs this process sign in as admin: whoever may write the ledger may do all anyway."""
    name = _NOT_IN_NAMES.sub("-", person().lower()).lstrip("._-") or "owner"
    with workspace.ledger.read() as conn:
        known = people.find(conn, name)
    if known is not None and known.removed_at is None and Grant(pipeline=EVERY, role="admin") in known.grants:
        return invite(workspace, name)
    return add_person(workspace, name, "admin")


def remove_person(workspace: Workspace, name: str, *, by: str | None = None) -> Person:
    """Let somebody sign in no more; their sessions and tokens end at once.

    Raises:
        NotFoundError: There is no such person.
        InputError: They are the last admin.
    """
    parse_name(name, what="person")
    with workspace.ledger.write() as conn:
        return people.remove(conn, name, by=by or person())


def take_role(workspace: Workspace, name: str, pipeline: str, *, by: str | None = None) -> Person:
    """Take back what somebody may do with a pipeline.

    Raises:
        NotFoundError: There is no such person, or they had no role there.
        InputError: They are the last admin.
    """
    with workspace.ledger.write() as conn:
        return people.take(conn, name, pipeline, by=by or person())


def list_tokens(workspace: Workspace, name: str) -> list[KeptToken]:
    """Return the tokens for programs of a person that still work, the newest first.

    Raises:
        NotFoundError: There is no such person.
    """
    now = workspace.clock.now()
    with workspace.ledger.read() as conn:
        people.get(conn, name)
        return [one for one in people.tokens_of(conn, name, "api") if one.is_good(now)]


def revoke_token(workspace: Workspace, token_id: str, *, by: str | None = None) -> KeptToken:
    """Have a token refused from now on.

    Raises:
        NotFoundError: There is none of that id.
    """
    with workspace.ledger.write() as conn:
        return people.revoke(conn, token_id, by=by or person())


def list_people(workspace: Workspace) -> list[Person]:
    """Return who may sign in, by name."""
    with workspace.ledger.read() as conn:
        return people.everybody(conn)


def make_api_token(
    workspace: Workspace, name: str, *, lasts: timedelta, role: Role | None = None, by: str | None = None
) -> Made:
    """Return a new token for programs of a person.

    Args:
        workspace: The project.
        name: Of the person.
        lasts: How long it works.
        role: The most it may; None for all that the person may.
        by: Who makes it; the account of this process when None.

    Raises:
        NotFoundError: There is no such person.
        InputError: It would last no time, or longer than a year.
    """
    if not timedelta(0) < lasts <= _LONGEST_API:
        raise InputError(
            f"A token cannot last {lasts.total_seconds() / 86_400:g} d.", hint="give a time up to a year, as 90d"
        )
    token, kept = new_token("api")
    with workspace.ledger.write() as conn:
        found = people.get(conn, name)
        people.put_token(conn, kept, "api", name, expires_at=workspace.clock.now() + lasts, role=role)
        details = {"token": kept.id, "role": role, "days": lasts.total_seconds() / 86_400}
        events.append(conn, actor=by or person(), action="token.made", target=name, details=details)
    return Made(person=found, token=token)


def sign_in(workspace: Workspace, text: str) -> Made | None:
    """Use a sign-in token up and return the token of a session; None where it is not good."""
    given = read_token(text)
    if given is None or given.kind != "signin":
        return None
    now = workspace.clock.now()
    token, new = new_token("session")
    with workspace.ledger.write() as conn:
        kept = people.find_token(conn, given.id)
        if kept is None or kept.kind != "signin" or not is_same(kept.hash, given.hash) or not kept.is_good(now):
            return None
        found = people.find(conn, kept.person)
        if found is None or found.removed_at is not None or not people.use_once(conn, kept.id):
            return None
        people.put_token(conn, new, "session", kept.person, expires_at=now + SESSION_FOR)
        events.append(conn, actor=kept.person, action="person.signed_in", target=kept.person)
    return Made(person=found, token=token)


def sign_out(workspace: Workspace, caller: Caller) -> None:
    """End a session."""
    with workspace.ledger.write() as conn:
        people.revoke(conn, caller.token, by=caller.name)


def caller_of(workspace: Workspace, text: str) -> Caller | None:
    """Return who a token belongs to; None where it is not good, or only signs in."""
    given = read_token(text)
    if given is None or given.kind == "signin":
        return None
    with workspace.ledger.read() as conn:
        kept = people.find_token(conn, given.id)
        if kept is None or kept.kind != given.kind or not is_same(kept.hash, given.hash):
            return None
        if kept.kind == "signin" or not kept.is_good(workspace.clock.now()):
            return None
        found = people.find(conn, kept.person)
    if found is None or found.removed_at is not None:
        return None
    grants = tuple(_limited(grant, kept) for grant in found.grants)
    return Caller(name=found.name, grants=grants, token=kept.id, is_session=kept.kind == "session")


def _limited(grant: Grant, kept: KeptToken) -> Grant:
    if kept.role is None or not _reaches(grant.role, kept.role):
        return grant
    return Grant(pipeline=grant.pipeline, role=kept.role)


def _reaches(role: Role, wanted: Role) -> bool:
    return ROLES.index(role) >= ROLES.index(wanted)
