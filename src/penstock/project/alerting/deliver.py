"""Telling people: sends what is due, tries again what failed, and gives up in the end, never holding up the loop.

One process at a time sends, under a lease. A message is marked before it goes out and after: whoever dies between
leaves it to be sent again with the same key. So each arrives at least once, and a receiver that minds keys has it once.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from msgspec.structs import replace

from penstock.core import faults
from penstock.core.errors import InputError, LeaseLostError
from penstock.core.process import this_process
from penstock.core.records import Record
from penstock.project.alerting.channels import Message, Target, UndeliveredError, send, target_of
from penstock.project.alerting.outbox import HOUR, MOST_TRIES, Batch, message_of, plan, wait_after
from penstock.project.workspace import Workspace
from penstock.store.ledger import alerts, deliveries, leases
from penstock.store.ledger.deliveries import Due

_events = structlog.get_logger("penstock.alerts")
LEASE = "deliver"
_LEASE_S = 120.0  # longer than one call takes; on its own host a dead holder is known at once
_MOST_DUE = 2000
_MOST_AT_ONCE = 16  # targets
_TICK = timedelta(microseconds=1)


class Limits(Record, frozen=True, kw_only=True):
    """How long sending may take.

    Attributes:
        send_s: One message.
        begin_s: After which no further message is begun; so a call takes `begin_s + send_s` at most.
    """

    send_s: float = 10.0
    begin_s: float = 10.0


class Delivered(Record, frozen=True, kw_only=True):
    """What one call of `deliver` did; a digest is one message.

    Attributes:
        sent: Messages that arrived.
        failed: Messages that are tried again.
        dead: Messages that are not.
        is_elsewhere: Another process sends at this moment.
    """

    sent: int = 0
    failed: int = 0
    dead: int = 0
    is_elsewhere: bool = False


def deliver(workspace: Workspace, now: datetime, *, limits: Limits | None = None) -> Delivered:
    """Send what is due; returns soon, whatever the receivers do.

    Args:
        workspace: The project; its policy says who hears of what.
        now: UTC.
        limits: How long it may take.

    Raises:
        StoreError: The store is away.
    """
    with workspace.ledger.read() as conn:
        if not deliveries.due(conn, now, limit=1):
            return Delivered()
    with workspace.ledger.write() as conn:
        token = leases.acquire(conn, LEASE, this_process(), _LEASE_S)
    if token is None:
        return Delivered(is_elsewhere=True)
    sending = _Sending(workspace, now, token, limits or Limits())
    try:
        sending.run()
    except LeaseLostError:  # this took so long that another process has taken it over
        _events.warning("delivery_taken_over")
    finally:
        with workspace.ledger.write(durable=False) as conn:
            leases.release(conn, LEASE, token)
    return Delivered(sent=sending.sent, failed=sending.failed, dead=sending.dead)


class _Sending:
    """One call of `deliver`."""

    def __init__(self, workspace: Workspace, now: datetime, token: int, limits: Limits) -> None:
        self._workspace, self._now, self._token, self._limits = workspace, now, token, limits
        self.sent, self.failed, self.dead = 0, 0, 0

    def run(self) -> None:
        """Send, each target's messages one after another and the targets beside each other."""
        with self._workspace.ledger.write() as conn:
            leases.check(conn, LEASE, self._token)
            due = deliveries.due(conn, self._now, limit=_MOST_DUE)
            recent = deliveries.sent_since(conn, self._now - HOUR)
            known = {number: alerts.get(conn, number) for number in {row.alert_id for row in due}}
            targets, homeless = self._targets(due, ((pipeline, channel) for pipeline, channel, _ in recent))
            deliveries.change(conn, [replace(row, state="dead", error=why) for row, why in homeless])
        self.dead += len(homeless)
        had: dict[Target, set[datetime]] = {}
        for pipeline, channel, at in recent:
            if (pipeline, channel) in targets:
                had.setdefault(targets[pipeline, channel], set()).add(at)
        batches = plan(due, targets, {target: len(times) for target, times in had.items()})
        taken = {row.next_at for row in due}
        self._send_all(batches, lambda batch: message_of(batch, known, self._workspace.clock.now()), taken)

    def _targets(
        self, due: Sequence[Due], others: Iterable[tuple[str, str]]
    ) -> tuple[dict[tuple[str, str], Target], list[tuple[Due, str]]]:
        found: dict[tuple[str, str], Target] = {}
        wrong: dict[tuple[str, str], str] = {}
        for pipeline, channel in {*((row.pipeline, row.channel) for row in due), *others}:
            try:
                found[pipeline, channel] = target_of(channel, self._workspace.settings.policy(pipeline).alerts)
            except InputError as error:
                wrong[pipeline, channel] = error.message
        said = ((row, wrong.get((row.pipeline, row.channel))) for row in due)
        return found, [(row, why) for row, why in said if why is not None]

    def _send_all(
        self, batches: Mapping[Target, list[Batch]], say: Callable[[Batch], Message], taken: set[datetime]
    ) -> None:
        clock, answers = self._workspace.clock, queue.SimpleQueue[tuple[Batch, UndeliveredError | None]]()
        ahead = {target: list(own) for target, own in batches.items()}
        under_way: dict[Target, tuple[Batch, float]] = {}
        begin_until_s = clock.monotonic_s() + self._limits.begin_s
        while True:
            now_s = clock.monotonic_s()
            for target in [t for t, (_, until_s) in under_way.items() if until_s <= now_s]:
                batch, _ = under_way.pop(target)
                # Its thread may still hang there; nothing hears what it has to say.
                self._settle(batch, UndeliveredError(f"no answer within {self._limits.send_s:g} s"))
                ahead.pop(target, None)
            idle = [t for t in ahead if t not in under_way and ahead[t]] if now_s < begin_until_s else []
            for target in idle[: _MOST_AT_ONCE - len(under_way)]:
                batch = self._claim(ahead[target].pop(0), taken)
                under_way[target] = (batch, now_s + self._limits.send_s)
                _begin(batch, say(batch), self._limits.send_s, answers)
            if not under_way:
                return
            try:
                batch, error = answers.get(timeout=max(min(u for _, u in under_way.values()) - now_s, 0.0))
            except queue.Empty:
                continue
            if under_way.get(batch.target, (None,))[0] is batch:
                del under_way[batch.target]
                self._settle(batch, error)
                if error is not None and not error.is_final:  # whoever is away or busy is not asked again at once
                    ahead.pop(batch.target, None)

    def _claim(self, batch: Batch, taken: set[datetime]) -> Batch:
        """Mark a batch as being sent, all its rows with one moment that no other batch has."""
        moment = batch.rows[0].next_at
        if not batch.is_tried:
            moment = self._now
            while moment in taken:
                moment += _TICK
            taken.add(moment)
        rows = tuple(replace(row, state="sending", tries=row.tries + 1, next_at=moment) for row in batch.rows)
        self._record(rows)
        faults.point("alert_before_send")
        return Batch(batch.target, rows, is_tried=True)

    def _settle(self, batch: Batch, error: UndeliveredError | None) -> None:
        faults.point("alert_after_send")
        first = batch.rows[0]
        if error is None:
            # When it was sent; one moment for all rows, so that a digest counts as one message.
            self._record([replace(row, state="sent", error="") for row in batch.rows])
            self.sent += 1
            return
        is_dead = error.is_final or first.tries >= MOST_TRIES
        waits = wait_after(first.tries, first.name, error.after_s)
        state: deliveries.State = "dead" if is_dead else "waiting"
        moment = first.next_at if is_dead else self._now + waits
        self._record([replace(row, state=state, error=error.reason, next_at=moment) for row in batch.rows])
        self.dead += is_dead
        self.failed += not is_dead
        told = _events.error if is_dead else _events.warning
        told(
            "alert_undeliverable" if is_dead else "alert_not_delivered",
            channel=batch.target.channel,
            messages=len(batch.rows),
            first=first.name,
            tries=first.tries,
            reason=error.reason,
        )

    def _record(self, rows: Sequence[Due]) -> None:
        with self._workspace.ledger.write() as conn:
            leases.check(conn, LEASE, self._token)
            deliveries.change(conn, rows)


def _begin(
    batch: Batch,
    message: Message,
    timeout_s: float,
    answers: "queue.SimpleQueue[tuple[Batch, UndeliveredError | None]]",
) -> None:
    """Send in a thread of its own: a receiver that answers a byte a second outlasts every timeout of a socket."""

    def call() -> None:
        error: UndeliveredError | None = None
        try:
            send(batch.target, message, timeout_s)
        except UndeliveredError as found:
            error = found
        except Exception as found:  # noqa: BLE001  # a receiver's answer must not end the thread unheard
            error = UndeliveredError(f"sending failed: {type(found).__name__}")
        answers.put((batch, error))

    threading.Thread(target=call, name="penstock-deliver", daemon=True).start()
