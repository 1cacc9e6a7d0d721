"""The app of one release: the routes of every protocol and the pages, put together. Knows protocols by their routes."""

import functools
from collections.abc import Mapping, Sequence

import msgspec

from penstock.serving.http import userpage
from penstock.serving.http.app import App
from penstock.serving.http.openapi import HTML, PAGE_POLICY, describe_api, render_page
from penstock.serving.http.requests import Heads
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Respond, Route
from penstock.serving.observe.counters import Counters
from penstock.serving.observe.exchanges import Watcher
from penstock.serving.plane.plane import Plane
from penstock.serving.program.load import Program
from penstock.serving.protocols import arrow, feedback, mlflow, typed
from penstock.serving.protocols.consumers import Consumers


def release_app(  # noqa: PLR0913  # what one app is put together from
    plane: Plane | None,
    release: str,
    *,
    heads: Heads,
    limits: Limits,
    others: Mapping[str, Route],
    counters: Counters,
    watchers: Sequence[Watcher] = (),
    consumers: Consumers | None = None,
) -> App:
    """Return the app of a release.

    Args:
        plane: What answers; None when there is no release yet.
        release: Its reference as text, "movies@3"; "" when there is none yet.
        heads: The check on each request's head.
        limits: Bounds on requests.
        others: Further routes, as those for feedback and metrics.
        counters: Where refusals are counted.
        watchers: Told each request with its reply.
        consumers: Tells who asks, and who may not.
    """
    make = functools.partial(
        App, heads=heads, limits=limits, refused=counters.refused, watchers=watchers, consumers=consumers
    )
    if plane is None:
        return make({}, "")
    named = typed.routes(plane, release)
    tables = arrow.routes(plane, release, named, limits=limits)
    routes = {**named, **tables, **mlflow.routes(plane, release, limits=limits), **others}
    pages = page_routes(plane.program, release, routes)
    return make({**routes, **pages}, release)


def page_routes(program: Program, release: str, routes: Mapping[str, Route]) -> dict[str, Route]:
    """Return the pages that tell what there is, made once."""
    document = describe_api(program, release, routes)
    functions = {name: f"/{program.pipeline}/{name}" for name in program.functions}
    index = {
        "pipeline": program.pipeline,
        "release": release,
        "serve": functions,
        "page": userpage.PATH,
        "docs": "/docs",
    }
    own = userpage.user_pages(program, release, document, takes_feedback=feedback.PATH in routes)
    return {
        **{path: page(reply) for path, reply in own.items()},
        "/": page(Reply(200, msgspec.json.encode(index))),
        "/openapi.json": page(Reply(200, msgspec.json.encode(document))),
        "/docs": page(Reply(200, render_page(document), kind=HTML, headers=(PAGE_POLICY,))),
    }


def page(reply: Reply) -> Route:
    """Return the route of a reply that never changes."""

    def handle(_request: Request, respond: Respond) -> None:
        respond(reply)

    return Route(methods=frozenset({"GET"}), permission="read", handle=handle)
