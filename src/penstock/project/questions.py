"""Questions to a release, answered in a process like a serving worker and stored as its answers are."""

import os
from collections.abc import Sequence

from penstock.project.asking import ask_process, refused
from penstock.project.workspace import Workspace, read_manifest, released_code
from penstock.serving.processes.ask import Ask, AskOrder, AskReply, Given
from penstock.store.ledger import releases


def ask_release(
    release: releases.Release,
    asks: Sequence[Ask],
    workspace: Workspace,
    *,
    seed: str | None = None,
    patience: float = 1.0,
) -> tuple[Given, ...]:
    """Ask a release questions in their order and return what came of each.

    Args:
        release: Which.
        asks: The questions.
        workspace: The project.
        seed: What prediction ids are derived from; drawn when None.
        patience: By how much deadlines are stretched.

    Raises:
        ArtifactError: A stored artifact is damaged.
        StepError: The released code cannot be imported, or its process ended without a word.
    """
    order = AskOrder(
        home=os.fspath(workspace.home),
        manifest=release.manifest_digest,
        release=str(release.ref),
        asks=tuple(asks),
        seed=seed,
        patience=patience,
        parent=os.getpid(),
    )
    code = os.fspath(released_code(read_manifest(release.manifest_digest, workspace), workspace))
    reply = ask_process("penstock.serving.processes.ask", order, AskReply, workspace, code=code)
    if reply.error is not None:
        raise refused(*reply.error)
    return reply.given
