"""One look of all monitors at one pipeline, recorded: each monitor's windows in one transaction, then the alerts."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import msgspec
import polars as pl
import structlog

from penstock.core import faults
from penstock.core.errors import DataError, PenstockError, StoreError
from penstock.engine.stopping import CancelledRunError
from penstock.monitoring.findings import Finding, Window
from penstock.monitoring.profiles.profile import encode_profile
from penstock.project.alerting import follow
from penstock.project.watching import answers, data, equality, freshness, truth
from penstock.project.watching.look import Look, Measured
from penstock.project.workspace import Workspace, read_manifest
from penstock.store.ledger import releases, windows

_events = structlog.get_logger("penstock.watching")
Measure = Callable[[Look], Iterator[Measured]]
# Each measures what is not recorded yet, or changed since; those that come first do not depend on the later ones.
MONITORS: dict[str, Measure] = {
    "data": data.measure,
    "answers": answers.measure,
    "freshness": freshness.measure,
    "truth": truth.measure,
    "equality": equality.measure,
}


def watch(
    workspace: Workspace, pipeline: str, now: datetime, monitors: Mapping[str, Measure] = MONITORS
) -> list[Finding]:
    """Let every monitor look at what has come since it last looked, record it, and raise or resolve alerts.

    Args:
        workspace: The project.
        pipeline: Which pipeline.
        now: UTC; only windows that have ended by then are looked at.
        monitors: Which of them look, by kind.

    Returns:
        What was found in the windows computed here.

    Raises:
        StoreError: The store is away; nothing that was recorded is lost.
        CancelledRunError: This process was asked to stop.
        PenstockError: Some monitors could not look; the others did.
    """
    found: list[Window] = []
    failures: list[PenstockError] = []
    for name, measure in monitors.items():
        look = look_at(workspace, pipeline, now)  # anew each time: a monitor may rest on what another one recorded
        if look.manifest is None:
            return []
        try:
            found += _record(look, list(measure(look)))
        except (StoreError, CancelledRunError):
            raise
        except PenstockError as error:
            failures.append(error)
        except pl.exceptions.PolarsError as error:
            said = f"Monitors of kind {name!r} of {pipeline!r} could not read their rows: {error}"
            failures.append(DataError(said, hint="penstock doctor looks for damage"))
    follow(workspace, pipeline, found, now)
    _tell(pipeline, failures)
    return [finding for window in found for finding in window.findings]


def look_at(workspace: Workspace, pipeline: str, now: datetime) -> Look:
    """Return what monitors need to know of a pipeline at this moment.

    Raises:
        DamagedError: The manifest of its live release is damaged.
    """
    with workspace.ledger.read() as conn:
        live = releases.live(conn, pipeline)
        marks = windows.marks(conn, pipeline)
    return Look(
        workspace=workspace,
        pipeline=pipeline,
        policy=workspace.settings.policy(pipeline),
        now=now,
        release=live,
        manifest=None if live is None else read_manifest(live.manifest_digest, workspace),
        marks=marks,
    )


def _record(look: Look, measured: list[Measured]) -> list[Window]:
    if not measured:
        return []
    rows = [_row(look, one) for one in measured]
    faults.point("windows_before_commit")
    with look.workspace.ledger.write() as conn:
        windows.put(conn, look.pipeline, rows)
    faults.point("windows_after_commit")
    return [one.window for one in measured]


def _row(look: Look, one: Measured) -> windows.NewWindow:
    window = one.window
    digest = None if one.profile is None else look.workspace.blobs.put(encode_profile(one.profile))
    return windows.NewWindow(
        monitor=window.monitor,
        start_at=window.start,
        end_at=window.end,
        rows=window.rows,
        release=window.release,
        findings=msgspec.to_builtins(list(window.findings)),
        profile=digest,
        basis=one.basis,
    )


def _tell(pipeline: str, failures: list[PenstockError]) -> None:
    for error in failures:
        _events.warning("monitor_failed", pipeline=pipeline, reason=error.message)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        said = " ".join(error.message for error in failures)
        raise PenstockError(f"{len(failures)} monitors of {pipeline!r} could not look: {said}", hint=failures[0].hint)
