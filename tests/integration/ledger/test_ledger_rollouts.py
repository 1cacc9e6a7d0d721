"""Rollouts as the ledger keeps them, on both databases: one at a time, lawful moves, each made once and audited."""

import threading

import pytest

from penstock.core.errors import InputError, NotFoundError, StoreError
from penstock.core.refs import ReleaseRef
from penstock.core.states import ROLLOUT_CHANGES, RolloutState, change_rollout
from penstock.store.ledger import Ledger, events, rollouts
from penstock.store.ledger.rollouts import NewRollout, Rollout

NEW = NewRollout(pipeline="movies", candidate=2, base=1, stages=("shadow", "10%", "100%"), hold_s=60.0)


def begun(ledger: Ledger, new: NewRollout = NEW) -> Rollout:
    with ledger.write() as conn:
        return rollouts.begin(conn, new, by="r1")


def test_a_rollout_is_kept_and_moved_with_an_event_for_each_move(ledger: Ledger) -> None:
    """G3: who moved what, from where to where and why, is in the audit chain."""
    first = begun(ledger)
    assert (first.state, first.stage_name, first.ref, first.base_ref) == (
        RolloutState.RUNNING,
        "shadow",
        ReleaseRef("movies", 2),
        ReleaseRef("movies", 1),
    )
    with ledger.write() as conn:
        second = rollouts.move(
            conn, first, RolloutState.RUNNING, by="guards", reason="well", stage=1, figures={"requests": 120}
        )
        rollouts.note(conn, second, {"requests": 130})
    with ledger.write() as conn:
        ended = rollouts.move(conn, second, RolloutState.ROLLED_BACK, by="ada", reason="wrong prices")
    assert (ended.stage_name, ended.figures, ended.is_open) == ("10%", {"requests": 130}, False)
    assert ended.finished_at is not None
    with ledger.read() as conn:
        assert rollouts.opened(conn, "movies") is None
        assert rollouts.page(conn, "movies") == [ended]
        moves = [(e.actor, e.action, e.details.get("reason")) for e in events.page(conn, target="movies@2")]
        assert events.verify(conn) == []
    assert moves == [
        ("ada", "rollout.moved", "wrong prices"),
        ("guards", "rollout.moved", "well"),
        ("r1", "rollout.started", None),
    ]


def test_a_newer_candidate_replaces_the_one_under_way(ledger: Ledger) -> None:
    """At most one candidate is on its way; the record says what became of the other."""
    first = begun(ledger)
    second = begun(ledger, NewRollout(pipeline="movies", candidate=3, base=1, stages=("50%", "100%"), hold_s=0.0))
    with ledger.read() as conn:
        assert rollouts.opened(conn, "movies") == second
        assert rollouts.get(conn, first.id).state is RolloutState.REPLACED
        assert rollouts.get(conn, first.id).reason == "movies@3 is the newer candidate"
    with pytest.raises(NotFoundError, match="There is no rollout 99"), ledger.read() as conn:
        rollouts.get(conn, 99)


def test_of_two_who_move_it_at_once_one_does(ledger: Ledger) -> None:
    """Several servers and ticks watch the same rollout: a stage is entered once."""
    first = begun(ledger)
    refused: list[InputError] = []

    def advance() -> None:
        try:
            with ledger.write() as conn:
                rollouts.move(conn, first, RolloutState.RUNNING, by="guards", reason="well", stage=1)
        except InputError as error:
            refused.append(error)

    threads = [threading.Thread(target=advance) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert "was moved by somebody else" in str(refused[0])
    with ledger.read() as conn:
        assert rollouts.get(conn, first.id).stage == 1
        assert len(events.page(conn, target="movies@2")) == 2


def test_approvals_are_waited_for(ledger: Ledger) -> None:
    """R6, Q33: the record says which roles have approved, who did and why, and which are waited for."""
    waits = begun(
        ledger,
        NewRollout(
            pipeline="movies", candidate=2, base=1, stages=("100%",), hold_s=0.0, approvals=("product", "legal")
        ),
    )
    assert (waits.state, waits.lacking) == (RolloutState.WAITING, ("legal", "product"))
    with ledger.write() as conn:
        half = rollouts.approve(conn, waits, "legal", by="grace", reason="read it")
    assert (half.state, half.lacking) == (RolloutState.WAITING, ("product",))
    with (
        pytest.raises(InputError, match=r"waits for no approval by 'boss'\. Hint: approvals asked for: legal, product"),
        ledger.write() as conn,
    ):
        rollouts.approve(conn, half, "boss", by="grace", reason="I say so")
    with ledger.write() as conn:
        whole = rollouts.approve(conn, half, "product", by="ada", reason="looks right")
    assert whole.lacking == ()
    given = whole.approvals["legal"]
    assert given is not None
    assert (given["by"], given["reason"]) == ("grace", "read it")


@pytest.mark.parametrize("ended", [RolloutState.DONE, RolloutState.ROLLED_BACK, RolloutState.REPLACED])
def test_what_has_ended_stays_ended(ended: RolloutState) -> None:
    """One table says which moves are lawful; none leaves an end."""
    assert ROLLOUT_CHANGES[ended] == frozenset()
    with pytest.raises(StoreError, match="cannot go from"):
        change_rollout(ended, RolloutState.RUNNING)
    assert change_rollout(RolloutState.WAITING, RolloutState.REPLACED) is RolloutState.REPLACED
    with pytest.raises(StoreError, match="cannot go from 'waiting' to 'paused'"):
        change_rollout(RolloutState.WAITING, RolloutState.PAUSED)
