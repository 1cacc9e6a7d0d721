"""What there is to see: each page asks `project` or `worker` once and names its template."""

from collections.abc import Sequence
from datetime import timedelta

from penstock.core.errors import InputError, NotFoundError
from penstock.core.records import Record
from penstock.core.refs import ReleaseRef, RunRef, parse_name, parse_ref
from penstock.core.states import RunState
from penstock.project import people as known_people
from penstock.project.alerting.listing import Shown, list_alerts
from penstock.project.alerting.why import why
from penstock.project.comparing import diff
from penstock.project.datasets import list_datasets, show_dataset
from penstock.project.rollout import moves
from penstock.project.showing import (
    NodeShown,
    ReleaseLine,
    RunLine,
    RunShown,
    list_releases,
    list_runs,
    show_release,
    show_run,
)
from penstock.project.status import Line, Status, known_pipelines
from penstock.store.ledger import events
from penstock.store.ledger.events import Event
from penstock.store.ledger.people import EVERY, ROLES, Person
from penstock.store.ledger.rollouts import Rollout
from penstock.web.drawing import Box, draw
from penstock.web.pictures import forest_of
from penstock.web.render import lasting
from penstock.web.timeline import Mark, timeline
from penstock.web.visit import View, Visit
from penstock.worker.standing import status_of

_RUNS, _MOST = 50, 200
_SHORT = 8
_DRAWN = 60  # runs in the picture of what happened


class ToDo(Record, frozen=True, kw_only=True):
    """A line that asks for a look, of whichever pipeline."""

    pipeline: str
    question: str
    line: Line


class Home(Record, frozen=True, kw_only=True):
    """All pipelines that a caller may see, and what asks for a look, most pressing first."""

    pipelines: tuple[Status, ...]
    to_do: tuple[ToDo, ...]


class PipelineShown(Record, frozen=True, kw_only=True):
    """One pipeline: the six answers, what was done lately, and the rollout under way."""

    status: Status
    rollout: Rollout | None
    rollouts: tuple[Rollout, ...]
    releases: tuple[ReleaseLine, ...]
    runs: tuple[RunLine, ...]
    alerts: tuple[Shown, ...]


class RunPage(Record, frozen=True, kw_only=True):
    """Runs, newest first; `before` leads on, and is None at the end."""

    runs: tuple[RunLine, ...]
    before: str | None


class EventPage(Record, frozen=True, kw_only=True):
    """Events, newest first; `before` leads on, and is None at the end."""

    events: tuple[Event, ...]
    before: int | None


# What is visit for first when several things ask: a failing service hurts now, money can wait for the morning.
_URGENCY = ("healthy", "load", "works", "fresh", "changed", "pays")


def home(visit: Visit) -> View:
    """Show every pipeline in a row, and what to do next."""
    workspace = visit.workspace
    names = _seen_by(visit)
    now = workspace.clock.now()
    found = tuple(status_of(workspace, name, now) for name in names)
    wanted = [
        ToDo(pipeline=one.pipeline, question=answer.name, line=line)
        for one in found
        for answer in one.answers
        for line in answer.lines
        if line.verdict == "look"
    ]
    wanted.sort(key=lambda one: _URGENCY.index(one.question))
    return View(template="home.html", title="Pipelines", data=Home(pipelines=found, to_do=tuple(wanted)))


def _seen_by(visit: Visit) -> list[str]:
    return [name for name in known_pipelines(visit.workspace) if visit.caller.may("viewer", name)]


def pipeline(visit: Visit) -> View:
    """Show the six answers of one pipeline, its rollout, releases, runs and open alerts."""
    workspace, name = visit.workspace, parse_name(visit.path["name"], what="pipeline")
    if name not in known_pipelines(workspace):
        raise NotFoundError(f"There is no pipeline {name!r}.", hint="see all of them on the first page")
    rollouts = moves.listing(name, workspace, most=_SHORT)
    data = PipelineShown(
        status=status_of(workspace, name, workspace.clock.now()),
        rollout=next((one for one in rollouts if one.is_open), None),
        rollouts=tuple(rollouts),
        releases=list_releases(workspace, pipeline=name)[:_SHORT],
        runs=list_runs(workspace, pipeline=name, limit=_SHORT),
        alerts=list_alerts(workspace, pipeline=name, limit=_SHORT).alerts,
    )
    drawn = timeline(_happened(visit, name, data.releases), data.status.now)
    return View(template="pipeline.html", title=name, data=data, pipeline=name, more={"timeline": drawn})


def _happened(visit: Visit, name: str, released: Sequence[ReleaseLine]) -> list[tuple[str, list[Mark]]]:
    """Return the newest intakes, runs and releases as rows of a picture, all of the time that the runs are of."""
    found = list_runs(visit.workspace, pipeline=name, limit=_DRAWN)
    # What a run takes in may be told to have come just before it began.
    since = min((one.started_at for one in found), default=visit.workspace.clock.now()) - timedelta(minutes=5)
    rows = [
        (
            one.dataset,
            [
                Mark(
                    at=came.taken_at,
                    kind="intake",
                    said=f"{came.version}: {came.added:,} rows",
                    href=f"/data/{name}/{one.dataset}",
                )
                for came in show_dataset(visit.workspace, name, one.dataset).intakes
                if came.taken_at is not None and came.taken_at >= since
            ],
        )
        for one in list_datasets(visit.workspace)
        if one.pipeline == name
    ]
    runs = [
        Mark(at=one.started_at, kind=one.state, said=f"{one.run}: {one.state}, {one.cause}", href=f"/runs/{one.run}")
        for one in found
    ]
    made = [
        Mark(
            at=one.made_at,
            kind="live" if one.is_live else "release",
            said=f"{one.release}{', live' if one.is_live else ''}",
            href=f"/releases/{one.release}",
        )
        for one in released
        if one.made_at >= since
    ]
    return [*rows, ("runs", runs), ("releases", made)]


def runs(visit: Visit) -> View:
    """Show runs, newest first, of one pipeline or of all, in one state or in any."""
    name, state, limit = (
        visit.query.get("pipeline", ""),
        visit.query.get("state", ""),
        visit.number("limit", _RUNS, most=_MOST),
    )
    if state and state not in {one.value for one in RunState}:
        raise InputError(
            f"{state[:40]!r} is no state of a run.", hint=f"one of {', '.join(one.value for one in RunState)}"
        )
    before = visit.query.get("before", "")
    wanted = parse_ref(before) if before else None
    if wanted is not None and not isinstance(wanted, RunRef):
        raise InputError(f"{before[:40]!r} is no run.", hint="take `before` from the page that came first")
    names = _seen_by(visit)
    if name and name not in names:
        raise NotFoundError(f"There is no pipeline {name[:128]!r}.", hint="see all of them on the first page")
    found = list_runs(
        visit.workspace,
        pipeline=name or None,
        state=RunState(state) if state else None,
        limit=limit + 1,
        before=None if wanted is None else wanted.id,
        among=None if visit.caller.may("viewer") else names,
    )
    more = found[limit - 1].run if len(found) > limit else None
    data = RunPage(runs=found[:limit], before=more)
    said = {"pipeline": name, "state": state, "pipelines": names, "states": [one.value for one in RunState]}
    return View(template="runs.html", title="Runs", data=data, more=said)


def run(visit: Visit) -> View:
    """Show one run with its nodes, checks and evidence."""
    reference = parse_ref(visit.path["run"])
    if not isinstance(reference, RunRef):
        raise NotFoundError(f"There is no run {visit.path['run'][:40]!r}.", hint="see the list of runs")
    found = show_run(reference.id, visit.workspace)
    more = {"drawn": [forest_of(one) for one in found.quality], "graph": draw(_boxes(found))}
    return View(template="run.html", title=f"Run {reference}", data=found, pipeline=found.pipeline, more=more)


def _boxes(found: RunShown) -> list[Box]:
    own = [node for node in found.nodes if not node.is_platform]
    return [Box(name=node.node, needs=node.needs, state=node.state, said=_in_short(node)) for node in own]


def _in_short(node: NodeShown) -> str:
    return f"{node.state}, {lasting(node.wall_s)}" if node.wall_s is not None else node.state


def compare(visit: Visit) -> View:
    """Show what differs between two runs or releases: code, data, parameters, metrics, and answers that change."""
    before, after = visit.query.get("before", ""), visit.query.get("after", "")
    for reference in (before, after) if before and after else ():
        if not visit.caller.may("viewer", _pipeline_of(reference, visit)):
            raise NotFoundError(f"There is no {reference!r}.", hint="see the lists of runs and releases")
    found = diff(visit.workspace, before, after) if before and after else None
    known = [one.release for one in list_releases(visit.workspace) if visit.caller.may("viewer", _name(one.release))]
    moved = [] if found is None else [one for one in found.metrics if one.before != one.after]
    more = {"before": before, "after": after, "choices": known, "moved": moved}
    return View(template="compare.html", title="Compare", data=found, more=more)


def _pipeline_of(reference: str, visit: Visit) -> str:
    match parse_ref(reference):
        case ReleaseRef(pipeline=name):
            return name
        case RunRef(id=number):
            return show_run(number, visit.workspace).pipeline


def _name(release: str) -> str:
    return release.partition("@")[0]


def datasets(visit: Visit) -> View:
    """Show every dataset with its newest version."""
    found = [one for one in list_datasets(visit.workspace) if visit.caller.may("viewer", one.pipeline)]
    return View(template="datasets.html", title="Data", data=tuple(found))


def dataset(visit: Visit) -> View:
    """Show one dataset: columns, intakes, and what was set aside."""
    found = show_dataset(visit.workspace, *(parse_name(visit.path[word], what=word) for word in ("name", "dataset")))
    return View(template="dataset.html", title=found.version, data=found, pipeline=found.pipeline)


def releases(visit: Visit) -> View:
    """Show the releases of all pipelines, newest first within each."""
    found = [one for one in list_releases(visit.workspace) if visit.caller.may("viewer", _name(one.release))]
    return View(template="releases.html", title="Releases", data=tuple(found))


def release(visit: Visit) -> View:
    """Show what a release stands on."""
    reference = parse_ref(visit.path["release"])
    if not isinstance(reference, ReleaseRef):
        raise NotFoundError(f"There is no release {visit.path['release'][:40]!r}.", hint="see the list of releases")
    found = show_release(reference, visit.workspace)
    drawn = [] if found.made_in is None else [forest_of(one) for one in found.made_in.quality]
    more = {"drawn": drawn}
    return View(template="release.html", title=str(reference), data=found, pipeline=reference.pipeline, more=more)


def alerts(visit: Visit) -> View:
    """Show the open alerts, or all, newest first."""
    is_all = visit.query.get("all", "") == "1"
    limit = visit.number("limit", _RUNS, most=_MOST)
    among = None if visit.caller.may("viewer") else _seen_by(visit)
    found = list_alerts(visit.workspace, is_all=is_all, limit=limit, among=among).alerts
    return View(template="alerts.html", title="Alerts", data=found, more={"is_all": is_all})


def alert(visit: Visit) -> View:
    """Walk back from an alert to what may be the reason."""
    found = why(visit.workspace, visit.path["alert"])
    return View(template="alert.html", title=f"Alert {found.alert.alert}", data=found, pipeline=found.alert.pipeline)


def audit(visit: Visit) -> View:
    """Show who did what, newest first; only to those who may see everything."""
    limit, before = (
        visit.number("limit", _RUNS, most=_MOST),
        visit.number("before", 0, most=10**9) if "before" in visit.query else None,
    )
    with visit.workspace.ledger.read() as conn:
        found = events.page(conn, limit=limit + 1, before=before)
    data = EventPage(events=tuple(found[:limit]), before=found[limit - 1].id if len(found) > limit else None)
    return View(template="audit.html", title="Audit", data=data, pipeline=EVERY)


def people(visit: Visit) -> View:
    """Show who may sign in and what they may."""
    found: list[Person] = known_people.list_people(visit.workspace)
    more = {"roles": ROLES, "pipelines": known_pipelines(visit.workspace)}
    return View(template="people.html", title="People", data=tuple(found), pipeline=EVERY, more=more)
