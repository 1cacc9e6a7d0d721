"""Load tests and drills as evidence of a release: kept and read back."""

import msgspec

from penstock.project.capacity.records import Drill, Load, load_of
from penstock.project.moving import person
from penstock.project.workspace import Workspace
from penstock.store.ledger import evidence
from penstock.store.ledger.evidence import Evidence, Kind, NewEvidence


def keep(kind: Kind, shown: "Load | Drill", pipeline: str, workspace: Workspace) -> Evidence:
    """Keep what was measured or shown of a release.

    Args:
        kind: What it is.
        shown: A record, kept as plain JSON.
        pipeline: Its pipeline.
        workspace: The project.
    """
    new = NewEvidence(
        pipeline=pipeline,
        subject=shown.release,
        kind=kind,
        by=person(),
        passed=shown.passed,
        figures=msgspec.to_builtins(shown, str_keys=True),
    )
    with workspace.ledger.write() as conn:
        return evidence.add(conn, new)


def newest_load(release: str, pipeline: str, workspace: Workspace) -> Load | None:
    """Return the newest load test of a release; None without one."""
    with workspace.ledger.read() as conn:
        found = evidence.newest(conn, pipeline, "load", release)
    return None if found is None else load_of(found.figures)
