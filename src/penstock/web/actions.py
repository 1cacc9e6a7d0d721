"""What there is to do: each action asks `project` or `worker` once, in the caller's name."""

import secrets

from penstock.core.errors import InputError
from penstock.project import people
from penstock.project.alerting import listing
from penstock.project.rollout import moves
from penstock.store.ledger import alerts
from penstock.store.ledger.people import EVERY, ROLES
from penstock.web.asked import Asked, Done
from penstock.worker.asking import ask_for_retrain, one_line

_LONGEST = 500


def promote(asked: Asked) -> Done:
    """Take a candidate to its next stage, or to one that is named; or begin the rollout of a release."""
    name = asked.path["name"]
    target = asked.form.get("release") or name
    if target.partition("@")[0] != name:
        raise InputError(f"{target[:140]!r} is no release of {name!r}.", hint=f"write it as {name}@3")
    moved = moves.promote(
        target, asked.workspace, to=asked.form.get("to") or None, reason=_said(asked), by=asked.caller.name
    )
    return _moved(moved)


def roll_back(asked: Asked) -> Done:
    """Take back a candidate, or return to the release before."""
    to = asked.form.get("to") or None
    return _moved(
        moves.roll_back(asked.path["name"], asked.workspace, to=to, reason=_said(asked), by=asked.caller.name)
    )


def pause(asked: Asked) -> Done:
    """Keep a rollout at its stage."""
    return _moved(moves.pause(asked.path["name"], asked.workspace, reason=_said(asked), by=asked.caller.name))


def resume(asked: Asked) -> Done:
    """Let a paused rollout go on."""
    return _moved(moves.resume(asked.path["name"], asked.workspace, reason=_said(asked), by=asked.caller.name))


def approve(asked: Asked) -> Done:
    """Approve a candidate in a role that policy asks for."""
    name, role, reason = asked.path["name"], asked.form.get("role", ""), _said(asked)
    if not reason:
        raise InputError("An approval needs a reason.", hint="say what you looked at")
    target = asked.form.get("release") or name
    if target.partition("@")[0] != name:
        raise InputError(f"{target[:140]!r} is no release of {name!r}.", hint=f"write it as {name}@3")
    return _moved(moves.approve(target, role, asked.workspace, reason=reason, by=asked.caller.name))


def retrain(asked: Asked) -> Done:
    """Ask for a retrain; the worker begins it when its turn comes."""
    name, who = asked.path["name"], asked.caller.name
    said = f"{who} asked for it: {_said(asked) or 'no reason'}"
    ask_for_retrain(asked.workspace, name, kind="manual", key=secrets.token_hex(8), said=said, actor=who)
    return Done(
        said=f"A retrain of {name} is asked for; the worker begins it.",
        to=f"/pipelines/{name}",
        data={"pipeline": name},
    )


def pipeline_of_alert(asked: Asked) -> str:
    """Return whose an alert is."""
    with asked.workspace.ledger.read() as conn:
        return alerts.get(conn, alerts.parse_alert(asked.path["alert"])).pipeline


def dispose(asked: Asked) -> Done:
    """Say whether an alert was worth hearing of."""
    said = asked.form.get("disposition", "")
    if said == "real":
        found = listing.dispose(
            asked.workspace, asked.path["alert"], "real", _said(asked, "note"), by=asked.caller.name
        )
    elif said == "noise":
        found = listing.dispose(
            asked.workspace, asked.path["alert"], "noise", _said(asked, "note"), by=asked.caller.name
        )
    else:
        raise InputError(f"{said[:40]!r} says nothing about an alert.", hint="send disposition: real or noise")
    return Done(said=f"{found.alert} is {found.disposition}.", to=f"/alerts/{found.alert}", data=found)


def add_person(asked: Asked) -> Done:
    """Let somebody sign in, with an address that works once."""
    role = next((one for one in ROLES if one == asked.form.get("role")), None)
    if role is None:
        raise InputError(f"{asked.form.get('role', '')[:40]!r} is no role.", hint=f"one of {', '.join(ROLES)}")
    pipeline = asked.form.get("pipeline", EVERY)
    made = people.add_person(
        asked.workspace, asked.form.get("person", ""), role, pipeline=pipeline, by=asked.caller.name
    )
    link = f"{asked.prefix}/sign-in?token={made.token}"
    said = f"{made.person.name} may sign in, once, within ten minutes: {link}"
    return Done(said=said, to="/people", data={"person": made.person.name, "sign_in": link})


def remove_person(asked: Asked) -> Done:
    """Let somebody sign in no more."""
    gone = people.remove_person(asked.workspace, asked.form.get("person", ""), by=asked.caller.name)
    return Done(said=f"{gone.name} may sign in no more.", to="/people", data=gone)


def _moved(moved: moves.Moved) -> Done:
    return Done(said=moved.said, to=f"/pipelines/{moved.pipeline}", data=moved)


def _said(asked: Asked, name: str = "reason") -> str:
    said = one_line(asked.form.get(name, "")).strip()
    if len(said) > _LONGEST:
        raise InputError(f"{name} is longer than {_LONGEST} characters.", hint="say it shorter")
    return said
