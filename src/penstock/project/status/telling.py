"""The whole status of a pipeline, and which pipelines there are."""

from datetime import datetime

from penstock.core.errors import NotFoundError
from penstock.pipeline.params import near_miss
from penstock.project.status.changed import changed
from penstock.project.status.facts import read_facts
from penstock.project.status.fresh import fresh
from penstock.project.status.healthy import healthy
from penstock.project.status.load import load
from penstock.project.status.pays import pays
from penstock.project.status.records import Due, Status, Verdict
from penstock.project.status.works import works
from penstock.project.workspace import Workspace
from penstock.store.ledger import releases, runs


def status(workspace: Workspace, pipeline: str, now: datetime, *, due: Due | None = None) -> Status:
    """Answer the six questions about a pipeline.

    Args:
        workspace: The project.
        pipeline: Which pipeline.
        now: UTC; ages count from here.
        due: What a worker would decide now; without it nothing is said about the next retrain.

    Raises:
        NotFoundError: Nothing is known of such a pipeline.
        StoreError: The store cannot be read.
    """
    _refuse_unknown(workspace, pipeline)
    facts = read_facts(workspace, pipeline, now)
    answers = (fresh(facts, due), works(facts), load(facts), healthy(facts), changed(facts), pays(facts))
    verdicts = {one.verdict for one in answers}
    verdict: Verdict = "look" if "look" in verdicts else "fine" if "fine" in verdicts else "unknown"
    return Status(
        pipeline=pipeline,
        now=now,
        verdict=verdict,
        answers=answers,
        release=None if facts.release is None else str(facts.release.ref),
        live_since=None if facts.live is None else facts.live.changed_at,
        by="" if facts.live is None else facts.live.changed_by,
    )


def known_pipelines(workspace: Workspace) -> list[str]:
    """Return the pipelines that were released, or that policy names."""
    with workspace.ledger.read() as conn:
        released = {release.pipeline for release in releases.of_pipeline(conn)}
    return sorted(released | set(workspace.settings.policies))


def _refuse_unknown(workspace: Workspace, pipeline: str) -> None:
    known = known_pipelines(workspace)
    if pipeline in known:
        return
    with workspace.ledger.read() as conn:
        if runs.page(conn, pipeline=pipeline, limit=1):
            return
    near = near_miss(pipeline, known)
    there = f"there are {', '.join(known)}" if known else "run one first: penstock run"
    hint = f"did you mean {near!r}?" if near is not None else there
    raise NotFoundError(f"Nothing is known of a pipeline {pipeline!r}.", hint=hint)
