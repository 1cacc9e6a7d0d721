"""Load tests and drills as evidence of a release: kept, read back, and which of them a promotion still lacks."""

from collections.abc import Mapping, Sequence

import msgspec
import sqlalchemy as sa

from penstock.core.records import Record
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


class Missing(Record, frozen=True, kw_only=True):
    """Evidence that a release must have before it may be promoted, and has not.

    Attributes:
        said: Why it does not count, in a sentence.
        hint: The command that brings it.
    """

    kind: Kind
    said: str
    hint: str


_BRINGS: dict[Kind, str] = {"replay": "penstock replay", "load": "penstock load", "drill": "penstock drill"}


def missing_evidence(
    release: str, require: Sequence[Kind], found: Mapping[Kind, Evidence | None]
) -> tuple[Missing, ...]:
    """Return which of the evidence that policy requires a release lacks: none at all, or the newest did not pass.

    Args:
        release: "movies@3".
        require: What policy asks for.
        found: The newest evidence of each kind on the release.
    """
    missing = []
    for kind in require:
        newest = found.get(kind)
        if newest is not None and newest.passed and newest.subject == release:
            continue
        none = newest is None or newest.subject != release
        said = f"{release} has no {kind} evidence" if none else f"the newest {kind} of {release} did not pass"
        command = _BRINGS.get(kind)
        hint = "" if command is None else f"{command} {release}"
        missing.append(Missing(kind=kind, said=said, hint=hint))
    return tuple(missing)


def required_evidence(release: str, pipeline: str, workspace: Workspace) -> tuple[Missing, ...]:
    """Return what a release lacks of the evidence that policy requires before it may be promoted."""
    with workspace.ledger.read() as conn:
        return lacking_evidence(conn, release, pipeline, workspace.settings.policy(pipeline).require)


def lacking_evidence(conn: sa.Connection, release: str, pipeline: str, require: Sequence[Kind]) -> tuple[Missing, ...]:
    """Return what a release lacks of the evidence that is required of it, as it stands in a transaction."""
    found: dict[Kind, Evidence | None] = {kind: evidence.newest(conn, pipeline, kind, release) for kind in require}
    return missing_evidence(release, require, found)


def newest_load(release: str, pipeline: str, workspace: Workspace) -> Load | None:
    """Return the newest load test of a release; None without one."""
    with workspace.ledger.read() as conn:
        found = evidence.newest(conn, pipeline, "load", release)
    return None if found is None else load_of(found.figures)
