"""The truth about predictions, joined by the outcome functions of a release."""

import os
from collections.abc import Sequence
from datetime import datetime

from penstock.core.errors import NotFoundError
from penstock.core.records import Record
from penstock.project.asking import ask_process, refused
from penstock.project.serving import served_release
from penstock.project.workspace import Workspace, read_manifest, released_code
from penstock.serving.predictions.outcomes import Joined
from penstock.serving.processes.outcomes import OutcomeOptions, OutcomeReply


class JoinedOutcomes(Record, frozen=True, kw_only=True):
    """What was joined.

    Attributes:
        release: The release whose functions were asked, "movies@3".
        now: Predictions asked before this were joined, UTC.
    """

    pipeline: str
    release: str
    now: datetime
    outcomes: tuple[Joined, ...]


def join_outcomes(
    target: str | None, workspace: Workspace, *, now: datetime | None = None, names: Sequence[str] = ()
) -> JoinedOutcomes:
    """Ask the outcome functions of a release about the predictions whose truth may have come.

    Args:
        target: "movies" for the functions of its live release, "movies@3", or None for the only pipeline.
        workspace: The project.
        now: Predictions asked before this are joined; the present when None.
        names: Only these functions; all when empty.

    Raises:
        NotFoundError: There is no such release, or it has no such outcome function.
        StepError: A function failed, with the user's own frames; what others found before it is kept.
    """
    release = served_release(target, workspace)
    manifest = read_manifest(release.manifest_digest, workspace)
    known = [node.name for node in manifest.graph.nodes if node.role == "outcome"]
    unknown = [name for name in names if name not in known]
    if unknown or not known:
        what = f"outcome function {unknown[0]!r}" if unknown else "outcome function"
        raise NotFoundError(
            f"{release.ref} has no {what}.",
            hint=f"it has {', '.join(known)}" if known else "write one with @pipeline.outcome(within=...), then run",
        )
    at = now or workspace.clock.now()
    options = OutcomeOptions(
        home=os.fspath(workspace.home),
        manifest=release.manifest_digest,
        code_dir=os.fspath(released_code(manifest, workspace)),
        names=tuple(names) or tuple(known),
        now=at,
        parent=os.getpid(),
    )
    module = "penstock.serving.processes.outcomes"
    reply = ask_process(module, options, OutcomeReply, workspace, code=options.code_dir)
    if reply.error is not None:
        raise refused(*reply.error)
    return JoinedOutcomes(pipeline=release.pipeline, release=str(release.ref), now=at, outcomes=reply.joined)
