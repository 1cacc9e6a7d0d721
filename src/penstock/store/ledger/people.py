"""People who sign in: what they may do, per pipeline or for all, and their tokens, of which only the hash is kept."""

from datetime import datetime
from typing import Literal

import msgspec
import sqlalchemy as sa

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.tokens import Token
from penstock.store.ledger import events, schema
from penstock.store.ledger.statements import clock_of, fields, upsert

Role = Literal["viewer", "editor", "releaser", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "editor", "releaser", "admin")  # each may what those before it may
TokenKind = Literal["signin", "session", "api"]
EVERY = ""  # as the pipeline of a grant: all of them, those to come too


class Grant(Record, frozen=True, kw_only=True):
    """What a person may do with a pipeline; "" stands for all."""

    pipeline: str
    role: Role


class Person(Record, frozen=True, kw_only=True):
    """Somebody who may sign in, until removed."""

    name: str
    made_at: datetime
    made_by: str
    grants: tuple[Grant, ...] = ()
    removed_at: datetime | None = None


class KeptToken(Record, frozen=True, kw_only=True):
    """A token as it is kept.

    Attributes:
        hash: SHA-256 of its secret.
        role: The most that it may, whatever its person may; None for no limit.
        used_at: When one that works once was used.
    """

    id: str
    kind: TokenKind
    person: str
    hash: str
    made_at: datetime
    role: Role | None = None
    expires_at: datetime | None = None
    used_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        """Whether it is neither revoked, nor used up, nor expired."""
        is_used_up = self.kind == "signin" and self.used_at is not None
        return self.revoked_at is None and not is_used_up and (self.expires_at is None or now < self.expires_at)


_P, _G, _T = schema.people, schema.grants, schema.tokens
_FIND = sa.select(_P).where(_P.c.name == sa.bindparam("of_name"))
_GRANTS = sa.select(_G).where(_G.c.person == sa.bindparam("of_name")).order_by(_G.c.pipeline)
_TOKEN = sa.select(_T).where(_T.c.id == sa.bindparam("of_id"))
_GRANT = upsert(_G, "role")
_TAKE = sa.delete(_G).where(_G.c.person == sa.bindparam("of_name"), _G.c.pipeline == sa.bindparam("of_pipeline"))
_REVOKE = (
    sa.update(_T)
    .where(_T.c.person == sa.bindparam("of_name"), _T.c.revoked_at.is_(None))
    .values(revoked_at=sa.bindparam("at"))
)
_USE = sa.update(_T).where(_T.c.id == sa.bindparam("of_id"), _T.c.used_at.is_(None)).values(used_at=sa.bindparam("at"))


def add(conn: sa.Connection, name: str, grant: Grant, *, by: str) -> Person:
    """Let somebody sign in, or give who is there already another role.

    Returns:
        The person as they stand then.

    Raises:
        InputError: They are the last admin of all pipelines, and would be one no more.
    """
    known = find(conn, name)
    if grant.pipeline == EVERY and grant.role != "admin":
        _refuse_last_admin(conn, name)
    if known is None:
        conn.execute(sa.insert(_P), {"name": name, "made_at": clock_of(conn).now(), "made_by": by})
    elif known.removed_at is not None:
        conn.execute(sa.update(_P).where(_P.c.name == name).values(removed_at=None))
    before = next((g.role for g in known.grants if g.pipeline == grant.pipeline), None) if known is not None else None
    conn.execute(_GRANT.on(conn), {"person": name, "pipeline": grant.pipeline, "role": grant.role})
    details = {"pipeline": grant.pipeline, "before": before, "after": grant.role}
    events.append(conn, actor=by, action="person.granted", target=name, details=details)
    return get(conn, name)


def take(conn: sa.Connection, name: str, pipeline: str, *, by: str) -> Person:
    """Take back what a person may do with a pipeline.

    Raises:
        NotFoundError: There is no such person, or they had no role there.
        InputError: They are the last admin of all pipelines.
    """
    person = get(conn, name)
    if pipeline == EVERY:
        _refuse_last_admin(conn, name)
    before = next((g.role for g in person.grants if g.pipeline == pipeline), None)
    if before is None:
        whose = f"pipeline {pipeline!r}" if pipeline else "all pipelines"
        raise NotFoundError(f"{name!r} has no role for {whose}.", hint="see penstock people")
    conn.execute(_TAKE, {"of_name": name, "of_pipeline": pipeline})
    details = {"pipeline": pipeline, "before": before, "after": None}
    events.append(conn, actor=by, action="person.granted", target=name, details=details)
    return get(conn, name)


def remove(conn: sa.Connection, name: str, *, by: str) -> Person:
    """Let somebody sign in no more: their sessions and tokens end at once; what they did stays under their name.

    Raises:
        NotFoundError: There is no such person.
        InputError: They are the last admin of all pipelines.
    """
    person = get(conn, name)
    _refuse_last_admin(conn, name)
    now = clock_of(conn).now()
    conn.execute(sa.delete(_G).where(_G.c.person == name))
    conn.execute(sa.update(_P).where(_P.c.name == name).values(removed_at=now))
    conn.execute(_REVOKE, {"of_name": name, "at": now})
    events.append(conn, actor=by, action="person.removed", target=name)
    return msgspec.structs.replace(person, grants=(), removed_at=now)


def _refuse_last_admin(conn: sa.Connection, name: str) -> None:
    admins = [one.name for one in everybody(conn) if Grant(pipeline=EVERY, role="admin") in one.grants]
    if admins == [name]:
        raise InputError(
            f"{name!r} is the last admin.", hint="make another one first: penstock people add NAME --role admin"
        )


def find(conn: sa.Connection, name: str) -> Person | None:
    """Return a person, one who was removed too; None when there never was one of that name."""
    row = conn.execute(_FIND, {"of_name": name}).mappings().one_or_none()
    if row is None:
        return None
    grants = [Grant(pipeline=one.pipeline, role=one.role) for one in conn.execute(_GRANTS, {"of_name": name})]
    return msgspec.convert({**fields(row), "grants": tuple(grants)}, Person, from_attributes=True)


def get(conn: sa.Connection, name: str) -> Person:
    """Return a person who may sign in.

    Raises:
        NotFoundError: There is none of that name.
    """
    found = find(conn, name)
    if found is None or found.removed_at is not None:
        raise NotFoundError(f"Nobody called {name!r} may sign in.", hint="see penstock people")
    return found


def everybody(conn: sa.Connection) -> list[Person]:
    """Return who may sign in, by name."""
    names = conn.execute(sa.select(_P.c.name).where(_P.c.removed_at.is_(None)).order_by(_P.c.name)).scalars()
    return [get(conn, name) for name in list(names)]


def put_token(
    conn: sa.Connection,
    token: Token,
    kind: TokenKind,
    person: str,
    *,
    expires_at: datetime | None,
    role: Role | None = None,
) -> KeptToken:
    """Keep a token of a person."""
    kept = KeptToken(
        id=token.id,
        kind=kind,
        person=person,
        hash=token.hash,
        made_at=clock_of(conn).now(),
        role=role,
        expires_at=expires_at,
    )
    conn.execute(sa.insert(_T), msgspec.structs.asdict(kept))
    return kept


def find_token(conn: sa.Connection, token_id: str) -> KeptToken | None:
    """Return a token by its id; None when there is none."""
    row = conn.execute(_TOKEN, {"of_id": token_id}).mappings().one_or_none()
    return None if row is None else msgspec.convert(fields(row), KeptToken)


def use_once(conn: sa.Connection, token_id: str) -> bool:
    """Use a token up; False where somebody was quicker."""
    return conn.execute(_USE, {"of_id": token_id, "at": clock_of(conn).now()}).rowcount == 1


def revoke(conn: sa.Connection, token_id: str, *, by: str) -> KeptToken:
    """Have a token refused from now on.

    Raises:
        NotFoundError: There is none of that id.
    """
    found = find_token(conn, token_id)
    if found is None:
        raise NotFoundError(f"There is no token {token_id!r}.", hint="see penstock people")
    now = clock_of(conn).now()
    conn.execute(sa.update(_T).where(_T.c.id == token_id, _T.c.revoked_at.is_(None)).values(revoked_at=now))
    if found.kind == "api":
        events.append(conn, actor=by, action="token.revoked", target=found.person, details={"token": token_id})
    return msgspec.structs.replace(found, revoked_at=found.revoked_at or now)


def tokens_of(conn: sa.Connection, person: str, kind: TokenKind) -> list[KeptToken]:
    """Return the tokens of a person that were not revoked, the newest first."""
    query = sa.select(_T).where(_T.c.person == person, _T.c.kind == kind, _T.c.revoked_at.is_(None))
    return [
        msgspec.convert(fields(row), KeptToken) for row in conn.execute(query.order_by(_T.c.made_at.desc())).mappings()
    ]
