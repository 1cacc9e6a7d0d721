"""Which messages go out together, and what they say: one alert, or a digest of many. Pure.

What was tried together is tried together again, under the same key; what is new and comes in numbers is one digest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

import msgspec

from penstock.core.digest import digest_value
from penstock.project.alerting.cases import Found
from penstock.project.alerting.channels import Message, Target
from penstock.project.alerting.words import Summary, headline, lines, summary
from penstock.store.ledger.alerts import Alert
from penstock.store.ledger.deliveries import Delivery, Due

ALONE = 3  # so many new messages for one target go out one by one; more are a digest
MOST_PER_HOUR = 20  # messages to one target; what is more waits, and is then a digest
MOST_TRIES = 12
_FIRST_WAIT_S, _LONGEST_WAIT_S = 30.0, 3600.0
_MOST_LISTED = 50
_JITTER = 0.25
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages that go out as one."""

    target: Target
    rows: tuple[Due, ...]
    is_tried: bool


def plan(
    due: Sequence[Due], targets: Mapping[tuple[str, str], Target], sent: Mapping[Target, int]
) -> dict[Target, list[Batch]]:
    """Return what goes out now, in order, by target.

    Args:
        due: What is due, oldest first.
        targets: By pipeline and channel; rows without one are left out.
        sent: Messages that each target had in the last hour.
    """
    found: dict[Target, list[Batch]] = {}
    for target in dict.fromkeys(targets.values()):
        own = [row for row in due if targets.get((row.pipeline, row.channel)) == target]
        tried = sorted((row for row in own if row.tries > 0), key=lambda row: row.next_at)
        batches = [Batch(target, tuple(rows), is_tried=True) for _, rows in groupby(tried, key=lambda r: r.next_at)]
        new = tuple(row for row in own if row.tries == 0)
        allowed = MOST_PER_HOUR - sent.get(target, 0)
        if len(new) <= min(ALONE, allowed):
            batches += [Batch(target, (row,), is_tried=False) for row in new]
        elif allowed > 0:
            batches.append(Batch(target, new, is_tried=False))
        if batches:
            found[target] = batches
    return found


def wait_after(tries: int, key: str, asked_s: float = 0.0) -> timedelta:
    """Return how long to wait after a failed try: twice as long each time up to an hour, spread by a quarter.

    The spread comes from the key, so that many messages do not return at once and the same one is predictable.
    """
    wait_s = min(_FIRST_WAIT_S * 2.0 ** (tries - 1), _LONGEST_WAIT_S)
    spread = int(digest_value([key, tries])[:8], 16) / 0xFFFFFFFF
    spread_s = wait_s * (1 + _JITTER * (2 * spread - 1))
    return timedelta(seconds=max(spread_s, min(asked_s, _LONGEST_WAIT_S)))


def key_of(row: Delivery, alert: Alert) -> str:
    """Return what makes a message this one, over all stores."""
    said = [alert.pipeline, row.alert_id, row.event, row.channel, alert.raised_at.isoformat()]
    return f"pst-{digest_value(said)[:32]}"


def message_of(batch: Batch, known: Mapping[int, Alert], now: datetime) -> Message:
    """Return what a batch says."""
    keys = {row: key_of(row, known[row.alert_id]) for row in batch.rows}
    if len(batch.rows) == 1:
        row = batch.rows[0]
        alert, said = known[row.alert_id], _summary(known[row.alert_id])
        event = _event(row)
        return Message(
            key=keys[row],
            thread=_thread(alert),
            kind=f"alert.{event}",
            title=_title(alert, event),
            text="\n".join(lines(said)),
            at=alert.resolved_at or alert.raised_at,
            sent_at=now,
            data={"event": event, **msgspec.to_builtins(said)},
        )
    return _digest(batch, known, keys, now)


def _digest(batch: Batch, known: Mapping[int, Alert], keys: Mapping[Due, str], now: datetime) -> Message:
    key = f"pst-{digest_value(sorted(keys.values()))[:32]}"
    ordered = sorted(batch.rows, key=lambda row: (_event(row) == "resolved", -row.alert_id, row.event))
    opened = sum(_event(row) == "opened" for row in ordered)
    resolved = sum(_event(row) == "resolved" for row in ordered)
    pipelines = sorted({row.pipeline for row in ordered})
    whose = pipelines[0] if len(pipelines) == 1 else f"{len(pipelines)} pipelines"
    listed = ordered[:_MOST_LISTED]
    text = [f"a{row.alert_id} {_title(known[row.alert_id], _event(row))}" for row in listed]
    left = len(ordered) - len(listed)
    text += [f"and {left} more"] if left else []
    said = [
        {"key": keys[row], "event": _event(row), **msgspec.to_builtins(_summary(known[row.alert_id]))} for row in listed
    ]
    return Message(
        key=key,
        thread=key,
        kind="alerts.digest",
        title=f"{whose}: {opened} alerts opened, {resolved} resolved",
        text="\n".join([*text, "next:      penstock alerts"]),
        at=max(known[row.alert_id].seen_at for row in ordered),
        sent_at=now,
        data={"opened": opened, "resolved": resolved, "left_out": left, "keys": sorted(keys.values()), "alerts": said},
    )


def _event(row: Delivery) -> str:
    return row.event.partition("#")[0].partition(":")[0]


def _title(alert: Alert, event: str) -> str:
    found = msgspec.convert(alert.finding, Found)
    # As it was when this happened: what was opened may be resolved by the time it is told.
    shown = msgspec.structs.replace(alert, state="resolved" if event == "resolved" else "open")
    return headline(shown, found)


def _thread(alert: Alert) -> str:
    return f"pst-{digest_value([alert.pipeline, alert.id, alert.raised_at.isoformat()])[:32]}"


def _summary(alert: Alert) -> Summary:
    found = msgspec.convert(alert.finding, Found)
    return summary(alert, found, [f"{one['at']} {one['what']}: {one.get('said', '')}" for one in alert.actions])
