"""The check `replay` of a run: what it made is asked what the live release was asked, before there is a release."""

from penstock.checks.results import built_in
from penstock.core.errors import PenstockError, StepError
from penstock.engine.state import Champion
from penstock.project.replaying.replay import Asked, ask_again, defaults_of, run_asked
from penstock.project.replaying.requests import choose_requests
from penstock.project.workspace import Workspace, read_manifest
from penstock.releases.manifest import Manifest, encode_manifest
from penstock.releases.replay.compare import Chosen, compare_replayed
from penstock.releases.replay.verdict import CHECK, Gated, judge_replay, not_replayed

FEWEST = 100


def replay_for_gate(run_id: int, manifest: Manifest, live: Champion, workspace: Workspace) -> Gated:
    """Replay recorded requests on what a run made.

    A live release that cannot be asked any more, or too few requests, are reasons not to replay, and said. A candidate
    whose process ends over a request does not pass.
    """
    policy = manifest.policy.replaying
    if policy.requests == 0:
        return Gated(check=not_replayed("policy asks for none"))
    chosen = choose_requests(manifest.pipeline, workspace, most=policy.requests)
    if len(chosen.requests) < min(FEWEST, policy.requests):
        return Gated(check=not_replayed(_too_few(chosen)))
    try:
        before = Asked(
            name=live.release,
            digest=live.manifest_digest,
            manifest=read_manifest(live.manifest_digest, workspace),
        )
        one = ask_again(before, chosen.requests, workspace, budget_s=policy.budget_s)
    except PenstockError as error:
        return Gated(check=not_replayed(f"{live.release} cannot be asked: {error.message}"))
    after = run_asked(run_id, manifest, workspace.blobs.put(encode_manifest(manifest)))
    try:
        asked, defaults = chosen.requests[: len(one.replayed)], defaults_of(before.manifest)
        other = ask_again(after, asked, workspace, budget_s=policy.budget_s, defaults=defaults)
    except StepError as error:
        said = f"{after.name} was asked {len(one.replayed):,} recorded requests and failed over one: {error.message}"
        return Gated(check=built_in(CHECK, said, passed=False, evidence={"against": live.release}))
    found = compare_replayed(manifest.pipeline, chosen, one, other)
    return Gated(check=judge_replay(found, most_changed=policy.most_changed), replay=found)


def _too_few(chosen: Chosen) -> str:
    told = f"{len(chosen.requests):,} recorded requests can be asked again, {FEWEST} are needed"
    return "; ".join([told, *(f"{count:,}: {reason}" for reason, count in chosen.left_out.items())])
