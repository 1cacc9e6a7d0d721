"""Asks a process that runs user code, so that this one never does: an order in, one JSON document out."""

from typing import TypeVar

import msgspec

from penstock.core.errors import PenstockError
from penstock.core.records import Record
from penstock.project.workspace import Workspace
from penstock.serving.processes.workers import Status, refusal_error

T = TypeVar("T")


def ask_process(module: str, order: Record, reply: type[T], workspace: Workspace, *, code: str = "") -> T:
    """Return what a module of the serving processes says.

    Args:
        module: Its dotted name.
        order: Its order.
        reply: The type of its reply.
        workspace: The project.
        code: The code snapshot that it imports; where it is not said, a process of its own is asked.

    Raises:
        StepError: It ended without a word.
    """
    return msgspec.json.decode(workspace.crew.ask(module, order, root=workspace.settings.root, code=code), type=reply)


def refused(code: str, message: str, hint: str) -> PenstockError:
    """Return the error that a process said, of its own class."""
    return refusal_error(Status(state="refused", code=code, message=message, hint=hint))
