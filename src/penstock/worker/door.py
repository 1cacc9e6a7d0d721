"""The one route of a worker: another system asks for a retrain over HTTP, once per `Idempotency-Key`.

Belongs here: reading what comes from outside, within bounds. Who listens: `listening`; what a wish leads to: `asking`.
"""

import hashlib
import hmac
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import anyio
import anyio.to_thread
import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from penstock.core.clock import Clock
from penstock.core.errors import NotFoundError, StoreError
from penstock.project.workspace import Workspace
from penstock.serving.http.requests import Heads
from penstock.serving.refusals import RequestError
from penstock.worker.asking import Asked, ask_for_retrain, asked_of, one_line, wish, wishes_waiting

_events = structlog.get_logger("penstock.worker")
PATH = "/pipelines/{name}/retrain"
MOST_BODY_BYTES = 8192
MOST_WAITING = 100
_BODY_S = 10.0
_LEDGER_S = 5.0
_LONGEST_REASON = 200
_KEY = re.compile(r"[!-~]{1,128}")


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller may say: why."""

    reason: str = msgspec.field(default="")

    def __post_init__(self) -> None:
        if len(self.reason) > _LONGEST_REASON:
            raise ValueError(f"`reason` is longer than {_LONGEST_REASON} characters")


@dataclass(slots=True)
class Allowance:
    """So many at once, and then so many per second: a bucket of tokens."""

    clock: Clock
    most: float = 300.0
    per_s: float = 5.0
    _left: float = field(init=False)
    _at_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._left, self._at_s = self.most, self.clock.monotonic_s()

    def take(self) -> float:
        """Return 0 where one more is allowed, else the seconds until then."""
        now_s = self.clock.monotonic_s()
        self._left = min(self.most, self._left + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._left < 1:
            return (1 - self._left) / self.per_s
        self._left -= 1
        return 0.0


class _Refusal(Exception):  # noqa: N818  # it is an answer, not a failure
    def __init__(self, status: int, code: str, message: str, hint: str = "", *, retry_s: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint, self.retry_s = status, code, message, hint, retry_s


class Door:
    """Checks who asks and what, then records the wish; one at a time, since each is a transaction."""

    def __init__(
        self,
        workspace: Callable[[], Workspace],
        token: str,
        names: frozenset[str] | None,
        on_asked: Callable[[], None],
    ) -> None:
        self._workspace = workspace
        self._on_asked = on_asked
        self._token = hashlib.sha256(token.encode()).digest()
        self._heads = None if names is None else Heads(names)
        self._allowance = Allowance(workspace().clock)
        self._turn = threading.Lock()

    def app(self) -> Starlette:
        """Return what answers."""
        route = Route(PATH, self._retrain, methods=["POST"])
        return Starlette(routes=[route], exception_handlers={HTTPException: _told, Exception: _failed})

    async def _retrain(self, request: Request) -> Response:
        try:
            answer = await self._asked(request)
        except _Refusal as refusal:
            return _refused(refusal)
        return _reply(202 if answer.is_new else 200, answer)

    async def _asked(self, request: Request) -> Asked:
        headers = _headers(request)
        self._admit(headers)
        key = headers.get(b"idempotency-key", b"").decode("latin-1")
        if not _KEY.fullmatch(key):
            hint = "send Idempotency-Key: 1 to 128 visible ASCII characters, the same for each retry of one wish"
            raise _Refusal(400, "no_key", "The request has no usable Idempotency-Key.", hint)
        body = await _read(request)
        retry_s = self._allowance.take()
        if retry_s:
            raise _Refusal(429, "too_many", "Too many requests.", "ask less often", retry_s=retry_s)
        ask = partial(self._ask, str(request.path_params["name"]), key, body.reason)
        try:
            with anyio.fail_after(_LEDGER_S):
                return await anyio.to_thread.run_sync(ask, abandon_on_cancel=True)
        except TimeoutError:  # a store that is away is waited for longer than a caller waits
            raise _away("The ledger does not answer.") from None

    def _admit(self, headers: Mapping[bytes, bytes]) -> None:
        try:
            if self._heads is not None:
                self._heads.check(dict(headers))
        except RequestError as error:
            raise _Refusal(error.status, error.reason, error.message, error.hint) from None
        if b"origin" in headers:
            raise _Refusal(403, "bad_origin", "Requests of web pages are refused.")
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        # Hashed first, so that neither length nor content shows in the time it takes.
        is_known = hmac.compare_digest(hashlib.sha256(given.strip()).digest(), self._token)
        if scheme.lower() != b"bearer" or not is_known:
            raise _Refusal(401, "no_token", "The request has no valid token.", "send Authorization: Bearer TOKEN")

    def _ask(self, pipeline: str, key: str, reason: str) -> Asked:
        workspace = self._workspace()
        said = one_line(reason)
        try:
            with self._turn:
                known = wish(workspace, pipeline, kind="webhook", key=key)
                if known is None and wishes_waiting(workspace, pipeline) >= MOST_WAITING:
                    message = f"{MOST_WAITING} wishes for {pipeline!r} wait already."
                    raise _Refusal(429, "too_many_waiting", message, "wait until some have run", retry_s=60)
                is_new = ask_for_retrain(
                    workspace, pipeline, kind="webhook", key=key, said=f"a webhook asked for it: {said or 'no reason'}"
                )
                found = wish(workspace, pipeline, kind="webhook", key=key)
        except NotFoundError as error:
            raise _Refusal(404, "not_found", error.message, "ask for one that is released or scheduled") from None
        except StoreError:
            raise _away("The wish could not be recorded.") from None
        if found is None:
            raise _away("The wish is not recorded.")
        if is_new:
            _events.info("retrain_asked", pipeline=pipeline, cause=found.name)
            self._on_asked()
        return asked_of(found, is_new=is_new)


def _headers(request: Request) -> dict[bytes, bytes]:
    """Return the headers; one that comes twice is two opinions, of which none counts."""
    found: dict[bytes, bytes] = {}
    for name, value in request.headers.raw:
        if name in found:
            raise _Refusal(400, "bad_header", "A header comes twice.", "send each header once")
        found[name] = value
    return found


async def _read(request: Request) -> _Body:
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MOST_BODY_BYTES:
        raise _too_large()
    try:
        with anyio.fail_after(_BODY_S):
            body = await _bytes_of(request)
    except TimeoutError:
        raise _Refusal(408, "slow_body", "The body did not arrive in time.") from None
    except ClientDisconnect:
        raise _Refusal(400, "cut_off", "The request was cut off.") from None
    try:
        return msgspec.json.decode(body, type=_Body) if body.strip() else _Body()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        hint = 'send nothing, or {"reason": "at most 200 characters"}'
        raise _Refusal(422, "bad_body", "The body is not as it should be.", hint) from None


async def _bytes_of(request: Request) -> bytes:
    found = b""
    async for part in request.stream():
        found += part
        if len(found) > MOST_BODY_BYTES:
            raise _too_large()
    return found


def _away(message: str) -> _Refusal:
    return _Refusal(503, "store_away", message, "send it again with the same key: it is one wish", retry_s=5)


def _too_large() -> _Refusal:
    return _Refusal(413, "too_large", f"The body is larger than {MOST_BODY_BYTES} bytes.")


def _reply(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    kept = {"connection": "close", "cache-control": "no-store", "x-content-type-options": "nosniff", **(headers or {})}
    return Response(msgspec.json.encode(body), status, kept, media_type="application/json")


def _refused(refusal: _Refusal) -> Response:
    headers = {"retry-after": str(max(1, round(refusal.retry_s)))} if refusal.retry_s else {}
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    error = {"code": refusal.code, "message": refusal.message, "hint": refusal.hint}
    return _reply(refusal.status, {"error": error}, headers)


def _told(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    code = {404: "no_route", 405: "wrong_method"}.get(status, "http")
    message = {404: "There is no such path.", 405: "This path takes POST."}.get(status, "The request is refused.")
    body = {"error": {"code": code, "message": message, "hint": f"POST {PATH}"}}
    return _reply(status, body, headers)


def _failed(_request: Request, _error: Exception) -> Response:
    return _refused(_Refusal(500, "crash", "The request failed here.", "the worker's log says why"))
