"""The table of routes of one worker: who may ask what, and the refusals of everything else."""

import difflib
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from penstock.core.errors import InputError
from penstock.serving.http.bodies import check_coding, too_large
from penstock.serving.http.requests import Heads
from penstock.serving.limits import Limits
from penstock.serving.messages import Permission, Reply, Request, Respond, Route, refusal
from penstock.serving.observe.exchanges import Watcher, tell_refused, watching
from penstock.serving.protocols.consumers import Consumers
from penstock.serving.refusals import DeniedError, RequestError

PERMISSIONS: frozenset[Permission] = frozenset({"health", "read", "predict", "feedback"})
_BODILESS = frozenset({"GET", "HEAD"})
_UNKNOWN = Request("", "", {})
_LONGEST_SHOWN = 256
_FAILED = Reply(500, b'{"error":{"code":"internal","message":"The server failed on this request."}}')
_events = structlog.get_logger("penstock.serving")


class App:
    """Answers requests by the routes it is given.

    Args:
        routes: By exact path.
        release: Reference of the release that they answer with, "movies@3"; "" when there is none yet, which answers
            503 everywhere but at `/healthz`.
        heads: The check on each request's head.
        limits: Bounds on requests.
        refused: Told the status of each request that is refused.
        watchers: Told each request with its reply.
        consumers: Tells who asks, and who may not; None lets everybody ask.

    Attributes:
        draining: The worker is about to leave; `/readyz` says so.

    Raises:
        InputError: A route declares a permission that does not exist.
    """

    def __init__(  # noqa: PLR0913  # what one app is put together from
        self,
        routes: Mapping[str, Route],
        release: str,
        *,
        heads: Heads,
        limits: Limits,
        refused: Callable[[int], None] = lambda _status: None,
        watchers: Sequence[Watcher] = (),
        consumers: Consumers | None = None,
    ) -> None:
        for path, route in routes.items():
            if route.permission not in PERMISSIONS:
                raise InputError(
                    f"Route {path!r} declares no permission that exists.", hint=f"one of {sorted(PERMISSIONS)}"
                )
        self._release = release
        self._heads = heads
        self._limits = limits
        self._refused = refused
        self._watchers = watchers
        self._consumers = consumers
        own = {
            "/healthz": Route(methods=frozenset({"GET"}), permission="health", handle=_say_up),
            "/readyz": Route(methods=frozenset({"GET"}), permission="health", handle=self._say_ready),
        }
        self._routes: dict[str, Route] = {**routes, **own}
        # "/v2/*" stands for all below that has no route of its own.
        self._below = {path[:-2]: route for path, route in routes.items() if path.endswith("/*")}
        # Below the first part of a path, all speak one protocol: a path that is not there is refused in its shape.
        self._shapes = {_first(path): route.refuse for path, route in routes.items() if route.refuse is not None}
        self.draining = False

    def handle(self, request: Request, respond: Respond) -> None:
        """Answer a whole request; never raises, and calls `respond` exactly once, now or later."""
        found = self.admit(request, len(request.body))
        if isinstance(found, Route):
            self.answer(found, request, respond)
        else:
            respond(found)

    def admit(self, request: Request, length: int) -> Route | Reply:
        """Return the route of a request whose body has not been read, or the reply that refuses it.

        Args:
            request: Its body is not looked at.
            length: Bytes of the body as declared; -1 when it is not.
        """
        try:
            return self._find(request, length)
        except RequestError as error:
            return self.refuse(error, request)
        except _Said as said:
            tell_refused(request, said.reply, self._watchers)
            return said.reply

    def answer(self, route: Route, request: Request, respond: Respond) -> None:
        """Answer an admitted request; never raises."""
        if self._consumers is not None:  # here and not by the head alone: a head is read once, a key may be revoked
            try:
                request = self._consumers.admit(request, route.permission)
            except DeniedError as error:
                respond(self.refuse(error, request))
                return
        if self._watchers:
            respond = watching(request, respond, self._watchers)
        try:
            route.handle(request, respond)
        except RequestError as error:
            self._refused(error.status)
            respond(refusal(error) if route.refuse is None else route.refuse(error))
        except Exception:  # noqa: BLE001  # the server's edge: a fault of ours must not take the connection down
            _events.exception("request_failed", path=request.path)
            respond(_FAILED)

    def refuse(self, error: RequestError, request: Request = _UNKNOWN) -> Reply:
        """Return the refusal of a request that no route was given, and tell the watchers.

        Args:
            error: Why.
            request: As far as it is known; the protocol that is spoken at its path gives the refusal its shape.
        """
        reply = self._refusal(error, request.path)
        tell_refused(request, reply, self._watchers)
        return reply

    def _refusal(self, error: RequestError, path: str) -> Reply:
        route = self._routes.get(path)
        shape = self._shapes.get(_first(path)) if route is None else route.refuse
        self._refused(error.status)
        reply = refusal(error) if shape is None else shape(error)
        return _with_advice(reply, error) if isinstance(error, DeniedError) else reply

    def busy(self) -> Reply:
        """Return the reply to a caller for whom there is no room."""
        error = {"code": "busy", "message": "There are too many connections.", "hint": "try again in a second"}
        return Reply(503, msgspec.json.encode({"error": error}), headers=((b"retry-after", b"1"),))

    def _find(self, request: Request, length: int) -> Route:
        self._heads.check(request.headers)
        path, method = request.path, request.method
        route = self._routes.get(path) or self._above(path)
        if not self._release and path != "/healthz":
            raise _Said(self._readiness())
        if method == "OPTIONS" and (route is not None or path == "*"):
            raise _Said(Reply(204, b"", headers=((b"allow", _allowed(route)),)))
        if route is None:
            raise self._not_found(path)
        if method not in route.methods and not (method == "HEAD" and "GET" in route.methods):
            raise _Said(self._wrong_method(route, path))
        if method not in _BODILESS and route.kinds:
            _check_kind(route, request)
        if self._consumers is not None:
            self._consumers.identify(request.headers, route.permission)  # before a body is read
        check_coding(request)
        if length > self._limits.body_bytes:
            raise too_large(self._limits)
        return route

    def _above(self, path: str) -> Route | None:
        while path and self._below:
            path = path.rpartition("/")[0]
            if path in self._below:
                return self._below[path]
        return None

    def _not_found(self, path: str) -> RequestError:
        near = difflib.get_close_matches(path[:_LONGEST_SHOWN], self._routes, n=1)
        return RequestError(
            "There is nothing at this path.",
            status=404,
            reason="not_found",
            hint=f"did you mean {near[0]}?" if near else "GET / lists what there is",
        )

    def _wrong_method(self, route: Route, path: str) -> Reply:
        words = " or ".join(sorted(route.methods))
        error = RequestError(f"This path takes {words} only.", status=405, reason="wrong_method", hint=f"use {words}")
        reply = self._refusal(error, path)
        return msgspec.structs.replace(reply, headers=(*reply.headers, (b"allow", _allowed(route))))

    def _say_ready(self, _request: Request, respond: Respond) -> None:
        respond(self._readiness())

    def _readiness(self) -> Reply:
        if self._release and not self.draining:
            return Reply(200, msgspec.json.encode({"status": "ready", "release": self._release}))
        error = {"code": "not_ready", "message": "No release is loaded yet.", "hint": "make one with `penstock run`"}
        return Reply(503, msgspec.json.encode({"error": error}), headers=((b"retry-after", b"1"),))


class _Said(Exception):  # noqa: N818  # not an error: the head alone was enough to answer
    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def _with_advice(reply: Reply, error: DeniedError) -> Reply:
    """Say what HTTP says of callers who are denied: how to name themselves, or when to come again."""
    if error.retry_after_s is not None:
        header = (b"retry-after", str(error.retry_after_s).encode())
    else:
        header = (b"www-authenticate", b"Bearer")
    return msgspec.structs.replace(reply, headers=(*reply.headers, header))


def _check_kind(route: Route, request: Request) -> None:
    if "*" in route.kinds:
        return
    kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    if kind in route.kinds:
        return
    words = " or ".join(route.kinds)
    raise RequestError(
        f"The body must be {words}.",
        status=415,
        reason="unknown_kind",
        hint=f"send the header content-type: {route.kinds[0]}",
    )


def _allowed(route: Route | None) -> bytes:
    methods = set() if route is None else set(route.methods)
    if "GET" in methods or route is None:
        methods |= {"GET", "HEAD"}
    return ", ".join(sorted(methods | {"OPTIONS"})).encode()


def _first(path: str) -> str:
    return path[1:].partition("/")[0]


def _say_up(_request: Request, respond: Respond) -> None:
    respond(Reply(200, b'{"status":"up"}'))
