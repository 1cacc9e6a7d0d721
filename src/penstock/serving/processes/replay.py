"""Answers recorded requests with a release as it would be served, and logs nothing: no prediction, feedback or counter.

Run as `python -P -B -m penstock.serving.processes.replay ORDER`, or kept by `staying`; writes JSON to standard output.
Deadlines are not played: an answer must depend on the release and not on how busy the machine is. Times are told.
"""

import faulthandler
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from penstock.core.errors import PenstockError
from penstock.core.process import die_with_parent
from penstock.core.records import Record
from penstock.releases.environment import environment_differences
from penstock.releases.manifest import decode_manifest
from penstock.releases.replay.records import LATE, NOT_FINITE, Replayed
from penstock.serving.processes.staying import Answer, answer_quietly
from penstock.serving.program.load import Program, ServeFunction, load_program, user_frames
from penstock.serving.program.recorded import recorded_fields
from penstock.serving.refusals import AnswerError, RequestError
from penstock.store.blobs import Blobs

# One answer is given up after `longest_s`, and a request is at most asked three times; the rest is for slow machines.
_GRACE = 10
_UNREADABLE = (PenstockError, pl.exceptions.PolarsError, TypeError, ValueError, OverflowError)
# What user code may raise; what ends the process on purpose is no answer either.
_RAISED = (Exception, SystemExit)


class ReplayAsk(Record, frozen=True, kw_only=True):
    """One recorded request: its serve function and its fields as JSON."""

    serve: str
    fields: msgspec.Raw


class ReplayOrder(Record, frozen=True, kw_only=True):
    """What to answer.

    Attributes:
        home: The project's store.
        manifest: Digest of the manifest's blob.
        requests: File with the requests as JSON, in the order in which they are asked.
        defaults: By serve function, the defaults that the other release fills in: a field that this one does not know
            is left out where it has that value, since callers may never have sent it.
        budget_s: How long all of it may take; what was answered until then counts.
        longest_s: How long one answer may take before it is given up.
        parent: Process id of who starts it; it ends when that one does.
    """

    home: str
    manifest: str
    requests: str
    defaults: dict[str, dict[str, Any]] = {}
    budget_s: float
    longest_s: float
    parent: int | None = None


class ReplayReply(Record, frozen=True, kw_only=True):
    """What the process says.

    Attributes:
        replayed: By request, in their order; fewer where the time was up.
        differing: Packages that the released code imports, where another version is installed here.
        error: Code, message and hint of the error that stopped it.
    """

    replayed: tuple[Replayed, ...] = ()
    differing: tuple[str, ...] = ()
    error: tuple[str, str, str] | None = None


class _LateError(BaseException):
    """An answer takes too long; user code that catches every Exception does not catch it."""


def main(arguments: list[str]) -> int:
    """Answer the requests of one order."""
    die_with_parent(msgspec.json.decode(arguments[0], type=ReplayOrder).parent)
    answer_quietly(open_asking(), arguments[0].encode())
    return 0


def open_asking() -> Answer:
    """Return what answers one order after the other."""
    return _reply


def _reply(order: bytes) -> bytes:
    try:
        reply = _replay(msgspec.json.decode(order, type=ReplayOrder))
    except PenstockError as error:
        reply = ReplayReply(error=(error.code, error.message, error.hint))
    return msgspec.json.encode(reply)


def _replay(order: ReplayOrder) -> ReplayReply:
    home = Path(order.home)
    blobs = Blobs(home / "blobs")
    manifest = decode_manifest(blobs.read(order.manifest))
    program = load_program(manifest, blobs, home / "code")
    asks = msgspec.json.decode(Path(order.requests).read_bytes(), type=list[ReplayAsk])
    before = signal.signal(signal.SIGALRM, _give_up)
    # What never comes back to Python cannot be interrupted: then the process ends, and its traceback says where.
    faulthandler.dump_traceback_later(order.budget_s + _GRACE * order.longest_s, exit=True)
    try:
        _warm_up(program, order.longest_s)
        ends = time.monotonic() + order.budget_s
        found = []
        for ask in asks:
            if time.monotonic() >= ends:
                break
            found.append(_answer(program, ask, order))
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
    return ReplayReply(replayed=tuple(found), differing=tuple(environment_differences(manifest)))


def _warm_up(program: Program, longest_s: float) -> None:
    """Answer an example of each function: what is made on first use is no part of how long an answer takes."""
    for function in program.functions.values():
        for example in function.examples[:1]:
            with suppress(*_RAISED, _LateError), _limited(longest_s):
                function.answer(function.fields.parse_object(example))


def _answer(program: Program, ask: ReplayAsk, order: ReplayOrder) -> Replayed:
    try:
        function = program.function(ask.serve)
        fields, is_less = _fields(function, msgspec.json.decode(ask.fields), order.defaults.get(ask.serve, {}))
    except _UNREADABLE as error:
        reason = error.reason if isinstance(error, RequestError) else type(error).__qualname__
        return Replayed(outcome="refused", error=reason, said=str(error), is_again=True)
    first = _called(function, fields, order.longest_s)
    if first.outcome != "answered":
        again = _called(function, fields, order.longest_s)
        first = msgspec.structs.replace(first, is_again=again.outcome != "answered")
        if function.fallback is not None:
            first = _with_fallback(first, _called(function.fallback, fields, order.longest_s))
    return msgspec.structs.replace(first, left_out=is_less) if is_less else first


def _fields(function: ServeFunction, given: dict[str, Any], defaults: Mapping[str, Any]) -> tuple[msgspec.Struct, bool]:
    """Return the fields, and whether some that the function does not know were left out."""
    known = {spec.name for spec in function.fields.specs}
    unsent = {name for name in defaults if name not in known and name in given and given[name] == defaults[name]}
    less = {name: value for name, value in given.items() if name not in unsent}
    return recorded_fields(function.fields, less), bool(unsent)


def _called(function: ServeFunction, fields: msgspec.Struct, longest_s: float) -> Replayed:
    started = time.perf_counter_ns()
    try:
        with _limited(longest_s):
            answer = function.answer(fields)
    except _LateError:
        said = f"{function.name!r} had not answered after {longest_s:g} s"
        return Replayed(outcome="late", error=LATE, said=said, took_us=_since_us(started))
    except _RAISED as error:
        is_not_finite = isinstance(error, AnswerError) and error.is_not_finite
        name = NOT_FINITE if is_not_finite else type(error).__qualname__
        said = f"{user_frames(error)}{type(error).__qualname__}: {error}"
        return Replayed(outcome="failed", error=name, said=said, took_us=_since_us(started))
    took_us = _since_us(started)
    if function.fields.rows is not None:
        answer = bytes(msgspec.json.decode(answer, type=list[msgspec.Raw])[0])
    return Replayed(outcome="answered", answer=msgspec.Raw(answer), took_us=took_us)


def _with_fallback(failed: Replayed, second: Replayed) -> Replayed:
    if second.outcome != "answered":
        return failed
    took_us = failed.took_us + second.took_us
    return msgspec.structs.replace(failed, outcome="fallback", answer=second.answer, took_us=took_us)


def _since_us(started_ns: int) -> int:
    return (time.perf_counter_ns() - started_ns) // 1000


def _give_up(_number: int, _frame: object) -> None:
    raise _LateError


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Interrupt what takes longer; code that never comes back to Python is not interrupted."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
