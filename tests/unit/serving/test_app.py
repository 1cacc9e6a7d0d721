"""The table of routes: who is answered, who is refused, and in which words."""

import msgspec
import pytest

from penstock.core.errors import InputError
from penstock.serving.http.app import App
from penstock.serving.http.requests import LOOPBACK_NAMES, Heads
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, Request, Respond, Route
from penstock.serving.refusals import RequestError

LIMITS = Limits(body_bytes=100)


def echo(request: Request, respond: Respond) -> None:
    respond(Reply(200, request.body))


def refusing(request: Request, respond: Respond) -> None:
    raise RequestError("No.", status=422, reason="no")


def in_own_shape(error: RequestError) -> Reply:
    return Reply(error.status, msgspec.json.encode({"error": error.message}))


def post(handle: object = echo, **parts: object) -> Route:
    return Route(**{"methods": frozenset({"POST"}), "permission": "predict", "handle": handle, **parts})  # type: ignore[arg-type]  # as the tests name them


def ask(routes: dict[str, Route], method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
    """Return the app's reply, which must come exactly once."""
    told = {name.replace("_", "-").encode(): value.encode() for name, value in {"host": "localhost", **headers}.items()}
    app = App(routes, "movies@1", heads=Heads(LOOPBACK_NAMES), limits=LIMITS)
    replies: list[Reply] = []
    app.handle(Request(method, path, told, body), replies.append)
    (reply,) = replies
    return reply


def code_of(reply: Reply) -> str:
    code: str = msgspec.json.decode(reply.body)["error"]["code"]
    return code


def test_a_route_without_a_permission_keeps_the_app_from_starting() -> None:
    """What is not declared is not served."""
    with pytest.raises(TypeError, match="permission"):
        Route(methods=frozenset({"GET"}), handle=echo)  # type: ignore[call-arg]  # that is the point
    for permission in ("", "everything"):
        with pytest.raises(InputError, match="declares no permission"):
            ask({"/a": post(permission=permission)}, "POST", "/a")


def test_refusals_have_the_shape_of_their_protocol() -> None:
    """At a route, below it where nothing is, and by what the handler says; elsewhere the house's shape."""
    routes = {"/v2/infer": post(refusing, refuse=in_own_shape, kinds=("*",)), "/a": post(refusing)}
    for method, path in (("GET", "/v2/infer"), ("POST", "/v2/infer"), ("POST", "/v2/nothing")):
        assert isinstance(msgspec.json.decode(ask(routes, method, path).body)["error"], str)
    assert code_of(ask(routes, "POST", "/a")) == "no"
    assert code_of(ask(routes, "POST", "/b")) == "not_found"


def test_a_route_may_stand_for_all_below_it() -> None:
    """The more exact one wins."""
    routes = {"/v2/*": post(refusing), "/v2/models/a": post(), "/v2/models/*": post()}
    assert ask(routes, "POST", "/v2/x/y/z").status == 422
    assert ask(routes, "POST", "/v2/models/b").status == 200
    assert ask(routes, "POST", "/v2/models/a").status == 200
    assert ask(routes, "POST", "/v3/models").status == 404


@pytest.mark.parametrize(
    ("kinds", "kind", "status"),
    [
        (("application/json",), "application/json", 200),
        (("application/json",), "Application/JSON; charset=utf-8", 200),
        (("application/json",), "text/plain", 415),
        (("application/json",), "application/jsonx", 415),
        (("application/json",), "", 415),
        (("application/json", "text/csv"), "text/csv", 200),
        (("*",), "", 200),
        (("*",), "anything/else", 200),
    ],
)
def test_a_body_is_of_a_type_that_the_route_takes(kinds: tuple[str, ...], kind: str, status: int) -> None:
    """415 names what it takes: forms that a browser sends without asking are not taken as JSON."""
    reply = ask({"/a": post(kinds=kinds)}, "POST", "/a", b"1", content_type=kind)
    assert reply.status == status
    if status == 415:
        assert kinds[0] in msgspec.json.decode(reply.body)["error"]["hint"]


def test_what_the_head_says_is_too_large_is_not_read() -> None:
    """The bound is inclusive."""
    app = App({"/a": post(kinds=("*",))}, "movies@1", heads=Heads(LOOPBACK_NAMES), limits=LIMITS)
    head = Request("POST", "/a", {b"host": b"localhost"})
    assert isinstance(app.admit(head, 100), Route)
    refused = app.admit(head, 101)
    assert isinstance(refused, Reply)
    assert refused.status == 413


def test_without_a_release_only_health_answers() -> None:
    """503 with a time to try again, whatever is asked."""
    app = App({}, "", heads=Heads(LOOPBACK_NAMES), limits=LIMITS)
    statuses = {}
    for path in ("/healthz", "/readyz", "/movies/recommend", "/"):
        replies: list[Reply] = []
        app.handle(Request("GET", path, {b"host": b"localhost"}), replies.append)
        statuses[path] = replies[0].status
    assert statuses == {"/healthz": 200, "/readyz": 503, "/movies/recommend": 503, "/": 503}


def test_a_leaving_worker_says_that_it_is_not_ready() -> None:
    """A balancer sends no one any more, while others are still answered."""
    app = App({"/a": post()}, "movies@1", heads=Heads(LOOPBACK_NAMES), limits=LIMITS)
    app.draining = True
    replies: list[Reply] = []
    for method, path in (("GET", "/readyz"), ("POST", "/a")):
        app.handle(Request(method, path, {b"host": b"localhost"}), replies.append)
    assert [reply.status for reply in replies] == [503, 200]


def test_refusals_are_counted_by_status() -> None:
    """By the head, by the table and by the handler."""
    counted: list[int] = []
    app = App({"/a": post(refusing)}, "movies@1", heads=Heads(LOOPBACK_NAMES), limits=LIMITS, refused=counted.append)
    for method, path, host in (("POST", "/a", b"evil"), ("POST", "/b", b"localhost"), ("GET", "/a", b"localhost")):
        app.handle(Request(method, path, {b"host": host}), lambda _reply: None)
    app.handle(Request("POST", "/a", {b"host": b"localhost"}), lambda _reply: None)
    assert counted == [403, 404, 405, 422]
