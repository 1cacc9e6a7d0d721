"""Alerts from windows: read what was recorded, judge it, and record what came of it in one transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa
import structlog

from penstock.core import faults
from penstock.core.settings import Settings
from penstock.monitoring.findings import Finding, Window
from penstock.project.alerting.cases import Case, alert_of, case_of
from penstock.project.alerting.judging import Verdict, judge
from penstock.project.workspace import Workspace
from penstock.store.ledger import alerts, deliveries, events

_events = structlog.get_logger("penstock.alerts")
ACTOR = "worker"
# Windows that were recorded so long before the newest one followed are looked at again: a clock may have jumped back.
_MARGIN = timedelta(hours=1)


def follow(workspace: Workspace, pipeline: str, windows: Sequence[Window], now: datetime) -> None:
    """Open, refresh, join and resolve the alerts of a pipeline by its windows.

    Windows that the ledger has and that nobody followed, since whoever recorded them died, are followed too.

    Args:
        workspace: The project.
        pipeline: Whose windows these are.
        windows: What monitors found, recorded or not; told twice, nothing changes.
        now: UTC.

    Raises:
        StoreError: The store is away.
    """
    with workspace.ledger.read() as conn:
        mark = alerts.followed_to(conn, pipeline)
        is_news = any(mark is None or w.computed_at > mark for w in alerts.computed_since(conn, pipeline, mark))
    if not windows and not is_news:
        return
    policy = workspace.settings.policy(pipeline)
    with workspace.ledger.write() as conn:
        alerts.lock_alerts(conn)
        mark = alerts.followed_to(conn, pipeline)
        recorded = alerts.computed_since(conn, pipeline, None if mark is None else mark - _MARGIN)
        found = {(w.monitor, w.start): w for w in (*(_window(r) for r in recorded), *windows)}
        verdict = judge(opened(conn, pipeline, now), list(found.values()), budget=policy.alarm_budget)
        record(conn, verdict, channels_of(workspace.settings, pipeline))
        newest = max((r.computed_at for r in recorded), default=None)
        if newest is not None and newest != mark:
            alerts.set_followed(conn, pipeline, newest)
    faults.point("alert_after_commit")


def opened(conn: sa.Connection, pipeline: str, now: datetime) -> Verdict:
    """Return how the causes of a pipeline stand, to be judged."""
    cases = {case.key: case for case in (case_of(alert) for alert in alerts.standing(conn, pipeline))}
    return Verdict(pipeline, cases, now)


def record(conn: sa.Connection, verdict: Verdict, channels: list[str]) -> None:
    """Record what changed, and who has to hear of it."""
    now = [(case, verdict.told.get(key, [])) for key, case in verdict.cases.items() if verdict.before.get(key) != case]
    for case, told in (*verdict.past, *now):
        number = alerts.put(conn, alert_of(case))
        for event in told:
            deliveries.put(conn, number, event, channels=channels, at=verdict.now)
            _say(conn, number, case, event)


def channels_of(settings: Settings, pipeline: str) -> list[str]:
    """Return the names of the channels that policy speaks of; a rehearsal tells nobody."""
    if settings.is_replay:
        return []
    policy = settings.policy(pipeline).alerts
    said = {"webhook": policy.webhook, "slack": policy.slack, "email": policy.email and policy.smtp}
    return [name for name, value in said.items() if value]


def _say(conn: sa.Connection, number: int, case: Case, event: str) -> None:
    details = {"pipeline": case.pipeline, "kind": case.kind, "subject": case.subject, "event": event}
    verb = "resolved" if event.startswith("resolved") else "raised" if event.startswith("opened") else "joined"
    events.append(conn, actor=ACTOR, action=f"alert.{verb}", target=f"a{number}", details=details)
    _events.info(f"alert_{verb}", alert=f"a{number}", pipeline=case.pipeline, kind=case.kind, subject=case.subject)


def _window(recorded: alerts.Recorded) -> Window:
    return Window(
        monitor=recorded.monitor,
        start=recorded.start_at,
        end=recorded.end_at,
        rows=recorded.rows,
        release=recorded.release,
        findings=msgspec.convert(recorded.findings, tuple[Finding, ...]),
    )
