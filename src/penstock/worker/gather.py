"""The facts that decisions rest on, read from the ledger in one transaction.

Everything is read anew each time: a worker keeps no state. What was noticed is a fact too (a version, a window, a
release), so nobody who dies between noticing and deciding takes anything along.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from penstock.core.errors import DamagedError
from penstock.core.settings import LoopPolicy
from penstock.project.workspace import Workspace, read_manifest
from penstock.store.ledger import causes, releases, runs, triggers
from penstock.worker.decide import DAY, slot_key
from penstock.worker.state import WEIGHED, Kind, Noticed, Open, PipelineState, Rules, Spent, State, Worth

_events = structlog.get_logger("penstock.worker")
_RECENT = 300
TRIGGER_OF: dict[str, Kind] = {
    "data_drift": "drift",
    "prediction_drift": "drift",
    "quality": "quality",
    "slice_quality": "quality",
    "stale_model": "stale",
}


@dataclass(frozen=True, slots=True)
class Trained:
    """What a live release was trained on.

    Attributes:
        versions: Version number by dataset.
    """

    release: releases.Release
    versions: Mapping[str, int]


def rules_of(policy: LoopPolicy) -> Rules:
    """Return what a policy says to decisions."""
    limits = [policy.budget.cpu_s_per_day]
    if policy.budget.money_per_day is not None and policy.cost.cpu_hour:
        limits.append(policy.budget.money_per_day / policy.cost.cpu_hour * 3600)
    known = [limit for limit in limits if limit is not None]
    return Rules(
        schedule=policy.schedule,
        timezone=policy.timezone,
        catch_up=policy.catch_up,
        retrain_on=frozenset({*policy.retrain_on, "upstream"}),
        cooldown_s=policy.cooldown_s,
        quarantine_after=policy.quarantine_after,
        priority=policy.priority,
        cpu_s_per_day=min(known) if known else None,
        cpu_hour=policy.cost.cpu_hour,
        weighed=WEIGHED | {"schedule"} if policy.economics.slots else WEIGHED,
    )


def trained(names: Iterable[str], workspace: Workspace) -> dict[str, Trained]:
    """Return what the live release of each pipeline was trained on, where there is one that can be read."""
    with workspace.ledger.read() as conn:
        found = {name: releases.live(conn, name) for name in names}
    known = {name: release for name, release in found.items() if release is not None}
    return {name: read for name, release in known.items() if (read := _trained(release, workspace)) is not None}


def _trained(release: releases.Release, workspace: Workspace) -> Trained | None:
    try:
        manifest = read_manifest(release.manifest_digest, workspace)
    except DamagedError as error:  # of this pipeline only the schedule is followed; the others are not held up
        _events.error("release_damaged", release=str(release.ref), reason=error.message)
        return None
    return Trained(release, {name: dataset.version for name, dataset in manifest.datasets.items()})


def gather(
    conn: sa.Connection,
    workspace: Workspace,
    live: Mapping[str, Trained],
    now: datetime,
    *,
    names: Iterable[str],
    worth: Mapping[str, Worth] | None = None,
) -> tuple[State, tuple[Noticed, ...]]:
    """Return how everything stands, and what may be a reason to retrain.

    Args:
        conn: A transaction.
        workspace: The project.
        live: From `trained`.
        now: UTC.
        names: The pipelines that are kept fresh.
        worth: What is expected of a retrain, by pipeline, where it is known.
    """
    waiting = causes.open_causes(conn)
    found: dict[str, PipelineState] = {}
    noticed: list[Noticed] = []
    for name in names:
        policy = workspace.settings.policy(name)
        own = tuple(_open(c) for c in waiting if c.pipeline == name)
        state = _stand(conn, name, policy, live=live.get(name), now=now)
        found[name] = msgspec.structs.replace(state, open=own, worth=(worth or {}).get(name))
        noticed += [event for event in _noticed(conn, policy, found[name], live) if _is_new(conn, found[name], event)]
    return State(most=workspace.settings.retrains, pipelines=found), tuple(noticed)


def _stand(conn: sa.Connection, name: str, policy: LoopPolicy, *, live: Trained | None, now: datetime) -> PipelineState:
    recent = causes.page(conn, pipeline=name, limit=_RECENT)
    tried = causes.tried(conn, name)
    begun = [c for c in tried if c.run_id is not None]
    newest = max(begun, key=lambda c: c.run_id or 0, default=None)
    failed = _failed_in_a_row(conn, name, tried)
    usual = next((c.run_id for c in begun if c.figures.get("outcome") == "succeeded"), None)
    return PipelineState(
        name=name,
        rules=rules_of(policy),
        live=None if live is None else str(live.release.ref),
        live_since=None if live is None else _since(conn, live.release),
        schedule_since=_schedule_since(conn, name, policy),
        slots=tuple(datetime.fromisoformat(key) for key in causes.slots_around(conn, name, slot_key(now))),
        decided=frozenset((c.kind, c.key) for c in recent),
        began_at=None if newest is None else runs.get(conn, newest.run_id or 0).started_at,
        failures=len(failed),
        failed_at=failed[0].finished_at if failed else None,
        is_quarantined=is_quarantined(conn, name) is not None,
        spent=tuple(Spent(at=used.at, cpu_s=used.cpu_s) for used in triggers.used_since(conn, name, now - DAY)),
        usual_cpu_s=0.0 if usual is None else triggers.cpu_s(conn, usual),
    )


def _failed_in_a_row(conn: sa.Connection, name: str, tried: list[causes.Cause]) -> list[causes.Cause]:
    """Return the causes that failed since a run succeeded, whoever asked for that one; newest first."""
    good = triggers.last_released(conn, name)
    failed: list[causes.Cause] = []
    for cause in tried:
        if cause.figures.get("outcome") == "succeeded":
            break
        if cause.state == "failed" and (good is None or _is_later(cause, *good)):
            failed.append(cause)
    return failed


def _is_later(cause: causes.Cause, good_run: int, good_at: datetime) -> bool:
    if cause.run_id is not None:
        return cause.run_id > good_run
    return cause.finished_at is not None and cause.finished_at > good_at


def is_quarantined(conn: sa.Connection, name: str) -> causes.Cause | None:
    """Return the mark of a quarantine that lasts; None when there is none."""
    newest = causes.page(conn, pipeline=name, kinds=[causes.QUARANTINE], limit=1)
    return newest[0] if newest and newest[0].state == "running" else None


def _schedule_since(conn: sa.Connection, name: str, policy: LoopPolicy) -> datetime | None:
    newest = causes.page(conn, pipeline=name, kinds=[causes.SCHEDULED], limit=1)
    said = {"schedule": policy.schedule, "timezone": policy.timezone}
    return newest[0].decided_at if newest and newest[0].figures == said else None


def _since(conn: sa.Connection, release: releases.Release) -> datetime:
    return release.made_at if release.run_id is None else runs.get(conn, release.run_id).started_at


def _open(cause: causes.Cause) -> Open:
    return Open(
        pipeline=cause.pipeline,
        kind=cause.kind,  # type: ignore[arg-type]  # marks are left out of what is open
        key=cause.key,
        decided_at=cause.decided_at,
        id=cause.id,
        priority=cause.priority,
        state="running" if cause.state == "running" else "waiting",
        is_begun=cause.run_id is not None,
        lost=int(cause.figures.get("lost", 0)),
        held=str(cause.figures.get("held", {}).get("reason", "")),
    )


def _noticed(
    conn: sa.Connection, policy: LoopPolicy, state: PipelineState, live: Mapping[str, Trained]
) -> list[Noticed]:
    own = live.get(state.name)
    if own is None or state.live_since is None:  # who was never released is made by its schedule, or by a person
        return []
    return [
        *_new_data(conn, policy, state.name, own),
        *_alarms(conn, state.name, state.live_since, state.live or ""),
        *_upstream(policy, state.name, own, live),
    ]


def _is_new(conn: sa.Connection, state: PipelineState, event: Noticed) -> bool:
    """Return whether nothing was decided on it, however long ago."""
    if (event.kind, event.key) in state.decided:
        return False
    return causes.by_key(conn, event.pipeline, event.kind, event.key) is None


def _new_data(conn: sa.Connection, policy: LoopPolicy, name: str, own: Trained) -> list[Noticed]:
    looked = [triggers.grown(conn, name, dataset, version) for dataset, version in sorted(own.versions.items())]
    grown = [found for found in looked if found is not None]
    rows, intakes = sum(g.rows for g in grown), max((g.intakes for g in grown), default=0)
    if not grown or rows < policy.new_data.rows or intakes < policy.new_data.intakes:
        return []
    key = ",".join(f"{g.dataset}@{g.version}" for g in grown)
    came = "one intake" if intakes == 1 else f"{intakes} intakes"
    said = f"{rows} rows came in {came} since {own.release.ref}"
    figures = {"rows": rows, "intakes": intakes, "since": str(own.release.ref)}
    return [Noticed(pipeline=name, kind="new_data", key=key, said=said, figures=figures)]


def _alarms(conn: sa.Connection, name: str, since: datetime, release: str) -> list[Noticed]:
    found: dict[tuple[str, str], Noticed] = {}
    for window in triggers.alarmed(conn, name, since):
        for finding in window.findings:
            kind = TRIGGER_OF.get(str(finding.get("kind")))
            if kind is None or not finding.get("is_alarm"):
                continue
            key = release if kind == "stale" else f"{window.monitor}@{slot_key(window.start_at)}"
            figures: dict[str, Any] = {"subject": finding.get("subject"), "effect": finding.get("effect")}
            said = str(finding.get("said", ""))
            found.setdefault((kind, key), Noticed(pipeline=name, kind=kind, key=key, said=said, figures=figures))
    return list(found.values())


def _upstream(policy: LoopPolicy, name: str, own: Trained, live: Mapping[str, Trained]) -> list[Noticed]:
    newer = [
        live[up].release for up in policy.upstream if up in live and live[up].release.made_at > own.release.made_at
    ]
    return [
        Noticed(pipeline=name, kind="upstream", key=str(release.ref), said=f"{release.ref} was released")
        for release in newer
    ]
