"""Answers one request with a release in a process like a serving worker, and stores the prediction as one does.

Run as `python -P -m penstock.serving.processes.ask OPTIONS`; reads the request from standard input, writes JSON to
standard output.
"""

import os
import sys
import time
from pathlib import Path

import msgspec

from penstock.core.clock import Clock
from penstock.core.errors import PenstockError
from penstock.core.records import Record
from penstock.core.settings import ServePolicy
from penstock.releases.manifest import decode_manifest
from penstock.serving.predictions.log import LogEntry, PredictionLog
from penstock.serving.program.load import Program, load_program
from penstock.store.blobs import Blobs


class AskOptions(Record, frozen=True, kw_only=True):
    """What to ask: a serve function of a release.

    Attributes:
        home: The project's store.
        manifest: Digest of the manifest's blob.
        release: The reference to store with the prediction, "movies@3".
    """

    home: str
    manifest: str
    release: str
    function: str


class Reply(Record, frozen=True, kw_only=True):
    """What the process says: an answer, or the error that stood in its way.

    Attributes:
        kept: Whether the prediction is stored.
        error: Code, message and hint of the error; None when there is an answer.
    """

    answer: msgspec.Raw = msgspec.Raw(b"null")
    prediction_id: str = ""
    fallback: bool = False
    kept: bool = True
    error: tuple[str, str, str] | None = None


def main(arguments: list[str]) -> int:
    """Answer the request on standard input."""
    options = msgspec.json.decode(arguments[0], type=AskOptions)
    body = sys.stdin.buffer.read()
    # What user code prints must not be mixed into the answer.
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        home = Path(options.home)
        blobs = Blobs(home / "blobs")
        manifest = decode_manifest(blobs.read(options.manifest))
        reply = _ask(load_program(manifest, blobs, home / "code"), manifest.policy.serve, options, body)
    except PenstockError as error:
        reply = Reply(error=(error.code, error.message, error.hint))
    os.write(out, msgspec.json.encode(reply))
    return 0


def _ask(program: Program, policy: ServePolicy, options: AskOptions, body: bytes) -> Reply:
    function = program.function(options.function)
    clock = Clock()
    started = time.perf_counter_ns()
    fields = function.fields.parse(body)
    parsed = time.perf_counter_ns()
    at = clock.now()
    found = program.answer(options.function, body)
    done = time.perf_counter_ns()
    worker = f"ask-{os.getpid()}"
    log = PredictionLog(Path(options.home), program.pipeline, worker=worker, clock=clock, redact=policy.redact)
    rows = function.fields.rows
    rest = {name: getattr(fields, name) for name in fields.__struct_fields__ if name != rows}
    try:
        entry = LogEntry(
            id=log.new_id(at),
            at=at,
            release=options.release,
            serve=function.name,
            fields=msgspec.Raw(msgspec.json.encode(rest)),
            answer=msgspec.Raw(found.json),
            timings={"parse_us": (parsed - started) // 1000, "answer_us": (done - parsed) // 1000},
            fallback=found.fallback,
            error=found.error,
            key="" if function.key is None else str(getattr(fields, function.key)),
            count=1 if rows is None else len(getattr(fields, rows)),
            kind="json-rows" if body.lstrip()[:1] == b"[" else "json",
        )
        # Rows are kept as they were sent, as a serving worker does.
        is_kept = log.append([entry], [None if rows is None else body])
    finally:
        log.close()
    return Reply(answer=msgspec.Raw(found.json), prediction_id=entry.id, fallback=found.fallback, kept=is_kept)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
