"""Asks a process that runs user code, so that this one never does: options in, one JSON document out."""

import subprocess
import sys
from typing import TypeVar

import msgspec

from penstock.core.errors import PenstockError, StepError
from penstock.core.records import Record
from penstock.project.workspace import Workspace
from penstock.serving.processes.workers import Status, refusal_error

T = TypeVar("T")


def ask_process(module: str, options: Record, reply: type[T], workspace: Workspace) -> T:
    """Return what a module says that is run as a program.

    Raises:
        StepError: It ended without a word.
    """
    # -P: the working directory must not shadow the snapshot. -B: the snapshot gets no compiled files.
    done = subprocess.run(
        [sys.executable, "-P", "-B", "-m", module, msgspec.json.encode(options).decode()],
        cwd=workspace.settings.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0:
        raise StepError(f"The process of {module!r} ended with {done.returncode}.", hint="what it said stands above")
    return msgspec.json.decode(done.stdout, type=reply)


def refused(code: str, message: str, hint: str) -> PenstockError:
    """Return the error that a process said, of its own class."""
    return refusal_error(Status(state="refused", code=code, message=message, hint=hint))
