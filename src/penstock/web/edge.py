"""The edge: who asks, whether they may, what was sent; then a page or an action, and its answer as HTML or JSON.

Every route is a line of `routes`; one without a role, or with a role for nobody, keeps the application from starting.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import msgspec
import structlog
from jinja2 import Environment
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from penstock.core.errors import NotFoundError, PenstockError
from penstock.core.plain import plain
from penstock.project import people
from penstock.project.people import SESSION_FOR, Caller
from penstock.project.status import known_pipelines
from penstock.project.workspace import Workspace
from penstock.serving.http.requests import Heads
from penstock.serving.refusals import RequestError
from penstock.store.ledger.people import ROLES
from penstock.web.describing import describe
from penstock.web.reading import read_form, read_key
from penstock.web.refusing import Refused, absent, refused
from penstock.web.render import templates
from penstock.web.routes import ACTIONS, PAGES, Action, Page
from penstock.web.visit import Done, View, Visit

API = "/api/v1"
_COOKIE = "penstock_session"
REFRESH = "x-penstock-refresh"  # says that a page brings itself up to date: nobody has read what it says anew
_ANSWER_S = 30.0
_STATIC = Path(__file__).parent / "static"
_MOST_TOLD = 1000
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with "no-referrer" browsers send forms with an Origin of null
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
_ENCODER = msgspec.json.Encoder(enc_hook=plain)
_events = structlog.get_logger("penstock.web")
_Answer = Callable[[Request], Awaitable[Response]]
_Found = TypeVar("_Found")


@dataclass(slots=True)
class Pages:
    """The application.

    Args:
        workspace: Gives the project as it is now.
        names: Host names of this server.
        is_secure: Browsers reach it by TLS, so that the cookie needs it too.
    """

    workspace: Callable[[], Workspace]
    names: frozenset[str]
    is_secure: bool = False
    pages: Sequence[Page] = PAGES
    actions: Sequence[Action] = ACTIONS
    _heads: Heads = field(init=False)
    _templates: Environment = field(init=False)
    # What an action said, until the next page of that session shows it: an address must not hold a secret.
    _told: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._heads = Heads(self.names)
        self._templates = templates()

    def app(self) -> ASGIApp:
        """Return what answers.

        Raises:
            ValueError: A route says not who may use it.
        """
        open_to = {line.path: line.role for line in self.pages} | {line.path: line.role for line in self.actions}
        for path, role in open_to.items():
            if role not in ROLES:
                raise ValueError(f"{path} does not say who may use it")
        made: list[BaseRoute] = [
            Mount("/static", _Static(directory=_STATIC)),
            Route("/sign-in", self._guarded(self._sign_in), methods=["GET", "POST"]),
            Route("/sign-out", self._guarded(self._sign_out), methods=["POST"]),
            Route(f"{API}/openapi.json", self._guarded(self._described), methods=["GET"]),
        ]
        for page in self.pages:
            made += self._page_routes(page)
        for action in self.actions:
            made += [
                Route(prefix + action.path, self._guarded(functools.partial(self._act, action)), methods=["POST"])
                for prefix in (API, "")
            ]
        handlers = {HTTPException: self._no_route, Exception: self._crashed}
        found = Starlette(routes=made, exception_handlers=handlers)
        found.router.redirect_slashes = False  # it would lead to whatever Host says, before anybody has looked at that
        return found

    def _page_routes(self, page: Page) -> list[BaseRoute]:
        twin = "/index" if page.path == "/" else page.path
        under_api = API if page.path == "/" else API + page.path
        shown = functools.partial(self._show, page)
        return [
            Route(under_api, self._guarded(shown), methods=["GET"]),
            Route(f"{twin}.json", self._guarded(shown), methods=["GET"]),
            Route(page.path, self._guarded(shown), methods=["GET"]),
        ]

    def _guarded(self, answer: _Answer) -> _Answer:
        async def guarded(request: Request) -> Response:
            try:
                self._check_head(request)
                response = await answer(request)
            except Refused as error:
                response = self._refusal(request, error)
            except PenstockError as error:
                response = self._refusal(request, refused(error))
            except TimeoutError:
                response = self._refusal(request, Refused(503, "store_away", "The ledger does not answer.", retry_s=5))
            response.headers.update(_HEADERS)
            return response

        return guarded

    def _check_head(self, request: Request) -> None:
        headers: dict[bytes, bytes] = {}
        for name, value in request.headers.raw:
            if name in headers and name != b"cookie":
                raise Refused(400, "bad_header", "A header comes twice.", "send each header once")
            headers[name] = value
        try:
            self._heads.check(headers)
        except RequestError as error:
            raise Refused(error.status, error.reason, error.message, error.hint) from None
        # To a browser other ports of a host are the same site, and get its cookies; here they are others.
        origin = headers.get(b"origin")
        if (
            origin is not None
            and urlsplit(origin.decode("latin-1")).netloc.lower() != headers[b"host"].decode("latin-1").lower()
        ):
            raise Refused(403, "bad_origin", "Requests from other sites are refused.")

    async def _caller(self, request: Request) -> Caller:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        text = bearer.strip() if scheme.lower() == "bearer" else request.cookies.get(cookie_name(request), "")
        found = await _read(people.caller_of, self.workspace(), text) if text else None
        is_cookie = scheme.lower() != "bearer"
        if found is None or found.is_session != is_cookie:
            raise Refused(401, "not_signed_in", "Nobody is signed in.", "open the address that `penstock up` prints")
        if is_cookie and request.method != "GET" and "origin" not in request.headers:
            # A browser sends it with every form; without it nobody can tell which page asked.
            raise Refused(403, "bad_origin", "The request does not say which page it comes from.")
        return found

    async def _show(self, page: Page, request: Request) -> Response:
        caller = await self._caller(request)
        visit = self._visit(request, caller, {})
        view, known = await _read(self._seen, page, visit)
        if _wants_json(request):
            return _json(200, view.data)
        said = "" if REFRESH in request.headers else self._told.pop(caller.token, "")
        return self._html(
            200, view.template, caller, title=view.title, data=view.data, said=said, known=known, **view.more
        )

    @staticmethod
    def _seen(page: Page, visit: Visit) -> tuple[View, frozenset[str]]:
        """Return what a caller may see, and the pipelines that text on it may name."""
        if page.role is None or not any(visit.caller.may(page.role, grant.pipeline) for grant in visit.caller.grants):
            raise Refused(403, "not_allowed", f"This takes the role {page.role}.", "ask an admin")
        try:
            view = page.show(visit)
        except NotFoundError:
            if visit.caller.may("viewer"):
                raise
            raise absent() from None  # what is said would tell what is there
        if view.pipeline is not None and not visit.caller.may(page.role, view.pipeline):
            raise absent()
        return view, frozenset(known_pipelines(visit.workspace))

    async def _act(self, action: Action, request: Request) -> Response:
        caller = await self._caller(request)
        form = await read_form(request)
        unknown = sorted(form.keys() - action.fields)
        if unknown:
            hint = f"send {', '.join(sorted(action.fields))}"
            raise Refused(422, "unknown_field", f"{unknown[0][:40]!r} is not a field of this.", hint)
        done = await anyio.to_thread.run_sync(self._done, action, self._visit(request, caller, form))
        if _wants_json(request):
            return _json(200, {"said": done.said, "result": done.data})
        if len(self._told) < _MOST_TOLD:
            self._told[caller.token] = done.said
        return RedirectResponse(done.to, status_code=303)

    @staticmethod
    def _done(action: Action, visit: Visit) -> Done:
        try:
            pipeline = action.pipeline(visit)
        except NotFoundError:
            raise absent() from None
        if action.role is None or not visit.caller.may(action.role, pipeline):
            if pipeline and not visit.caller.may("viewer", pipeline):
                raise absent()
            raise Refused(403, "not_allowed", f"This takes the role {action.role}.", "ask an admin")
        return action.act(visit)

    async def _described(self, request: Request) -> Response:
        await self._caller(request)
        return _json(200, describe(self.pages, self.actions, API))

    async def _sign_in(self, request: Request) -> Response:
        if request.method != "POST":
            token = request.query_params.get("token", "")
            return self._html(200, "sign_in.html", None, title="Sign in", token=token)
        if "origin" not in request.headers:
            raise Refused(403, "bad_origin", "The request does not say which page it comes from.")
        form = await read_form(request)
        made = await anyio.to_thread.run_sync(people.sign_in, self.workspace(), form.get("token", ""))
        if made is None:
            hint = "they work once, for ten minutes; ask for another: penstock people invite NAME"
            raise Refused(401, "bad_token", "This address has been used, or is too old.", hint)
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(
            cookie_name(request),
            made.token,
            max_age=int(SESSION_FOR.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=self.is_secure,
        )
        return response

    async def _sign_out(self, request: Request) -> Response:
        caller = await self._caller(request)
        await anyio.to_thread.run_sync(people.sign_out, self.workspace(), caller)
        response = RedirectResponse("/sign-in", status_code=303)
        response.delete_cookie(cookie_name(request))
        return response

    def _visit(self, request: Request, caller: Caller, form: Mapping[str, str]) -> Visit:
        path = {name: str(value) for name, value in request.path_params.items()}
        prefix = f"{'https' if self.is_secure else 'http'}://{request.headers['host']}"
        return Visit(
            workspace=self.workspace(),
            caller=caller,
            path=path,
            query=dict(request.query_params),
            form=form,
            prefix=prefix,
            key=read_key(request),
        )

    def _html(self, status: int, template: str, caller: Caller | None, **more: Any) -> Response:
        text = self._templates.get_template(template).render(
            caller=caller, **{"said": "", "known": frozenset(), **more}
        )
        return Response(text, status, media_type="text/html")

    def _refusal(self, request: Request, error: Refused) -> Response:
        headers = {"retry-after": str(max(1, round(error.retry_s)))} if error.retry_s else {}
        if _wants_json(request):
            said = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
            response = _json(error.status, said)
        elif error.code == "not_signed_in" and request.method == "GET":
            response = RedirectResponse("/sign-in", status_code=303)
        else:
            response = self._html(error.status, "refused.html", None, title="This was refused", error=error)
        response.headers.update(headers)
        return response

    async def _no_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        message = {404: "There is no such page.", 405: "This address takes another method."}.get(
            status, "This was refused."
        )
        response = self._refusal(request, Refused(status, "no_route", message, "begin on the first page"))
        response.headers.update(_HEADERS)
        return response

    async def _crashed(self, request: Request, _error: Exception) -> Response:
        response = self._refusal(request, Refused(500, "crash", "This failed here.", "the worker's log says why"))
        response.headers.update(_HEADERS)
        return response


class _Static(StaticFiles):
    """Files of ours, with the headers that all answers have; they change with a version of Penstock alone."""

    def file_response(self, *given: Any, **more: Any) -> Response:
        response = super().file_response(*given, **more)
        response.headers.update({**_HEADERS, "cache-control": "no-cache"})
        return response


def _wants_json(request: Request) -> bool:
    path = request.url.path
    scheme = request.headers.get("authorization", "").partition(" ")[0]
    return path.startswith(API) or path.endswith(".json") or scheme.lower() == "bearer"


def cookie_name(request: Request) -> str:
    """Return the name of the cookie of a session: browsers give those of one port to all others of a host."""
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"{_COOKIE}_{port}" if port.isascii() and port.isdecimal() else _COOKIE


async def _read(ask: Callable[..., _Found], *given: object) -> _Found:
    """Return what a function reads in a thread; a ledger that is away is not waited for for ever."""
    with anyio.fail_after(_ANSWER_S):
        return await anyio.to_thread.run_sync(functools.partial(ask, *given), abandon_on_cancel=True)


def _json(status: int, data: object) -> Response:
    return Response(_ENCODER.encode(data), status, media_type="application/json")
