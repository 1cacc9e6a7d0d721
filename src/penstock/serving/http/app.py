"""The raw ASGI application of one worker: a route per serve function, and a few pages made when it starts."""

import asyncio
import difflib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import structlog

from penstock.core.clock import Clock
from penstock.serving.http.openapi import HTML, PAGE_POLICY, describe_api, render_page
from penstock.serving.http.replies import Receive, Scope, Send, send_reply
from penstock.serving.http.requests import Heads, read_body
from penstock.serving.limits import Limits
from penstock.serving.messages import Reply, refusal
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.serving.program.load import Program, ServeFunction, user_frames
from penstock.serving.refusals import RequestError

_events = structlog.get_logger("penstock.serving")
_encode_fields: Callable[[object], bytes] = msgspec.json.Encoder().encode
_NULL = msgspec.Raw(b"null")


class App:
    """Answers requests with one release.

    Args:
        program: The release, loaded; None answers 503 everywhere but `/healthz`.
        release: Its reference as text, "movies@3".
        log: Where predictions go.
        heads: The check on each request's head.
        limits: Bounds on requests.
        clock: The time of predictions.
    """

    def __init__(
        self,
        program: Program | None,
        release: str,
        *,
        log: PredictionLog,
        heads: Heads,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._release = release
        self._log = log
        self._heads = heads
        self._limits = limits
        self._clock = clock
        self._ready = program is not None
        self._functions: dict[str, ServeFunction] = {}
        self._pages: dict[str, Reply] = {}
        if program is not None:
            self._functions = {f"/{program.pipeline}/{name}": f for name, f in program.functions.items()}
            self._pages = _make_pages(program, release)
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="serve")
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (the ASGI interface)."""
        if scope["type"] != "http":
            return
        try:
            reply = await self._reply(scope, receive)
        except RequestError as error:
            reply = refusal(error)
        except Exception:  # noqa: BLE001  # the server's edge: a fault of ours must not take the connection down
            _events.exception("request_failed")
            reply = Reply(500, b'{"error":{"code":"internal","message":"The server failed on this request."}}')
        await send_reply(send, reply, closing=self.draining)

    def close(self) -> None:
        """Let go of the threads; a function that never returns is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        headers = self._heads.check(scope)
        path: str = scope["path"]
        function = self._functions.get(path)
        if function is None:
            return self._page(path, scope["method"])
        if scope["method"] != "POST":
            raise _wrong_method("POST")
        self._heads.check_body(headers)
        body = await read_body(receive, self._limits)
        return await self._predict(function, body)

    def _page(self, path: str, method: str) -> Reply:
        if not self._ready and path != "/healthz":
            return self._readiness()
        if path == "/healthz":
            found: Reply | None = Reply(200, b'{"status":"up"}')
        elif path == "/readyz":
            found = self._readiness()
        else:
            found = self._pages.get(path)
        if found is None:
            near = difflib.get_close_matches(path[:256], [*self._functions, *self._pages], n=1)
            raise RequestError(
                "There is nothing at this path.",
                status=404,
                reason="not_found",
                hint=f"did you mean {near[0]}?" if near else "GET / lists what there is",
            )
        if method not in {"GET", "HEAD"}:
            raise _wrong_method("GET")
        return found

    def _readiness(self) -> Reply:
        if self._ready and not self.draining:
            return Reply(200, msgspec.json.encode({"status": "ready", "release": self._release}))
        error = {"code": "not_ready", "message": "No release is loaded yet.", "hint": "make one with `penstock run`"}
        return Reply(503, msgspec.json.encode({"error": error}), headers=((b"retry-after", b"1"),))

    async def _predict(self, function: ServeFunction, body: bytes) -> Reply:
        started = time.perf_counter_ns()
        fields = function.fields.parse(body)
        parsed = time.perf_counter_ns()
        at = self._clock.now()
        prediction_id = self._log.new_id(at)
        fallback, failure = False, None
        try:
            if function.deadline_s is None:
                answer = function.answer(fields)
            else:
                answer = await self._answer_in_time(function, fields, function.deadline_s)
        except Exception as error:  # noqa: BLE001  # user code may raise anything; this is its boundary
            failure = "deadline" if isinstance(error, _LateError) else type(error).__qualname__
            _report_failure(error, function=function.name, prediction_id=prediction_id, release=self._release)
            fallen = self._fall_back(function, fields, prediction_id)
            fallback, answer = fallen is not None, fallen or b"null"
        done = time.perf_counter_ns()
        kept = self._log.append(
            LogEntry(
                id=prediction_id,
                at=at,
                release=self._release,
                serve=function.name,
                fields=_raw_fields(fields, body, frame=function.fields.rows is not None),
                answer=msgspec.Raw(answer) if answer else _NULL,
                timings={"parse_us": (parsed - started) // 1000, "answer_us": (done - parsed) // 1000},
                fallback=fallback,
                error=failure,
            )
        )
        failed = failure is not None and not fallback
        return _answer_reply(prediction_id, self._release, answer, _Outcome(failed, fallback, kept))

    async def _answer_in_time(self, function: ServeFunction, fields: msgspec.Struct, deadline_s: float) -> bytes:
        # A thread only where a deadline is declared: it costs more than a small model's whole answer.
        task = asyncio.get_running_loop().run_in_executor(self._threads, function.answer, fields)
        try:
            return await asyncio.wait_for(task, deadline_s)
        except TimeoutError as error:
            if task.cancelled():
                raise _LateError from error
            raise

    def _fall_back(self, function: ServeFunction, fields: msgspec.Struct, prediction_id: str) -> bytes | None:
        if function.fallback is None:
            return None
        try:
            return function.fallback.answer(fields)
        except Exception as error:  # noqa: BLE001  # the fallback is user code too
            _report_failure(error, function=function.fallback.name, prediction_id=prediction_id, release=self._release)
            return None


class _LateError(Exception):
    """The serve function missed its deadline."""


class _Outcome(msgspec.Struct, frozen=True):
    failed: bool
    fallback: bool
    kept: bool


def _answer_reply(prediction_id: str, release: str, answer: bytes, outcome: _Outcome) -> Reply:
    encoded = prediction_id.encode()
    headers = [(b"x-penstock-prediction-id", encoded)]
    if not outcome.kept:
        headers.append((b"x-penstock-prediction-log", b"delayed"))
    if outcome.failed:
        message = "The pipeline's function failed on this request."
        error = {"code": "function_failed", "message": message, "prediction_id": prediction_id, "release": release}
        return Reply(500, msgspec.json.encode({"error": error}), headers=tuple(headers))
    mark = b',"fallback":true' if outcome.fallback else b""
    start = b'{"prediction_id":"' + encoded + b'","release":"' + release.encode() + b'"' + mark
    return Reply(200, start + b',"answer":' + answer + b"}", headers=tuple(headers))


def _raw_fields(fields: msgspec.Struct, body: bytes, *, frame: bool) -> msgspec.Raw:
    # Rows are kept as they were sent: they were parsed without a loss, and encoding a frame again costs more.
    return msgspec.Raw(body if frame else _encode_fields(fields))


def _report_failure(error: Exception, *, function: str, prediction_id: str, release: str) -> None:
    if isinstance(error, _LateError):
        _events.warning("deadline_missed", function=function, prediction_id=prediction_id, release=release)
        return
    # Frames only: the message of a user's exception may hold the caller's values.
    _events.error(
        "function_failed",
        function=function,
        prediction_id=prediction_id,
        release=release,
        error=type(error).__qualname__,
        traceback=user_frames(error),
    )


def _wrong_method(allowed: str) -> RequestError:
    return RequestError(f"This path takes {allowed} only.", status=405, reason="wrong_method", hint=f"use {allowed}")


def _make_pages(program: Program, release: str) -> dict[str, Reply]:
    document = describe_api(program, release)
    routes = {name: f"/{program.pipeline}/{name}" for name in program.functions}
    index = {"pipeline": program.pipeline, "release": release, "serve": routes, "docs": "/docs"}
    page = Reply(200, render_page(document), kind=HTML, headers=(PAGE_POLICY,))
    return {
        "/": Reply(200, msgspec.json.encode(index)),
        "/openapi.json": Reply(200, msgspec.json.encode(document)),
        "/docs": page,
    }
