"""A candidate and the release it is compared with, asked the same recorded requests, each in a process of its own."""

import os
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.refs import NAME, ReleaseRef, RunRef, parse_ref
from penstock.pipeline.graph import texts
from penstock.project.asking import ask_process, refused
from penstock.project.moving import person
from penstock.project.replaying.requests import choose_requests
from penstock.project.workspace import Workspace, read_manifest, released_code
from penstock.releases.manifest import Manifest
from penstock.releases.replay.compare import Chosen, compare_replayed
from penstock.releases.replay.records import Answering, Recorded, Replay
from penstock.releases.replay.verdict import evidence_of, judge_replay
from penstock.serving.processes.replay import ReplayAsk, ReplayOrder, ReplayReply
from penstock.store.ledger import evidence, releases, runs

_MODULE = "penstock.serving.processes.replay"
# Of the time that a replay may take, the share after which one answer is given up, within these bounds in seconds.
_SHARE_OF_ONE = 0.2
_LEAST_S, _MOST_S = 1.0, 30.0


class Asked(Record, frozen=True, kw_only=True):
    """Who is asked.

    Attributes:
        name: "movies@3"; "r41" for what a run made that is no release.
        digest: Of the manifest's blob.
    """

    name: str
    digest: str
    manifest: Manifest


class ReplayOptions(Record, frozen=True, kw_only=True):
    """How a replay is made.

    Attributes:
        requests: How many requests are asked at most.
        since: Only those recorded since then.
        budget_s: How long each release may take.
    """

    requests: int = 2000
    since: datetime | None = None
    budget_s: float = 120.0


def replay(candidate: str, against: str | None, workspace: Workspace, options: ReplayOptions) -> Replay:
    """Ask a candidate and a release the same recorded requests, compare, and keep what was found as evidence.

    Args:
        candidate: "movies@5", "r41", or "movies" for its newest release that is not live.
        against: "movies@4"; the live release when None, and where the candidate is live itself the one before it.
        workspace: The project.
        options: How many requests, since when, how long.

    Raises:
        InputError: They are of different pipelines, the same, or have nothing to ask.
        NotFoundError: There is no such release, or nothing was recorded.
        StepError: One of them cannot be loaded, or its process ended.
    """
    pair = find_pair(candidate, against, workspace)
    pipeline = pair[1].manifest.pipeline
    chosen = choose_requests(pipeline, workspace, most=options.requests, since=options.since)
    if not chosen.requests:
        raise NotFoundError(f"{_nothing(pipeline, chosen, options)}", hint="serve it first: penstock serve")
    found = replay_pair(pair[0], pair[1], chosen, workspace, budget_s=options.budget_s)
    with workspace.ledger.write() as conn:
        evidence.add(conn, evidence_of(found, judge_replay(found), by=person()))
    return found


def _nothing(pipeline: str, chosen: Chosen, options: ReplayOptions) -> str:
    if chosen.left_out:
        reasons = "; ".join(f"{count:,}: {reason}" for reason, count in chosen.left_out.items())
        return f"No recorded request of {pipeline!r} can be asked again ({reasons})."
    since = "" if options.since is None else f" since {options.since.isoformat()}"
    return f"Nothing was asked of {pipeline!r}{since}, so there is nothing to replay."


def find_pair(candidate: str, against: str | None, workspace: Workspace) -> tuple[Asked, Asked]:
    """Return the release that is compared with, and the candidate.

    Raises:
        InputError: They are of different pipelines, or the same; or the candidate has no serve function.
        NotFoundError: There is no such release or run.
    """
    after = find_asked(_newest_candidate(candidate, workspace) if NAME.fullmatch(candidate) else candidate, workspace)
    if not any(node.role == "serve" for node in after.manifest.graph.nodes):
        raise InputError(f"{after.name} has no serve function, so it cannot be asked.")
    before = find_asked(against or _usual_opponent(after, workspace), workspace)
    if before.manifest.pipeline != after.manifest.pipeline:
        raise InputError(
            f"{before.name} is of pipeline {before.manifest.pipeline!r}, {after.name} of {after.manifest.pipeline!r}.",
            hint="compare two releases of one pipeline: penstock replay movies@5 --against movies@4",
        )
    if before.name == after.name:
        raise InputError(f"{after.name} cannot be compared with itself.", hint="name another with --against")
    return before, after


def find_asked(reference: str, workspace: Workspace) -> Asked:
    """Return who is meant by "movies@3" or "r41".

    Raises:
        InputError: It is no reference, or a run that did not come to its end.
        NotFoundError: There is no such release or run.
    """
    ref = parse_ref(reference)
    with workspace.ledger.read() as conn:
        digest = (
            releases.get(conn, ref).manifest_digest
            if isinstance(ref, ReleaseRef)
            else runs.get(conn, ref.id).manifest_digest
        )
    if digest is None:
        raise InputError(
            f"Run {reference!r} made nothing that could be asked.", hint="name a release: penstock releases lists them"
        )
    return Asked(name=reference, digest=digest, manifest=read_manifest(digest, workspace))


def _newest_candidate(pipeline: str, workspace: Workspace) -> str:
    if pipeline.startswith("r") and pipeline[1:].isdigit():
        return pipeline
    with workspace.ledger.read() as conn:
        known, live = releases.of_pipeline(conn, pipeline), releases.live(conn, pipeline)
    if not known:
        raise NotFoundError(f"{pipeline!r} has no release.", hint="make one: penstock run")
    found = next((one for one in known if live is None or one.version != live.version), None)
    if found is None:
        raise NotFoundError(f"{pipeline!r} has one release, and it is live.", hint="change something: penstock run")
    return str(found.ref)


def _usual_opponent(candidate: Asked, workspace: Workspace) -> str:
    pipeline = candidate.manifest.pipeline
    with workspace.ledger.read() as conn:
        known, live = releases.of_pipeline(conn, pipeline), releases.live(conn, pipeline)
    if live is not None and str(live.ref) != candidate.name:
        return str(live.ref)
    before = [one for one in known if live is not None and one.version < live.version]
    if not before:
        raise NotFoundError(
            f"There is no release to compare {candidate.name} with: it is the only one of {pipeline!r}.",
            hint="name one with --against",
        )
    return str(before[0].ref)


def replay_pair(before: Asked, after: Asked, chosen: Chosen, workspace: Workspace, *, budget_s: float) -> Replay:
    """Ask both the same requests and compare.

    Raises:
        StepError: One of them cannot be loaded, or its process ended.
        ArtifactError: A stored artifact is damaged.
    """
    one = ask_again(before, chosen.requests, workspace, budget_s=budget_s)
    # Where the first had no time for all, the second need not be asked more.
    asked, defaults = chosen.requests[: len(one.replayed)], defaults_of(before.manifest)
    other = ask_again(after, asked, workspace, budget_s=budget_s, defaults=defaults)
    return compare_replayed(after.manifest.pipeline, chosen, one, other)


def ask_again(
    asked: Asked,
    requests: Sequence[Recorded],
    workspace: Workspace,
    *,
    budget_s: float,
    defaults: dict[str, dict[str, Any]] | None = None,
) -> Answering:
    """Have a release answer recorded requests in a process of its own; nothing is logged.

    Args:
        asked: Who.
        requests: What.
        workspace: The project.
        budget_s: How long it may take.
        defaults: By serve function, the defaults that the recorded fields may be filled in with.

    Raises:
        StepError: It cannot be loaded, or its process ended.
        ArtifactError: A stored artifact is damaged.
    """
    asks = [ReplayAsk(serve=one.serve, fields=one.fields) for one in requests]
    # By a file that goes: requests do not fit on a command line, and in the blobs they would outlive the log.
    with tempfile.TemporaryDirectory(prefix="replay-", dir=workspace.home / "tmp") as folder:
        path = Path(folder) / "requests.json"
        path.write_bytes(msgspec.json.encode(asks))
        order = ReplayOrder(
            home=os.fspath(workspace.home),
            manifest=asked.digest,
            requests=os.fspath(path),
            defaults=defaults or {},
            budget_s=budget_s,
            longest_s=min(max(budget_s * _SHARE_OF_ONE, _LEAST_S), _MOST_S),
            parent=os.getpid(),
        )
        code = os.fspath(released_code(asked.manifest, workspace))
        reply = ask_process(_MODULE, order, ReplayReply, workspace, code=code)
    if reply.error is not None:
        raise refused(*reply.error)
    return Answering(
        release=asked.name,
        replayed=reply.replayed,
        deadlines_s=_deadlines(asked.manifest),
        tolerance=_tolerance(asked.manifest),
        differing=reply.differing,
    )


def run_asked(run_id: int, manifest: Manifest, digest: str) -> Asked:
    """Return what a run made, before it is a release."""
    return Asked(name=str(RunRef(run_id)), digest=digest, manifest=manifest)


def defaults_of(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return, by serve function, what is recorded where a caller did not send a field."""
    return {
        node.name: {param.name: param.default for param in node.params if not param.required}
        for node in manifest.graph.nodes
        if node.role == "serve"
    }


def _deadlines(manifest: Manifest) -> dict[str, float]:
    return {
        serve: float(node.options["deadline_ms"]) / 1000
        for node in manifest.graph.nodes
        if node.role == "fallback" and node.options.get("deadline_ms") is not None
        for serve in texts(node.options.get("serves"))
    }


def _tolerance(manifest: Manifest) -> tuple[float, float]:
    used = [one for proofs in manifest.stand_ins.values() for one in proofs.values() if one.kind != "original"]
    return max([0.0, *(one.relative for one in used)]), max([0.0, *(one.absolute for one in used)])
