"""The one table of what there is to see and to do, each line with the role that it takes."""

from collections.abc import Callable
from dataclasses import dataclass

from penstock.project.alerting.listing import Shown
from penstock.project.alerting.why import Why
from penstock.project.datasets import DatasetLine, DatasetShown
from penstock.project.showing import ReleaseLine, ReleaseShown, RunShown
from penstock.project.tracing import Traced
from penstock.releases.compare import Difference
from penstock.store.ledger.people import EVERY, Person, Role
from penstock.web import actions, answers, pages
from penstock.web.visit import Done, View, Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Something to see, at `path`, at `path` with ".json" and under /api/v1.

    Attributes:
        role: What a caller must have somewhere to get in; for the pipeline of the view it is looked at again.
        data: Type of the view's data.
        query: What it reads of the address.
    """

    path: str
    show: Callable[[Visit], View]
    role: Role | None
    data: object = None
    query: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something to do.

    Attributes:
        pipeline: Says whose, before anything is done; "" for no pipeline but all of them.
        fields: What a form, or an object of JSON, may hold.
    """

    path: str
    act: Callable[[Visit], Done]
    role: Role | None
    pipeline: Callable[[Visit], str]
    fields: frozenset[str] = frozenset()


def _by_name(visit: Visit) -> str:
    return visit.path["name"]


def _of_all(_visit: Visit) -> str:
    return EVERY


PAGES = (
    Page(path="/", show=pages.home, role="viewer", data=pages.Home),
    Page(path="/pipelines/{name}", show=pages.pipeline, role="viewer", data=pages.PipelineShown),
    Page(
        path="/pipelines/{name}/answers",
        show=answers.use,
        role="viewer",
        data=answers.Use,
        query=("key", "consumer", "release", "failed", "limit"),
    ),
    Page(path="/pipelines/{name}/answers/{answer}", show=answers.answer, role="editor", data=Traced),
    Page(
        path="/runs", show=pages.runs, role="viewer", data=pages.RunPage, query=("pipeline", "state", "before", "limit")
    ),
    Page(path="/runs/{run}", show=pages.run, role="viewer", data=RunShown),
    Page(path="/compare", show=pages.compare, role="viewer", data=Difference | None, query=("before", "after")),
    Page(path="/data", show=pages.datasets, role="viewer", data=tuple[DatasetLine, ...]),
    Page(path="/data/{name}/{dataset}", show=pages.dataset, role="viewer", data=DatasetShown),
    Page(path="/releases", show=pages.releases, role="viewer", data=tuple[ReleaseLine, ...]),
    Page(path="/releases/{release}", show=pages.release, role="viewer", data=ReleaseShown),
    Page(path="/alerts", show=pages.alerts, role="viewer", data=tuple[Shown, ...], query=("all", "limit")),
    Page(path="/alerts/{alert}", show=pages.alert, role="viewer", data=Why),
    Page(path="/audit", show=pages.audit, role="viewer", data=pages.EventPage, query=("before", "limit")),
    Page(path="/people", show=pages.people, role="admin", data=tuple[Person, ...]),
)
ACTIONS = (
    Action(
        path="/pipelines/{name}/promote",
        act=actions.promote,
        role="releaser",
        pipeline=_by_name,
        fields=frozenset({"release", "to", "reason"}),
    ),
    Action(
        path="/pipelines/{name}/rollback",
        act=actions.roll_back,
        role="releaser",
        pipeline=_by_name,
        fields=frozenset({"to", "reason"}),
    ),
    Action(
        path="/pipelines/{name}/pause",
        act=actions.pause,
        role="releaser",
        pipeline=_by_name,
        fields=frozenset({"reason"}),
    ),
    Action(
        path="/pipelines/{name}/resume",
        act=actions.resume,
        role="releaser",
        pipeline=_by_name,
        fields=frozenset({"reason"}),
    ),
    Action(
        path="/pipelines/{name}/approve",
        act=actions.approve,
        role="releaser",
        pipeline=_by_name,
        fields=frozenset({"release", "role", "reason"}),
    ),
    Action(
        path="/pipelines/{name}/retrain",
        act=actions.retrain,
        role="editor",
        pipeline=_by_name,
        fields=frozenset({"reason"}),
    ),
    Action(
        path="/alerts/{alert}/dispose",
        act=actions.dispose,
        role="editor",
        pipeline=actions.pipeline_of_alert,
        fields=frozenset({"disposition", "note"}),
    ),
    Action(
        path="/people/add",
        act=actions.add_person,
        role="admin",
        pipeline=_of_all,
        fields=frozenset({"person", "role", "pipeline"}),
    ),
    Action(
        path="/people/remove", act=actions.remove_person, role="admin", pipeline=_of_all, fields=frozenset({"person"})
    ),
)
