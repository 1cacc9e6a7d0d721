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
        program = load_program(decode_manifest(blobs.read(options.manifest)), blobs, home / "code")
        reply = _ask(program, options, body)
    except PenstockError as error:
        reply = Reply(error=(error.code, error.message, error.hint))
    os.write(out, msgspec.json.encode(reply))
    return 0


def _ask(program: Program, options: AskOptions, body: bytes) -> Reply:
    function = program.function(options.function)
    clock = Clock()
    started = time.perf_counter_ns()
    fields = function.fields.parse(body)
    parsed = time.perf_counter_ns()
    at = clock.now()
    found = program.answer(options.function, body)
    done = time.perf_counter_ns()
    log = PredictionLog(Path(options.home), program.pipeline, worker=f"ask-{os.getpid()}", clock=clock)
    try:
        prediction_id = log.new_id(at)
        is_kept = log.append(
            LogEntry(
                id=prediction_id,
                at=at,
                release=options.release,
                serve=function.name,
                # Rows are kept as they were sent, as a serving worker does.
                fields=msgspec.Raw(body if function.fields.rows is not None else msgspec.json.encode(fields)),
                answer=msgspec.Raw(found.json),
                timings={"parse_us": (parsed - started) // 1000, "answer_us": (done - parsed) // 1000},
                fallback=found.fallback,
                error=found.error,
            )
        )
    finally:
        log.close()
    return Reply(answer=msgspec.Raw(found.json), prediction_id=prediction_id, fallback=found.fallback, kept=is_kept)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
