"""What the answers rest on, read from the ledger in one transaction, and the evidence of the live release."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from penstock.core.errors import ArtifactError, DamagedError, InputError
from penstock.core.lazy import import_quickly
from penstock.core.settings import LoopPolicy
from penstock.project.showing import RunShown, show_run
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.manifest import Manifest
from penstock.store.ledger import (
    alerts,
    causes,
    deliveries,
    events,
    evidence,
    recent,
    releases,
    rollouts,
    runs,
    triggers,
    windows,
)
from penstock.store.ledger.alerts import Alert
from penstock.store.ledger.causes import Cause
from penstock.store.ledger.events import Event
from penstock.store.ledger.evidence import Evidence
from penstock.store.ledger.releases import Release
from penstock.store.ledger.rollouts import Rollout
from penstock.store.ledger.runs import Run
from penstock.store.ledger.windows import KeptWindow

MONTH = timedelta(days=30)
_CAUSES, _RUNS, _RELEASES, _EVENTS = 100, 100, 6, 20
_ALERTS = 100
_FEW, _MANY = 8, 60
INTAKE = "intake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """How a pipeline stands, as recorded.

    Attributes:
        release: The live one.
        manifest: Of the live release; None without one, or where it is damaged.
        damage: Why the release cannot be read; "" where it can.
        made_in: The run that made it, with its evidence; None for an imported one.
        intakes: Newest version of each dataset.
        grown: What came to the datasets since those that the live release was trained on.
        runs: The newest first; `intake` is the newest of the datasets alone.
        causes: Decided lately, newest first.
        tally: What became of what was decided in the last thirty days.
        windows: Newest first, by monitor.
        times: By monitor of a serve function, (p50, p99) in milliseconds in its newest window with answers.
        alerts: Open ones.
        judged: (real, noise) by kind and monitor of alerts.
        dead: Messages that nobody could be sent.
        used: What runs used in the last thirty days.
        releases: The newest first.
        events: About the pipeline, newest first.
        rollout: The newest one.
        load: The newest load test of the live release.
        drill: Its newest drill.
    """

    pipeline: str
    now: datetime
    policy: LoopPolicy
    release: Release | None
    live: recent.Live | None
    manifest: Manifest | None
    damage: str
    made_in: RunShown | None
    intakes: list[recent.Intake]
    grown: list[triggers.Grown]
    runs: list[Run]
    intake: Run | None
    causes: list[Cause]
    tally: list[recent.Tally]
    quarantine: Cause | None
    windows: dict[str, list[KeptWindow]]
    times: dict[str, tuple[float, float]]
    alerts: list[Alert]
    judged: dict[tuple[str, str], tuple[int, int]]
    dead: int
    used: list[triggers.Used]
    releases: list[Release]
    events: list[Event]
    rollout: Rollout | None
    load: Evidence | None = None
    drill: Evidence | None = None

    def of(self, prefix: str) -> dict[str, list[KeptWindow]]:
        """Return the windows of monitors whose name begins so."""
        return {name: seen for name, seen in self.windows.items() if name.startswith(prefix)}


def read_facts(workspace: Workspace, pipeline: str, now: datetime) -> Facts:
    """Return how a pipeline stands.

    Raises:
        StoreError: The store cannot be read.
    """
    since = now - MONTH
    with workspace.ledger.read() as conn:
        release = releases.live(conn, pipeline)
        seen = _windows(conn, pipeline)
        newest = runs.page(conn, pipeline=pipeline, limit=_RUNS)
        marks = causes.page(conn, pipeline=pipeline, kinds=[causes.QUARANTINE], limit=1)
        recorded = {
            "live": recent.live(conn, pipeline),
            "intakes": recent.intakes(conn, pipeline),
            "runs": newest,
            "intake": next((run for run in newest if run.cause == INTAKE), None),
            "causes": causes.page(conn, pipeline=pipeline, limit=_CAUSES),
            "tally": recent.tally(conn, pipeline, since),
            "quarantine": marks[0] if marks and marks[0].state == "running" else None,
            "alerts": alerts.page(conn, pipeline=pipeline, is_open=True, limit=_ALERTS),
            "judged": alerts.disposed(conn, pipeline),
            "dead": sum(one.pipeline == pipeline for one in deliveries.dead(conn)),
            "used": triggers.used_since(conn, pipeline, since),
            "releases": releases.of_pipeline(conn, pipeline)[:_RELEASES],
            "events": events.page(conn, target=pipeline, limit=_EVENTS),
            "rollout": next(iter(rollouts.page(conn, pipeline, most=1)), None),
            "load": None if release is None else evidence.newest(conn, pipeline, "load", str(release.ref)),
            "drill": None if release is None else evidence.newest(conn, pipeline, "drill", str(release.ref)),
        }
    manifest, damage, made_in = _evidence(workspace, release)
    grown = _grown(workspace, pipeline, manifest)
    return Facts(
        pipeline=pipeline,
        now=now,
        policy=workspace.settings.policy(pipeline),
        release=release,
        manifest=manifest,
        damage=damage,
        made_in=made_in,
        grown=grown,
        windows=seen,
        times=_times(workspace, seen),
        **recorded,  # type: ignore[arg-type]  # each is what its query returns
    )


def _windows(conn: sa.Connection, pipeline: str) -> dict[str, list[KeptWindow]]:
    found = {}
    for monitor in sorted(windows.marks(conn, pipeline)):
        many = monitor.startswith(("service:", "quality:"))  # these are summed up, of the others the newest count
        found[monitor] = windows.page(conn, pipeline, monitor, limit=_MANY if many else _FEW)[::-1]
    return found


def _times(workspace: Workspace, seen: dict[str, list[KeptWindow]]) -> dict[str, tuple[float, float]]:
    newest = {name: next((w for w in found if w.rows and w.profile), None) for name, found in seen.items()}
    digests = {name: w.profile for name, w in newest.items() if w is not None and name.startswith("service:")}
    if not digests:
        return {}
    # Numbers of profiles need numpy and polars, which take as long to load as all else here.
    profiles = import_quickly("penstock.monitoring.profiles.profile")
    numbers = import_quickly("penstock.monitoring.profiles.numbers")
    found: dict[str, tuple[float, float]] = {}
    for name, digest in digests.items():
        try:
            column = profiles.decode_profile(workspace.blobs.read(digest or "")).columns.get("answer_ms")
        except (ArtifactError, InputError):  # damaged or of another version: then the times are not known
            continue
        if column is not None and column.numbers is not None and column.numbers.count:
            p50, p99 = numbers.quantiles(column.numbers, [0.5, 0.99])
            found[name] = (float(p50), float(p99))
    return found


def _evidence(workspace: Workspace, release: releases.Release | None) -> tuple[Manifest | None, str, RunShown | None]:
    if release is None:
        return None, "", None
    try:
        manifest = read_manifest(release.manifest_digest, workspace)
        made_in = None if release.run_id is None else show_run(release.run_id, workspace)
    except DamagedError as error:
        return None, error.message, None
    return manifest, "", made_in


def _grown(workspace: Workspace, pipeline: str, manifest: Manifest | None) -> list[triggers.Grown]:
    if manifest is None:
        return []
    trained = {name: dataset.version for name, dataset in sorted(manifest.datasets.items())}
    with workspace.ledger.read() as conn:
        looked = [triggers.grown(conn, pipeline, name, version) for name, version in trained.items()]
    return [found for found in looked if found is not None]
