"""`penstock serve` as a person starts it, for the tests that ask it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from project_folder import COMMAND, Project


@contextmanager
def serving(
    project: Project, *words: str, stderr: int = subprocess.DEVNULL
) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """Run `penstock serve --json` until the block ends; give the process and what it said when it was ready."""
    command = [*COMMAND, "serve", "--port", "0", "--json", *words]
    with subprocess.Popen(command, cwd=project.root, stdout=subprocess.PIPE, stderr=stderr, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()
