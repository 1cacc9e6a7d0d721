"""Answers the example requests of a release in a process like a serving worker: the proof that it can be served.

Run as `python -m penstock.serving.processes.prove HOME MANIFEST_DIGEST`; writes two lines of JSON to standard output:
the answers, then the faster equivalents that were proven. The second is missing when the process died over it.
"""

import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.errors import PenstockError
from penstock.core.process import die_with_parent, peak_bytes, reset_peak
from penstock.releases.manifest import decode_manifest
from penstock.serving.processes.staying import Answer, ProveOrder
from penstock.serving.program.load import Program, answers, load_program
from penstock.serving.program.stand_ins.release import Models, find_stand_ins
from penstock.store.blobs import Blobs

# Answers are asked again and again for this long, so that what one takes can be told; a slow one is asked once.
_MEASURED_S = 0.2
_MOST_ROUNDS = 50


def main() -> int:
    """Load the release from the blobs alone, answer, and look for faster equivalents of its models."""
    die_with_parent()
    # What user code prints must not be mixed into the answer.
    out = os.dup(1)
    os.dup2(2, 1)
    for part in _proof(Path(sys.argv[1]), sys.argv[2]):
        _say(out, part)
    return 0


def open_asking() -> Answer:
    """Return what proves one release after the other: both parts at once, as nobody can tell how this process died."""
    return _both


def _both(order: bytes) -> bytes:
    wanted = msgspec.json.decode(order, type=ProveOrder)
    return msgspec.json.encode(list(_proof(Path(wanted.home), wanted.manifest)))


def _proof(home: Path, digest: str) -> Iterator[object]:
    try:
        blobs = Blobs(home / "blobs")
        manifest = decode_manifest(blobs.read(digest))
        models = Models(blobs)
        program = load_program(manifest, blobs, home / "code", bind=models.bind)
        found: dict[str, list[Any]] = {}
        took: dict[str, dict[str, float]] = {}
        for node, examples in manifest.examples.items():
            if node in program.functions:
                found[node], took[node] = _asked(program, node, [e.fields for e in examples])
        yield {"answers": found, "asked": took}
        yield find_stand_ins(manifest, program, models, home)
    except PenstockError as error:
        yield {"error": str(error)}


def _asked(program: Program, node: str, requests: list[dict[str, Any]]) -> tuple[list[Any], dict[str, float]]:
    """Return the answers to requests, and what one of them takes.

    The least of several rounds: the first one loads what is loaded late, and other work on this machine only adds.
    """
    reset_peak()
    ends = time.monotonic() + _MEASURED_S
    least, found = math.inf, list[Any]()
    for place in range(_MOST_ROUNDS):
        began = time.process_time()
        said = answers(program, node, requests)
        least = min(least, time.process_time() - began)
        found = said if not place else found
        if time.monotonic() > ends:
            break
    return found, {"cpu_s": least / max(len(requests), 1), "peak_bytes": peak_bytes()}


def _say(out: int, what: object) -> None:
    data = msgspec.json.encode(what) + b"\n"
    while data:
        data = data[os.write(out, data) :]  # a pipe may take less than all


if __name__ == "__main__":
    sys.exit(main())
