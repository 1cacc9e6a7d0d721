"""Who changed what? The live release, those before it, how to go back, and who did what lately."""

from collections.abc import Iterator

from penstock.core.states import RolloutState
from penstock.project.status.facts import Facts
from penstock.project.status.records import Answer, Line, answer, unknown
from penstock.project.status.words import ago, counted
from penstock.store.ledger.events import Event

_MOST = 3


def changed(facts: Facts) -> Answer:
    """Return the answer."""
    if facts.release is None:
        return answer("changed", [unknown("there is no release", "a run whose checks pass makes one", "penstock run")])
    return answer("changed", [*_live(facts), *_rollout(facts), *_before(facts), *_events(facts)])


def _live(facts: Facts) -> Iterator[Line]:
    release = facts.release
    if release is None:
        return
    if facts.damage:
        said = f"the live release {release.ref} is damaged: {facts.damage}"
        yield Line(verdict="look", said=said, leads_to="penstock doctor")
        return
    cause = "" if facts.made_in is None else f" ({facts.made_in.cause})"
    who = "" if facts.live is None else f" since {ago(facts.live.changed_at, facts.now)} by {facts.live.changed_by}"
    said = f"{release.ref} is live{who.replace(' ago', '')}{cause}"
    figures = {"release": str(release.ref), "hash": release.hash, "made_at": release.made_at}
    yield Line(verdict="fine", said=said, leads_to=f"penstock show {release.ref}", figures=figures)


def _rollout(facts: Facts) -> Iterator[Line]:
    found = facts.rollout
    if found is None or facts.release is None or found.candidate < facts.release.version:
        return
    leads = f"penstock rollouts {found.pipeline}"
    if found.is_open:
        waits = f"waits for approval by {', '.join(found.lacking)}" if found.lacking else f"is at {found.stage_name}"
        said = f"{found.ref} {waits}, since {ago(found.entered_at, facts.now).replace(' ago', '')}"
        yield Line(verdict="said", said=said, leads_to=leads)
    elif found.state is RolloutState.ROLLED_BACK and found.finished_at is not None:
        said = f"{found.ref} was taken back at {found.stage_name} {ago(found.finished_at, facts.now)}: {found.reason}"
        yield Line(verdict="said", said=said, leads_to=leads)


def _before(facts: Facts) -> Iterator[Line]:
    others = [r for r in facts.releases if facts.release is None or r.version != facts.release.version][:_MOST]
    for release in others:
        by = "imported" if release.run_id is None else f"by r{release.run_id}"
        said = f"{release.ref}, made {ago(release.made_at, facts.now)} {by}"
        leads = "" if facts.release is None else f"penstock diff {release.ref} {facts.release.ref}"
        yield Line(verdict="said", said=said, leads_to=leads)
    older = [r for r in facts.releases if facts.release is not None and r.version < facts.release.version]
    if older:
        back = older[0].ref
        said = f"back to {back}: code, artifacts, checks and policy at once"
        yield Line(verdict="said", said=said, leads_to=f"penstock rollback {back.pipeline} --to {back}")


def _events(facts: Facts) -> Iterator[Line]:
    lately = [event for event in facts.events if event.action != "endpoint.changed"]
    if lately:
        said = "; ".join(_told(event, facts) for event in lately[:_MOST])
        more = len(lately) - _MOST
        said += f"; and {counted(more, 'event')} more" if more > 0 else ""
        yield Line(verdict="said", said=said, figures={"events": [event.id for event in lately]})


def _told(event: Event, facts: Facts) -> str:
    reason = event.details.get("reason")
    why = f" ({reason})" if isinstance(reason, str) and reason else ""
    return f"{event.actor}: {event.action} {ago(event.at, facts.now)}{why}"
