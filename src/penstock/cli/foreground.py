"""One node, called in the foreground of a terminal with the inputs a run would give it; keeps nothing.

`python -m penstock.cli.foreground TASK_FILE`: a failure shows the user's frames and, in a terminal, opens the
debugger where it happened. A process of its own, because user code is never in the supervisor's.
"""

import pdb  # noqa: T100 - opening the debugger is what this is for
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from penstock.engine.arguments import arguments_of, function_of
from penstock.engine.perform import user_traceback
from penstock.engine.protocol import Task
from penstock.pipeline.params import bind_params
from penstock.store.lake import Lake, since

_LONGEST = 2000


def main() -> int:
    """Perform the task in the file named by the first argument; return 1 if the user's code failed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started this leaves Ctrl-C to it
    task = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Task)
    function = function_of(task)
    arguments = _dataset_words(task) if task.node.role == "dataset" else arguments_of(task)
    params = bind_params(function, task.params)
    given = ", ".join([*arguments, *(f"{name}={value!r}" for name, value in params.items())])
    print(f"{task.node.file}:{task.node.line}  {task.node.name}({given})", flush=True)
    began = time.monotonic()
    try:
        value = function(**arguments, **params)
    except Exception as error:  # noqa: BLE001 - the step boundary: what user code raises is what a person came to see
        return _examine(task, error)
    print(f"Returned {_shown(value)} after {time.monotonic() - began:.2f} s. Nothing was kept.")
    return 0


def _dataset_words(task: Task) -> dict[str, Any]:
    previous = Lake(Path(task.place.home) / "lake").table(task.pipeline, task.node.name).latest()
    words = {"since": since(previous), "now": datetime.fromisoformat(task.extra["now"])}
    return {edge.argument: words[edge.source] for edge in task.node.edges if edge.source in words}


def _examine(task: Task, error: Exception) -> int:
    print(user_traceback(task, error), file=sys.stderr, flush=True)
    if sys.stdin.isatty() and sys.stdout.isatty():
        print("The debugger stands where it failed: p NAME shows a value, u goes to the caller, q leaves.")
        pdb.post_mortem(_users(error.__traceback__, task.place.root) or error.__traceback__)
    return 1


def _users(found: TracebackType | None, root: str) -> TracebackType | None:
    """Return the traceback from the user's first frame to their last: what lies below is a library's."""
    own: list[TracebackType] = []
    while found is not None:
        path = found.tb_frame.f_code.co_filename
        if path.startswith(root) and "site-packages" not in path:
            own.append(found)
        found = found.tb_next
    if own:
        own[-1].tb_next = None
    return own[0] if own else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


if __name__ == "__main__":
    sys.exit(main())
