"""Answers the example requests of a release in a process like a serving worker: the proof that it can be served.

Run as `python -m penstock.serving.processes.prove HOME MANIFEST_DIGEST`; writes JSON to standard output.
"""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from penstock.core.errors import PenstockError
from penstock.core.process import die_with_parent
from penstock.releases.manifest import decode_manifest
from penstock.serving.program.load import answers, load_program
from penstock.store.blobs import Blobs


def main() -> int:
    """Load the release from the blobs alone and answer."""
    die_with_parent()
    home, digest = Path(sys.argv[1]), sys.argv[2]
    # What user code prints must not be mixed into the answer.
    out = os.dup(1)
    os.dup2(2, 1)
    envelope: dict[str, Any]
    try:
        blobs = Blobs(home / "blobs")
        manifest = decode_manifest(blobs.read(digest))
        program = load_program(manifest, blobs, home / "code")
        found = {
            node: answers(program, node, [e.fields for e in examples])
            for node, examples in manifest.examples.items()
            if node in program.functions
        }
        envelope = {"answers": found}
    except PenstockError as error:
        envelope = {"error": str(error)}
    os.write(out, msgspec.json.encode(envelope))
    return 0


if __name__ == "__main__":
    sys.exit(main())
