"""Answers stored predictions again with the release that answered it, as it was released: no faster equivalents.

Run as `python -P -m penstock.serving.processes.retrace OPTIONS`; writes JSON to standard output.
"""

import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.errors import PenstockError, StepError
from penstock.core.process import die_with_parent
from penstock.core.records import Record
from penstock.releases.environment import environment_differences
from penstock.releases.manifest import decode_manifest
from penstock.serving.processes.staying import Answer, answer_quietly
from penstock.serving.program.load import ServeFunction, load_program, user_frames
from penstock.serving.program.recorded import recorded_fields
from penstock.store.blobs import Blobs


class Asked(Record, frozen=True, kw_only=True):
    """A further question to the same function.

    Attributes:
        fields: What was asked.
        fallback: The fallback answered, so it is asked too.
    """

    fields: dict[str, Any]
    fallback: bool = False


class RetraceOptions(Record, frozen=True, kw_only=True):
    """What to answer again.

    Attributes:
        home: The project's store.
        manifest: Digest of the manifest's blob.
        serve: The serve function.
        fields: What was asked; of a function of rows, its row and its other fields in one object.
        fallback: The fallback answered, so it is asked too.
        more: Further questions, answered in the same process.
        parent: Process id of who starts it; it ends when that one does.
    """

    home: str
    manifest: str
    serve: str
    fields: dict[str, Any]
    fallback: bool = False
    more: tuple[Asked, ...] = ()
    parent: int | None = None


class Said(Record, frozen=True, kw_only=True):
    """What a function says now.

    Attributes:
        function: Its name.
        took_us: How long it took, in microseconds, after one call to warm up.
        error: Type and message of what it raised, with the user's frames; "" when it answered.
    """

    function: str
    answer: msgspec.Raw = msgspec.Raw(b"null")
    took_us: int = 0
    error: str = ""


class RetraceReply(Record, frozen=True, kw_only=True):
    """What the process says.

    Attributes:
        said: The serve function, then its fallback where that was asked.
        more: The same for each further question.
        differing: Packages that the released code imports, where another version is installed here.
        error: Code, message and hint of the error that stopped it.
    """

    said: tuple[Said, ...] = ()
    more: tuple[tuple[Said, ...], ...] = ()
    differing: tuple[str, ...] = ()
    error: tuple[str, str, str] | None = None


def main(arguments: list[str]) -> int:
    """Answer again."""
    die_with_parent(msgspec.json.decode(arguments[0], type=RetraceOptions).parent)
    answer_quietly(open_asking(), arguments[0].encode())
    return 0


def open_asking() -> Answer:
    """Return what answers again by one set of options after the other."""
    return _reply


def _reply(order: bytes) -> bytes:
    try:
        reply = _retrace(msgspec.json.decode(order, type=RetraceOptions))
    except PenstockError as error:
        reply = RetraceReply(error=(error.code, error.message, error.hint))
    return msgspec.json.encode(reply)


def _retrace(options: RetraceOptions) -> RetraceReply:
    home = Path(options.home)
    blobs = Blobs(home / "blobs")
    manifest = decode_manifest(blobs.read(options.manifest))
    program = load_program(manifest, blobs, home / "code", bind=lambda _function, _argument, value: value)
    function = program.function(options.serve)
    if function.fallback is None and (options.fallback or any(asked.fallback for asked in options.more)):
        raise StepError(f"{options.serve!r} has no fallback in this release.", hint="look at the code of the release")
    said = _answered(function, options.fields, with_fallback=options.fallback)
    more = tuple(_again(function, asked) for asked in options.more)
    return RetraceReply(said=said, more=more, differing=tuple(environment_differences(manifest)))


def _again(function: ServeFunction, asked: Asked) -> tuple[Said, ...]:
    try:
        return _answered(function, asked.fields, with_fallback=asked.fallback)
    except PenstockError as error:  # one question that cannot be put again is no reason to leave the others
        return (Said(function=function.name, error=error.message),)


def _answered(function: ServeFunction, given: dict[str, Any], *, with_fallback: bool) -> tuple[Said, ...]:
    fields = recorded_fields(function.fields, given)
    asked = [function, *([function.fallback] if with_fallback and function.fallback is not None else [])]
    return tuple(_said(one, fields) for one in asked)


def _said(function: ServeFunction, fields: msgspec.Struct) -> Said:
    try:
        function.answer(fields)
        started = time.perf_counter_ns()
        answer = function.answer(fields)
    except Exception as error:  # noqa: BLE001  # user code may raise anything; this is its boundary
        return Said(function=function.name, error=f"{user_frames(error)}{type(error).__qualname__}: {error}")
    took_us = (time.perf_counter_ns() - started) // 1000
    if function.fields.rows is not None:
        answer = bytes(msgspec.json.decode(answer, type=list[msgspec.Raw])[0])
    return Said(function=function.name, answer=msgspec.Raw(answer), took_us=took_us)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
