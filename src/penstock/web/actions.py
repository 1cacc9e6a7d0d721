"""What there is to do: each action asks `project` or `worker` once, in the caller's name."""

import secrets

from penstock.core.errors import InputError
from penstock.project import people
from penstock.project.alerting import listing
from penstock.project.rollout import moves
from penstock.store.ledger import alerts
from penstock.store.ledger.people import EVERY, ROLES
from penstock.web.visit import Done, Visit
from penstock.worker.asking import ask_for_retrain, asked_of, one_line, wish, wishes_waiting

_LONGEST = 500


def promote(visit: Visit) -> Done:
    """Take a candidate to its next stage, or to one that is named; or begin the rollout of a release."""
    name = visit.path["name"]
    target = visit.form.get("release") or name
    _refuse_other(target, name)
    moved = moves.promote(
        target, visit.workspace, to=visit.form.get("to") or None, reason=_said(visit), by=visit.caller.name
    )
    return _moved(moved)


def roll_back(visit: Visit) -> Done:
    """Take back a candidate, or return to the release before."""
    to = visit.form.get("to") or None
    if to is not None:
        _refuse_other(to, visit.path["name"])
    return _moved(
        moves.roll_back(visit.path["name"], visit.workspace, to=to, reason=_said(visit), by=visit.caller.name)
    )


def pause(visit: Visit) -> Done:
    """Keep a rollout at its stage."""
    return _moved(moves.pause(visit.path["name"], visit.workspace, reason=_said(visit), by=visit.caller.name))


def resume(visit: Visit) -> Done:
    """Let a paused rollout go on."""
    return _moved(moves.resume(visit.path["name"], visit.workspace, reason=_said(visit), by=visit.caller.name))


def approve(visit: Visit) -> Done:
    """Approve a candidate in a role that policy asks for."""
    name, role, reason = visit.path["name"], visit.form.get("role", ""), _said(visit)
    if not reason:
        raise InputError("An approval needs a reason.", hint="say what you looked at")
    target = visit.form.get("release") or name
    _refuse_other(target, name)
    return _moved(moves.approve(target, role, visit.workspace, reason=reason, by=visit.caller.name))


def retrain(visit: Visit) -> Done:
    """Ask for a retrain; the worker begins it when its turn comes."""
    name, who = visit.path["name"], visit.caller.name
    key = f"{who}/{visit.key}" if visit.key else secrets.token_hex(8)
    known = wish(visit.workspace, name, kind="manual", key=key)
    if known is None and wishes_waiting(visit.workspace, name, "manual"):
        raise InputError(
            f"A retrain of {name!r} is asked for already, and waits.", hint="the worker begins it: penstock up"
        )
    said = f"{who} asked for it: {_said(visit) or 'no reason'}"
    is_new = ask_for_retrain(visit.workspace, name, kind="manual", key=key, said=said, actor=who)
    found = wish(visit.workspace, name, kind="manual", key=key)
    told = f"A retrain of {name} is asked for; the worker begins it." if is_new else "That was asked for before."
    data = None if found is None else asked_of(found, is_new=is_new)
    return Done(said=told, to=f"/pipelines/{name}", data=data)


def pipeline_of_alert(visit: Visit) -> str:
    """Return whose an alert is."""
    with visit.workspace.ledger.read() as conn:
        return alerts.get(conn, alerts.parse_alert(visit.path["alert"])).pipeline


def dispose(visit: Visit) -> Done:
    """Say whether an alert was worth hearing of."""
    said = visit.form.get("disposition", "")
    if said == "real":
        found = listing.dispose(
            visit.workspace, visit.path["alert"], "real", _said(visit, "note"), by=visit.caller.name
        )
    elif said == "noise":
        found = listing.dispose(
            visit.workspace, visit.path["alert"], "noise", _said(visit, "note"), by=visit.caller.name
        )
    else:
        raise InputError(f"{said[:40]!r} says nothing about an alert.", hint="send disposition: real or noise")
    return Done(said=f"{found.alert} is {found.disposition}.", to=f"/alerts/{found.alert}", data=found)


def add_person(visit: Visit) -> Done:
    """Let somebody sign in, with an address that works once."""
    role = next((one for one in ROLES if one == visit.form.get("role")), None)
    if role is None:
        raise InputError(f"{visit.form.get('role', '')[:40]!r} is no role.", hint=f"one of {', '.join(ROLES)}")
    pipeline = visit.form.get("pipeline", EVERY)
    made = people.add_person(
        visit.workspace, visit.form.get("person", ""), role, pipeline=pipeline, by=visit.caller.name
    )
    link = f"{visit.prefix}/sign-in?token={made.token}"
    said = f"{made.person.name} may sign in, once, within ten minutes: {link}"
    return Done(said=said, to="/people", data={"person": made.person.name, "sign_in": link})


def remove_person(visit: Visit) -> Done:
    """Let somebody sign in no more."""
    gone = people.remove_person(visit.workspace, visit.form.get("person", ""), by=visit.caller.name)
    return Done(said=f"{gone.name} may sign in no more.", to="/people", data=gone)


def _refuse_other(target: str, pipeline: str) -> None:
    if target.partition("@")[0] != pipeline:
        raise InputError(f"{target[:140]!r} is no release of {pipeline!r}.", hint=f"write it as {pipeline}@3")


def _moved(moved: moves.Moved) -> Done:
    return Done(said=moved.said, to=f"/pipelines/{moved.pipeline}", data=moved)


def _said(visit: Visit, name: str = "reason") -> str:
    said = one_line(visit.form.get(name, "")).strip()
    if len(said) > _LONGEST:
        raise InputError(f"{name} is longer than {_LONGEST} characters.", hint="say it shorter")
    return said
