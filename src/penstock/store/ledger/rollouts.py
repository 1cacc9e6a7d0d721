"""Rollouts: a candidate on its way to the users of a pipeline, at most one at a time; every move is an event.

Belongs here: the rows, and that a move is lawful and made once. When a move is due: `releases.rollout`.
"""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.refs import ReleaseRef
from penstock.core.states import RolloutState, change_rollout
from penstock.store.ledger import events, schema
from penstock.store.ledger.statements import clock_of, fields, lock

OPEN = frozenset({RolloutState.WAITING, RolloutState.RUNNING, RolloutState.PAUSED})


class NewRollout(Record, frozen=True, kw_only=True):
    """A rollout that is to begin.

    Attributes:
        candidate: Version of the release that is to go live.
        base: Version of the live release.
        stages: As policy says them, the last is "100%".
        hold_s: Least time in each stage, in seconds.
        approvals: Roles that have to approve before it runs.
        waits: It waits for something else as well.
    """

    pipeline: str
    candidate: int
    base: int
    stages: tuple[str, ...]
    hold_s: float
    approvals: tuple[str, ...] = ()
    waits: bool = False


class Rollout(Record, frozen=True, kw_only=True):
    """A rollout as recorded.

    Attributes:
        stage: Index of the stage it is at.
        entered_at: When it came to the stage, or went on after a pause.
        approvals: Who approved by role; None for a role that has not.
        reason: Why it is in its state, in words.
        figures: What was found when it was last moved or looked at, as plain JSON.
    """

    id: int
    pipeline: str
    candidate: int
    base: int | None
    state: RolloutState
    stages: tuple[str, ...]
    stage: int
    hold_s: float
    started_at: datetime
    entered_at: datetime
    finished_at: datetime | None
    approvals: dict[str, dict[str, Any] | None] = {}
    reason: str = ""
    figures: dict[str, Any] = {}

    @property
    def ref(self) -> ReleaseRef:
        """The candidate."""
        return ReleaseRef(self.pipeline, self.candidate)

    @property
    def base_ref(self) -> ReleaseRef | None:
        """The release that was live when it began."""
        return None if self.base is None else ReleaseRef(self.pipeline, self.base)

    @property
    def stage_name(self) -> str:
        """The stage it is at, "10%"."""
        return self.stages[self.stage]

    @property
    def is_open(self) -> bool:
        """Whether it is under way."""
        return self.state in OPEN

    @property
    def lacking(self) -> tuple[str, ...]:
        """Roles whose approval it waits for."""
        return tuple(role for role, given in self.approvals.items() if given is None)


_T = schema.rollouts
_ADD = sa.insert(_T)
_BY_ID = sa.select(_T).where(_T.c.id == sa.bindparam("of_id"))
_OPEN = sa.select(_T).where(_T.c.open_key == sa.bindparam("of_pipeline"))
_NEWEST = sa.select(_T).order_by(_T.c.id.desc()).limit(sa.bindparam("most"))
_NEWEST_OF = _NEWEST.where(_T.c.pipeline == sa.bindparam("of_pipeline"))
_MOVE = sa.update(_T).where(_T.c.id == sa.bindparam("of_id"))


def begin(conn: sa.Connection, new: NewRollout, *, by: str) -> Rollout:
    """Begin a rollout; one that is under way is replaced by it.

    Args:
        conn: A writing transaction.
        new: What is to go live, and how.
        by: Who says so, for the record.
    """
    lock(conn, f"rollouts/{new.pipeline}")
    before = opened(conn, new.pipeline)
    if before is not None:
        newer = ReleaseRef(new.pipeline, new.candidate)
        move(conn, before, RolloutState.REPLACED, by=by, reason=f"{newer} is the newer candidate")
    now = clock_of(conn).now()
    state = RolloutState.WAITING if new.approvals or new.waits else RolloutState.RUNNING
    values: dict[str, Any] = {
        "pipeline": new.pipeline,
        "candidate": new.candidate,
        "base": new.base,
        "open_key": new.pipeline,
        "state": state.value,
        "stages": new.stages,
        "stage": 0,
        "hold_s": new.hold_s,
        "started_at": now,
        "entered_at": now,
        "finished_at": None,
        "approvals": dict.fromkeys(new.approvals),
        "reason": "",
        "figures": {},
    }
    key = conn.execute(_ADD, values).inserted_primary_key
    made = get(conn, int(key[0]) if key is not None else 0)
    details = {"base": str(made.base_ref), "stages": list(new.stages), "state": state.value}
    events.append(conn, actor=by, action="rollout.started", target=str(made.ref), details=details)
    return made


def get(conn: sa.Connection, number: int) -> Rollout:
    """Return a rollout.

    Raises:
        NotFoundError: There is none of that number.
    """
    row = conn.execute(_BY_ID, {"of_id": number}).mappings().one_or_none()
    if row is None:
        raise NotFoundError(f"There is no rollout {number}.", hint="see `penstock rollouts`")
    return _rollout(row)


def opened(conn: sa.Connection, pipeline: str) -> Rollout | None:
    """Return the rollout of a pipeline that is under way, None when none is."""
    row = conn.execute(_OPEN, {"of_pipeline": pipeline}).mappings().one_or_none()
    return None if row is None else _rollout(row)


def page(conn: sa.Connection, pipeline: str | None = None, *, most: int = 20) -> list[Rollout]:
    """Return the newest rollouts of a pipeline, or of all, newest first."""
    names: dict[str, Any] = {"most": most}
    found = (
        conn.execute(_NEWEST, names)
        if pipeline is None
        else conn.execute(_NEWEST_OF, names | {"of_pipeline": pipeline})
    )
    return [_rollout(row) for row in found.mappings()]


def move(  # noqa: PLR0913 - what a move is recorded with
    conn: sa.Connection,
    rollout: Rollout,
    state: RolloutState,
    *,
    by: str,
    reason: str,
    stage: int | None = None,
    stages: tuple[str, ...] | None = None,
    figures: dict[str, Any] | None = None,
) -> Rollout:
    """Move a rollout on, as whoever decided has seen it; the audit chain has the move.

    Args:
        conn: A writing transaction.
        rollout: As it was when the move was decided.
        state: Where it goes.
        by: Who decided, for the record.
        reason: Why, in words.
        stage: The stage it goes to; None where it stays.
        stages: The stages from now on, where a person changes them.
        figures: What was found; None keeps what stands.

    Raises:
        InputError: Somebody else has moved it meanwhile.
        StoreError: The move is not lawful.
    """
    lock(conn, f"rollouts/{rollout.pipeline}")
    now = get(conn, rollout.id)
    if (now.state, now.stage, now.stages) != (rollout.state, rollout.stage, rollout.stages):
        raise InputError(
            f"The rollout of {rollout.ref} was moved by somebody else.", hint=f"see `penstock rollouts {now.pipeline}`"
        )
    change_rollout(now.state, state)
    at, is_open = clock_of(conn).now(), state in OPEN
    values: dict[str, Any] = {
        "state": state.value,
        "stage": now.stage if stage is None else stage,
        "stages": now.stages if stages is None else stages,
        "entered_at": now.entered_at if state is RolloutState.PAUSED or not is_open else at,
        "finished_at": None if is_open else at,
        "open_key": now.pipeline if is_open else None,
        "reason": reason,
        "figures": now.figures if figures is None else figures,
    }
    conn.execute(_MOVE, {"of_id": now.id, **values})
    moved = get(conn, now.id)
    details = {
        "before": f"{now.state.value} at {now.stage_name}",
        "after": f"{moved.state.value} at {moved.stage_name}",
        "reason": reason,
    }
    events.append(conn, actor=by, action="rollout.moved", target=str(now.ref), details=details)
    return moved


def note(conn: sa.Connection, rollout: Rollout, figures: dict[str, Any]) -> None:
    """Keep what the last look found; not a move, and not in the audit chain."""
    conn.execute(_MOVE, {"of_id": rollout.id, "figures": figures})


def approve(conn: sa.Connection, rollout: Rollout, role: str, *, by: str, reason: str) -> Rollout:
    """Record that a role approves.

    Raises:
        InputError: The rollout waits for no such role.
    """
    lock(conn, f"rollouts/{rollout.pipeline}")
    now = get(conn, rollout.id)
    if role not in now.approvals:
        asked = ", ".join(now.approvals) or "none"
        raise InputError(f"{now.ref} waits for no approval by {role!r}.", hint=f"approvals asked for: {asked}")
    given = {"by": by, "at": clock_of(conn).now().isoformat(), "reason": reason}
    conn.execute(_MOVE, {"of_id": now.id, "approvals": now.approvals | {role: given}})
    events.append(
        conn, actor=by, action="rollout.approved", target=str(now.ref), details={"role": role, "reason": reason}
    )
    return get(conn, now.id)


def _rollout(row: sa.RowMapping) -> Rollout:
    known = {name: value for name, value in fields(row).items() if name != "open_key"}
    return msgspec.convert(known, Rollout)
